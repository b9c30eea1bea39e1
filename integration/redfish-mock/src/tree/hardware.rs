//! What the machine is made of: the same for all, but for the serial numbers and MAC addresses.

use serde_json::{Value, json};

use super::collection;
use crate::bmc::Bmc;

/// Memory in GiB.
pub(crate) const MEMORY_GIB: u64 = 128;
/// Model of the processors.
pub(crate) const PROCESSOR: &str = "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz";
const MODULES: u64 = 4;
const GB: u64 = 1_000_000_000;

/// What is at `rest` below the system; `path` is the whole path.
pub(crate) fn get(bmc: &Bmc, path: &str, rest: &[&str]) -> Option<Value> {
    let ok = || json!({"State": "Enabled", "Health": "OK"});
    Some(match rest {
        ["Processors"] => collection(path, "Processors", ["CPU.1".to_owned(), "CPU.2".to_owned()]),
        ["Processors", id @ ("CPU.1" | "CPU.2")] => json!({
            "@odata.type": "#Processor.v1_11_0.Processor", "Id": id, "Name": id, "Socket": id, "ProcessorType": "CPU",
            "ProcessorArchitecture": "x86", "InstructionSet": "x86-64", "Manufacturer": "Intel", "Model": PROCESSOR,
            "MaxSpeedMHz": 3200, "TotalCores": 16, "TotalThreads": 32, "Status": ok(),
        }),
        ["Memory"] => collection(path, "Memory", (1..=MODULES).map(|at| format!("DIMM.{at}"))),
        ["Memory", id] if id.starts_with("DIMM.") => json!({
            "@odata.type": "#Memory.v1_11_0.Memory", "Id": id, "Name": id, "MemoryDeviceType": "DDR4",
            "CapacityMiB": MEMORY_GIB * 1024 / MODULES, "Status": ok(),
        }),
        ["EthernetInterfaces"] => {
            let ids = (1..=bmc.options.macs.len()).map(|at| format!("NIC.{at}"));
            // Vendors list ports that have no address.
            collection(
                path,
                "Ethernet Interfaces",
                ids.chain(["NIC.Spare".to_owned()]),
            )
        }
        ["EthernetInterfaces", "NIC.Spare"] => json!({
            "@odata.type": "#EthernetInterface.v1_6_0.EthernetInterface", "Id": "NIC.Spare", "Name": "Spare", "MACAddress": "",
        }),
        ["EthernetInterfaces", id] => {
            let at: usize = id.strip_prefix("NIC.")?.parse().ok()?;
            let mac = bmc.options.macs.get(at.checked_sub(1)?)?;
            json!({
                "@odata.type": "#EthernetInterface.v1_6_0.EthernetInterface", "Id": id, "Name": format!("Port {at}"),
                "MACAddress": mac.to_uppercase(), "PermanentMACAddress": mac.to_uppercase(), "SpeedMbps": 25_000,
                "LinkStatus": if at == 1 { "LinkUp" } else { "LinkDown" }, "Status": ok(),
            })
        }
        ["Storage"] => collection(path, "Storage", ["1".to_owned()]),
        ["Storage", "1"] => json!({
            "@odata.type": "#Storage.v1_10_0.Storage", "Id": "1", "Name": "Controller",
            "StorageControllers": [{"MemberId": "0", "Name": "Controller", "SpeedGbps": 12, "Status": ok()}],
            "Drives": [{"@odata.id": format!("{path}/Drives/0")}, {"@odata.id": format!("{path}/Drives/1")}],
            "Volumes": {"@odata.id": format!("{path}/Volumes")}, "Status": ok(),
        }),
        ["Storage", "1", "Volumes"] => collection(path, "Volumes", []),
        ["Storage", "1", "Drives", id @ ("0" | "1")] => {
            let (kind, protocol, bytes) = if *id == "0" {
                ("SSD", "NVMe", 480 * GB)
            } else {
                ("HDD", "SAS", 4000 * GB)
            };
            let mut drive = json!({
                "@odata.type": "#Drive.v1_12_0.Drive", "Id": id, "Name": format!("Drive {id}"), "MediaType": kind, "Protocol": protocol,
                "CapacityBytes": bytes, "Manufacturer": "Contoso", "Model": format!("{kind}-{}", bytes / GB),
                "SerialNumber": format!("{}D{id}", bmc.options.serial),
                "Identifiers": [{"DurableNameFormat": "NAA", "DurableName": format!("5002538{id}{}", &bmc.options.uuid.simple().to_string()[..8])}],
            });
            if !bmc.personality.drives_without_status {
                drive["Status"] = ok();
            }
            drive
        }
        ["SimpleStorage"] => collection(path, "Simple Storage", ["1".to_owned()]),
        ["SimpleStorage", "1"] => json!({
            "@odata.type": "#SimpleStorage.v1_3_1.SimpleStorage", "Id": "1", "Name": "Simple Storage",
            "Devices": [
                {"Name": "Drive 0", "Manufacturer": "Contoso", "Model": "SSD-480", "CapacityBytes": 480 * GB, "Status": ok()},
                {"Name": "Drive 1", "Manufacturer": "Contoso", "Model": "HDD-4000", "CapacityBytes": 4000 * GB, "Status": ok()},
            ],
        }),
        _ => return None,
    })
}
