//! Ironic's inventory as hardware details. Pure.

use catamaran_api::metal3::{
    BiosDetails, Cpu, Firmware, HardwareDetails, Nic, Storage, SystemVendor,
};
use serde_json::Value;

/// The details; none where the inventory says nothing that is understood.
pub(super) fn details(inventory: &Value) -> Option<HardwareDetails> {
    let vendor = &inventory["system_vendor"];
    let system = SystemVendor {
        manufacturer: text(&vendor["manufacturer"]),
        product_name: text(&vendor["product_name"]),
        serial_number: text(&vendor["serial_number"]),
    };
    let bios = BiosDetails {
        vendor: text(&vendor["firmware"]["vendor"]),
        version: text(&vendor["firmware"]["version"]),
        date: text(&vendor["firmware"]["build_date"]),
    };
    let cpu = cpu(&inventory["cpu"]);
    let memory = &inventory["memory"];
    let mebibytes = memory["physical_mb"].as_i64();
    let boot = text(&inventory["boot"]["pxe_interface"]);
    let details = HardwareDetails {
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        firmware: Some(bios)
            .filter(|bios| *bios != BiosDetails::default())
            .map(|bios| Firmware { bios: Some(bios) }),
        hostname: text(&inventory["hostname"]),
        nics: all(&inventory["interfaces"], |one| nic(one, boot.as_deref())),
        ram_mebibytes: mebibytes.or_else(|| Some(memory["total"].as_i64()? >> 20)),
        storage: all(&inventory["disks"], disk),
        system_vendor: Some(system).filter(|system| *system != SystemVendor::default()),
    };
    (details != HardwareDetails::default()).then_some(details)
}

fn text(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn all<T>(list: &Value, one: impl Fn(&Value) -> T) -> Vec<T> {
    list.as_array().into_iter().flatten().map(one).collect()
}

fn cpu(cpu: &Value) -> Cpu {
    let frequency = &cpu["frequency"];
    Cpu {
        arch: text(&cpu["architecture"]),
        clock_megahertz: frequency
            .as_f64()
            .or_else(|| frequency.as_str()?.parse().ok()),
        count: cpu["count"].as_i64(),
        flags: all(&cpu["flags"], |flag| text(flag).unwrap_or_default()),
        model: text(&cpu["model_name"]),
    }
}

fn nic(nic: &Value, boot: Option<&str>) -> Nic {
    let mac = text(&nic["mac_address"]).map(|mac| mac.to_lowercase());
    // PXE firmware says it with dashes, and a number before it.
    let boots = mac.as_deref().zip(boot).map(|(mac, boot)| {
        let boot = boot.to_lowercase().replace('-', ":");
        boot.ends_with(mac)
    });
    Nic {
        ip: text(&nic["ipv4_address"]).or_else(|| text(&nic["ipv6_address"])),
        mac,
        name: text(&nic["name"]),
        pci_address: text(&nic["pci_address"]),
        pxe: boots.filter(|boots| *boots),
        speed_gbps: nic["speed_mbps"].as_i64().map(|speed| speed / 1000),
        ..Nic::default()
    }
}

fn disk(disk: &Value) -> Storage {
    let rotational = disk["rotational"].as_bool();
    let name = text(&disk["name"]);
    let by_path = text(&disk["by_path"]);
    let nvme = name.as_deref().is_some_and(|name| name.contains("nvme"));
    let kind = match rotational {
        Some(true) => Some("HDD"),
        Some(false) if nvme => Some("NVME"),
        Some(false) => Some("SSD"),
        None => None,
    };
    Storage {
        // The name that stays is the first, as our own inspection tells it.
        alternate_names: by_path
            .iter()
            .zip(&name)
            .map(|(_, name)| name.clone())
            .collect(),
        name: by_path.or(name),
        hctl: text(&disk["hctl"]),
        model: text(&disk["model"]),
        rotational,
        serial_number: text(&disk["serial"]),
        size_bytes: disk["size"].as_i64(),
        type_: kind.map(str::to_owned),
        vendor: text(&disk["vendor"]),
        wwn: text(&disk["wwn"]),
        wwn_vendor_extension: text(&disk["wwn_vendor_extension"]),
        wwn_with_extension: text(&disk["wwn_with_extension"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_inventory_keeps_what_both_know() {
        let details = details(&json!({
            "interfaces": [{"name": "eno1", "mac_address": "02:00:00:00:00:0A", "speed_mbps": 25000, "ipv4_address": "192.0.2.5"}],
            "boot": {"pxe_interface": "01-02-00-00-00-00-0a"},
            "cpu": {"architecture": "x86_64", "count": 64, "frequency": "2400.0", "model_name": "Xeon"},
            "memory": {"physical_mb": 1024, "total": 1},
            "disks": [{"name": "/dev/nvme0n1", "size": 480, "rotational": false, "by_path": "/dev/disk/by-path/x", "serial": "S"}],
            "system_vendor": {"product_name": "R650", "manufacturer": "Dell", "firmware": {"version": "1"}},
        }))
        .unwrap();
        assert_eq!(details.ram_mebibytes, Some(1024));
        let nic = &details.nics[0];
        assert_eq!(
            (nic.mac.as_deref(), nic.pxe),
            (Some("02:00:00:00:00:0a"), Some(true))
        );
        assert_eq!(nic.speed_gbps, Some(25));
        let disk = &details.storage[0];
        assert_eq!(disk.name.as_deref(), Some("/dev/disk/by-path/x"));
        assert_eq!(disk.type_.as_deref(), Some("NVME"));
        assert_eq!(details.cpu.unwrap().clock_megahertz, Some(2400.0));
    }

    #[test]
    fn an_inventory_that_says_nothing_is_none() {
        assert_eq!(details(&json!({})), None);
    }
}
