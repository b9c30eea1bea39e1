//! BIOS settings and the registry that describes them.

use serde_json::{Value, json};

use super::{ROOT, collection};
use crate::bmc::Bmc;

/// Name of the registry.
const REGISTRY: &str = "BiosAttributeRegistry.v1_0_0";

/// What is at `rest` below `Bios`; `path` is the whole path.
pub(crate) fn bios(bmc: &Bmc, path: &str, rest: &[&str]) -> Option<Value> {
    if bmc.personality.bios.is_empty() {
        return None;
    }
    let state = bmc.state();
    Some(match rest {
        [] => json!({
            "@odata.type": "#Bios.v1_2_0.Bios", "Id": "Bios", "Name": "BIOS settings", "AttributeRegistry": REGISTRY, "Attributes": state.bios,
            "Actions": {"#Bios.ResetBios": {"target": format!("{path}/Actions/Bios.ResetBios")}},
            "@Redfish.Settings": {"@odata.type": "#Settings.v1_3_0.Settings", "SupportedApplyTimes": ["OnReset"],
                "SettingsObject": {"@odata.id": format!("{path}/Settings")}},
        }),
        ["Settings"] => json!({
            "@odata.type": "#Bios.v1_2_0.Bios", "Id": "Settings", "Name": "Pending BIOS settings", "AttributeRegistry": REGISTRY,
            "Attributes": state.bios_pending,
        }),
        _ => return None,
    })
}

/// Registries: those of BIOS attributes only.
pub(crate) fn registries(bmc: &Bmc, path: &str, rest: &[&str]) -> Option<Value> {
    let file = format!("{ROOT}/Registries/{REGISTRY}/{REGISTRY}.json");
    Some(match rest {
        [] => collection(path, "Registries", [REGISTRY.to_owned()]),
        [name] if *name == REGISTRY => json!({
            "@odata.type": "#MessageRegistryFile.v1_1_0.MessageRegistryFile", "Id": REGISTRY, "Name": "BIOS attributes", "Registry": REGISTRY,
            "Languages": ["en"], "Location": [{"Language": "en", "Uri": file}],
        }),
        [name, _] if *name == REGISTRY => json!({
            "@odata.type": "#AttributeRegistry.v1_3_2.AttributeRegistry", "Id": REGISTRY, "Name": "BIOS attributes", "Language": "en",
            "RegistryEntries": {"Attributes": bmc.personality.bios.iter().map(|(name, value)| entry(name, value)).collect::<Vec<_>>()},
        }),
        _ => return None,
    })
}

/// Describes an attribute, going by what its value is at first.
fn entry(name: &str, value: &Value) -> Value {
    let mut entry = json!({"AttributeName": name, "ReadOnly": false, "ResetRequired": true});
    match value {
        _ if name.contains("Password") => entry["Type"] = json!("Password"),
        Value::Bool(_) => entry["Type"] = json!("Boolean"),
        Value::Number(_) => {
            entry["Type"] = json!("Integer");
            entry["LowerBound"] = json!(0);
            entry["UpperBound"] = json!(64);
        }
        Value::String(text) if !text.is_empty() => {
            entry["Type"] = json!("Enumeration");
            let other = if text.to_lowercase().starts_with("uefi") {
                "Bios"
            } else {
                "Disabled"
            };
            entry["Value"] = json!([{"ValueName": text}, {"ValueName": other}]);
        }
        _ => {
            entry["Type"] = json!("String");
            entry["MaxLength"] = json!(63);
        }
    }
    entry
}

/// Whether a value may be set.
pub(crate) fn allows(bmc: &Bmc, name: &str, value: &Value) -> bool {
    let Some(first) = bmc.personality.bios.get(name) else {
        return false;
    };
    let entry = entry(name, first);
    match entry["Type"].as_str() {
        Some("Boolean") => value.is_boolean(),
        Some("Integer") => value
            .as_i64()
            .is_some_and(|value| (0..=64).contains(&value)),
        Some("Enumeration") => {
            let values = entry["Value"].as_array();
            values
                .into_iter()
                .flatten()
                .any(|allowed| allowed["ValueName"] == *value)
        }
        _ => value.as_str().is_some_and(|text| text.len() <= 63),
    }
}
