//! From what a BMC knows of its host to the wire types. Pure.

use catamaran_api::metal3::{
    BiosDetails, Cpu, Firmware, HardwareDetails, Nic, Storage, SystemVendor,
};
use catamaran_redfish::{DiskKind, Inventory};
use serde_json::{Value, json};

/// The wire's form of an inventory.
pub(crate) fn details(found: &Inventory) -> HardwareDetails {
    let number = |value: u64| i64::try_from(value).ok();
    let processors = &found.processors;
    HardwareDetails {
        cpu: Some(Cpu {
            arch: processors.arch.clone(),
            // Clock rates are far below what a double holds exactly.
            clock_megahertz: processors
                .megahertz
                .and_then(|mhz| u32::try_from(mhz).ok())
                .map(f64::from),
            count: processors.threads.or(processors.cores).and_then(number),
            flags: Vec::new(),
            model: processors.model.clone(),
        }),
        firmware: Some(Firmware {
            bios: Some(BiosDetails {
                date: None,
                vendor: None,
                version: found.bios_version.clone(),
            }),
        }),
        hostname: found.hostname.clone(),
        nics: found.nics.iter().map(nic).collect(),
        ram_mebibytes: found.memory_mib.and_then(number),
        storage: found.disks.iter().map(disk).collect(),
        system_vendor: Some(SystemVendor {
            manufacturer: found.identity.manufacturer.clone(),
            product_name: found.identity.model.clone(),
            serial_number: found.identity.serial.clone(),
        }),
    }
}

/// The interface to boot from: the first that has a link, or else the first.
pub(crate) fn boot_mac(found: &Inventory) -> Option<String> {
    let linked = found.nics.iter().find(|nic| nic.link == Some(true));
    linked.or(found.nics.first()).map(|nic| nic.mac.clone())
}

/// The same from what a deploy agent has told: the one by which it reaches the controller.
pub(crate) fn agents_mac(details: &HardwareDetails) -> Option<String> {
    let booted = details.nics.iter().find(|nic| nic.pxe == Some(true));
    booted.or(details.nics.first())?.mac.clone()
}

/// An inventory as somebody has written it: nothing in it may be overlooked, and it must say something.
pub(crate) fn given(text: &str) -> Result<HardwareDetails, String> {
    let given: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let details: HardwareDetails =
        serde_json::from_value(given.clone()).map_err(|error| error.to_string())?;
    if details == HardwareDetails::default() {
        return Err("it says nothing".to_owned());
    }
    let read = serde_json::to_value(&details).map_err(|error| error.to_string())?;
    match unread(&given, &read, "") {
        Some(path) => Err(format!("field {path} is not known")),
        None => Ok(details),
    }
}

/// The first field that was given and is not among what was read.
fn unread(given: &Value, read: &Value, path: &str) -> Option<String> {
    match (given, read) {
        (Value::Object(given), read) => given.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            let empty = matches!(value, Value::Null) || value == &json!([]);
            match read.get(name) {
                None if empty => None,
                None => Some(path.trim_start_matches('.').to_owned()),
                Some(read) => unread(value, read, &path),
            }
        }),
        (Value::Array(given), Value::Array(read)) => {
            let mut pairs = given.iter().zip(read).enumerate();
            pairs.find_map(|(at, (given, read))| unread(given, read, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

fn nic(nic: &catamaran_redfish::Nic) -> Nic {
    Nic {
        mac: Some(nic.mac.clone()),
        name: Some(nic.name.clone()),
        speed_gbps: nic
            .speed_mbps
            .and_then(|mbps| i64::try_from(mbps / 1000).ok()),
        vlan_id: nic
            .vlan
            .and_then(|vlan| i32::try_from(vlan).ok())
            .filter(|vlan| *vlan <= 4094),
        ..Nic::default()
    }
}

fn disk(disk: &catamaran_redfish::Disk) -> Storage {
    let kind = disk.kind.map(|kind| match kind {
        DiskKind::Hdd => "HDD",
        DiskKind::Ssd => "SSD",
        DiskKind::Nvme => "NVME",
    });
    Storage {
        model: disk.model.clone(),
        name: Some(disk.name.clone()),
        rotational: disk.kind.map(|kind| kind == DiskKind::Hdd),
        serial_number: disk.serial.clone(),
        size_bytes: disk.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        type_: kind.map(str::to_owned),
        vendor: disk.vendor.clone(),
        wwn: disk.wwn.clone(),
        ..Storage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::given;

    #[test]
    fn a_given_inventory_says_something_and_nothing_of_it_is_overlooked() {
        assert_eq!(
            given(r#"{"ramMebibytes": 7}"#).unwrap().ram_mebibytes,
            Some(7)
        );
        for (text, said) in [
            ("{}", "says nothing"),
            ("[", "EOF"),
            (
                r#"{"ramMebibyte": 7, "hostname": "a"}"#,
                "field ramMebibyte ",
            ),
            (
                r#"{"nics": [{"mac": "a"}, {"mac": "b", "speedGbs": 1}]}"#,
                "field nics[1].speedGbs ",
            ),
        ] {
            let error = given(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
