//! From what a BMC knows of its host to the wire types. Pure.

use catamaran_api::metal3::{
    BiosDetails, Cpu, Firmware, HardwareDetails, Nic, Storage, SystemVendor,
};
use catamaran_redfish::{DiskKind, Inventory};

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
