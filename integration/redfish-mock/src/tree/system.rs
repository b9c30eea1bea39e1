//! The system, its secure boot, and virtual media.

use serde_json::{Value, json};

use super::{ROOT, collection, hardware, log, settings};
use crate::bmc::Bmc;

/// What is at `rest` below the system; `path` is the whole path.
pub(crate) fn get(bmc: &Bmc, path: &str, rest: &[&str]) -> Option<Value> {
    Some(match rest {
        [] => system(bmc, path),
        ["ResetActionInfo"] if bmc.personality.reset.action_info => json!({
            "@odata.type": "#ActionInfo.v1_1_2.ActionInfo", "Id": "ResetActionInfo", "Name": "Reset Action Info",
            "Parameters": [{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": bmc.personality.reset.values}],
        }),
        ["Settings"] if bmc.personality.boot.by_settings => json!({
            "@odata.type": "#ComputerSystem.v1_15_0.ComputerSystem", "Id": "Settings", "Name": "Pending settings", "Boot": boot(bmc),
        }),
        ["SecureBoot"] => {
            let state = bmc.state();
            json!({
                "@odata.type": "#SecureBoot.v1_1_0.SecureBoot", "Id": "SecureBoot", "Name": "Secure Boot",
                "SecureBootCurrentBoot": if state.secure_boot { "Enabled" } else { "Disabled" },
                "SecureBootEnable": state.secure_boot_pending, "SecureBootMode": "UserMode",
                "Actions": {"#SecureBoot.ResetKeys": {"target": format!("{path}/Actions/SecureBoot.ResetKeys"),
                    "ResetKeysType@Redfish.AllowableValues": ["ResetAllKeysToDefault", "DeleteAllKeys", "DeletePK"]}},
            })
        }
        ["VirtualMedia", rest @ ..] if bmc.personality.media.at_system => media(bmc, path, rest)?,
        ["Bios", rest @ ..] => settings::bios(bmc, path, rest)?,
        _ => hardware::get(bmc, path, rest)?,
    })
}

fn system(bmc: &Bmc, path: &str) -> Value {
    let personality = &bmc.personality;
    let (ids, options) = (&personality.ids, &bmc.options);
    let link = |name: &str| json!({"@odata.id": format!("{path}/{name}")});
    let mut reset = json!({"target": format!("{path}/Actions/ComputerSystem.Reset")});
    if personality.reset.action_info {
        reset["@Redfish.ActionInfo"] = json!(format!("{path}/ResetActionInfo"));
    } else {
        reset["ResetType@Redfish.AllowableValues"] = json!(personality.reset.values);
    }
    let (power, health) = {
        let state = bmc.state();
        (state.said_power(), state.health.clone())
    };
    let memory = if personality.memory_by_modules {
        Value::Null
    } else {
        json!(hardware::MEMORY_GIB)
    };
    let mut body = json!({
        "@odata.type": "#ComputerSystem.v1_15_0.ComputerSystem", "Id": ids.system, "Name": options.name, "SystemType": "Physical",
        "Manufacturer": personality.manufacturer, "Model": personality.model, "SerialNumber": options.serial,
        "UUID": options.uuid.to_string(), "BiosVersion": personality.bios_version, "HostName": "", "IndicatorLED": "Off",
        "PowerState": power, "Status": {"State": "Enabled", "Health": health, "HealthRollup": health},
        "ProcessorSummary": {"Count": 2, "Model": hardware::PROCESSOR, "LogicalProcessorCount": 64},
        "MemorySummary": {"TotalSystemMemoryGiB": memory, "Status": {"State": "Enabled", "Health": "OK"}},
        "Boot": boot(bmc),
        "Processors": link("Processors"), "Memory": link("Memory"), "EthernetInterfaces": link("EthernetInterfaces"),
        "Storage": link("Storage"), "SimpleStorage": link("SimpleStorage"), "SecureBoot": link("SecureBoot"),
        "Actions": {"#ComputerSystem.Reset": reset},
        "Links": {
            "ManagedBy": [{"@odata.id": format!("{ROOT}/Managers/{}", ids.manager)}],
            "Chassis": [{"@odata.id": format!("{ROOT}/Chassis/{}", ids.chassis)}],
        },
    });
    if !personality.bios.is_empty() {
        body["Bios"] = link("Bios");
    }
    if personality.media.at_system {
        body["VirtualMedia"] = link("VirtualMedia");
    }
    if log::at_system(bmc) {
        body["LogServices"] = link("LogServices");
    }
    if personality.boot.by_settings {
        body["@Redfish.Settings"] =
            json!({"@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": link("Settings")});
    }
    body
}

fn boot(bmc: &Bmc) -> Value {
    let rules = &bmc.personality.boot;
    let state = bmc.state();
    let mut boot = json!({
        "BootSourceOverrideTarget": state.boot_target, "BootSourceOverrideEnabled": state.boot_enabled,
        "BootSourceOverrideTarget@Redfish.AllowableValues": rules.targets,
    });
    if rules.mode {
        boot["BootSourceOverrideMode"] = json!(state.boot_mode);
        boot["BootSourceOverrideMode@Redfish.AllowableValues"] = json!(["UEFI", "Legacy"]);
    }
    boot
}

/// Virtual media: the collection, or one slot.
pub(crate) fn media(bmc: &Bmc, path: &str, rest: &[&str]) -> Option<Value> {
    let rules = &bmc.personality.media;
    let [id] = rest else {
        let ids = rules.slots.iter().map(|slot| slot.id.clone());
        return rest
            .is_empty()
            .then(|| collection(path, "Virtual Media", ids));
    };
    let at = rules.slots.iter().position(|slot| slot.id == *id)?;
    let state = bmc.state();
    let (slot, rules) = (&state.slots[at], &rules.slots[at]);
    let mut body = json!({
        "@odata.type": "#VirtualMedia.v1_3_2.VirtualMedia", "Id": id, "Name": "Virtual Media", "MediaTypes": rules.types,
        "Image": slot.image, "ImageName": slot.image.as_deref().and_then(|image| image.rsplit('/').next()),
        "Inserted": slot.image.is_some(), "WriteProtected": true,
        "ConnectedVia": if slot.image.is_some() { "URI" } else { "NotConnected" },
    });
    if !rules.by_patch {
        let action = |name: &str| json!({"target": format!("{path}/Actions/VirtualMedia.{name}")});
        body["Actions"] = json!({"#VirtualMedia.InsertMedia": action("InsertMedia"), "#VirtualMedia.EjectMedia": action("EjectMedia")});
    }
    Some(body)
}
