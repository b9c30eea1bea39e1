//! Disks, and their join with volumes.

use catamaran_api::{Devices, VirtualMachineInstanceSpec};

use crate::defaults;
use crate::disk::{Bus, CacheMode, Disk, DiskTarget, ErrorPolicy, IoMode};
use crate::field::{Fault, Faults, FieldPath};
use crate::names;

const BUSES: [(&str, Bus); 4] = [
    ("virtio", Bus::Virtio),
    ("sata", Bus::Sata),
    ("scsi", Bus::Scsi),
    ("usb", Bus::Usb),
];
const CACHES: [(&str, CacheMode); 3] = [
    ("none", CacheMode::None),
    ("writethrough", CacheMode::Writethrough),
    ("writeback", CacheMode::Writeback),
];
const IO_MODES: [(&str, IoMode); 3] = [
    ("native", IoMode::Native),
    ("threads", IoMode::Threads),
    ("io_uring", IoMode::IoUring),
];
const POLICIES: [(&str, ErrorPolicy); 4] = [
    ("stop", ErrorPolicy::Stop),
    ("ignore", ErrorPolicy::Ignore),
    ("report", ErrorPolicy::Report),
    ("enospace", ErrorPolicy::Enospace),
];

/// All disks, in the order of the manifest.
pub(super) fn disks(devices: &Devices, at: &FieldPath, faults: &mut Faults) -> Vec<Disk> {
    devices
        .disks
        .iter()
        .enumerate()
        .map(|(i, d)| disk(d, &at.child("disks").index(i), faults))
        .collect()
}

fn disk(disk: &catamaran_api::Disk, path: &FieldPath, faults: &mut Faults) -> Disk {
    let target = target(disk, path, faults);
    let cache = faults.word(&path.child("cache"), disk.cache.as_deref(), &CACHES);
    let io = faults.word(
        &path.child("io"),
        disk.io.as_deref().filter(|io| *io != "default"),
        &IO_MODES,
    );
    if io == Some(IoMode::Native)
        && matches!(cache, Some(CacheMode::Writethrough | CacheMode::Writeback))
    {
        faults.invalid(&path.child("io"), "native", "requires cache none");
    }
    if disk.dedicated_io_thread == Some(true) && target.bus() != Bus::Virtio {
        faults.invalid(
            &path.child("dedicatedIOThread"),
            true,
            "IOThreads are only supported for disks on a virtio bus",
        );
    }
    if let Some(serial) = disk.serial.as_ref().filter(|s| {
        s.len() > 256
            || !s
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
    }) {
        faults.invalid(&path.child("serial"), serial, "must be made up of the following characters [A-Za-z0-9_.+-], if specified, and at most 256 of them");
    }
    let pci_address = disk.disk.as_ref().and_then(|d| d.pci_address.clone());
    if let Some(address) = &pci_address {
        let path = path.child("disk").child("pciAddress");
        if target.bus() != Bus::Virtio {
            faults.invalid(
                &path,
                address,
                "disks that have a PCI address must be on the virtio bus",
            );
        } else if !names::is_pci_address(address) {
            faults.invalid(&path, address, "must be a PCI address such as 0000:81:01.0");
        }
    }
    if let Some(tag) = disk
        .tag
        .as_ref()
        .filter(|t| t.is_empty() || t.chars().any(char::is_control))
    {
        faults.invalid(&path.child("tag"), tag, "must be a line of text");
    }
    Disk {
        name: disk.name.clone(),
        target,
        serial: disk.serial.clone().filter(|s| !s.is_empty()),
        boot_order: disk.boot_order,
        cache,
        io,
        error_policy: faults.word(
            &path.child("errorPolicy"),
            disk.error_policy.as_deref(),
            &POLICIES,
        ),
        dedicated_io_thread: disk.dedicated_io_thread.unwrap_or(false),
        shareable: disk.shareable.unwrap_or(false),
        block_size: block_size(disk, &path.child("blockSize"), faults),
        tag: disk.tag.clone(),
        pci_address,
    }
}

fn target(disk: &catamaran_api::Disk, path: &FieldPath, faults: &mut Faults) -> DiskTarget {
    if disk.disk.is_some() && disk.cdrom.is_some() {
        faults.push(
            &path.child("cdrom"),
            Fault::Forbidden("disk and cdrom are mutually exclusive".to_owned()),
        );
    }
    let Some(cdrom) = &disk.cdrom else {
        let target = disk.disk.as_ref();
        let word = target
            .and_then(|t| t.bus.as_deref())
            .filter(|b| !b.is_empty());
        let bus = faults
            .word(&path.child("disk").child("bus"), word, &BUSES)
            .unwrap_or(defaults::DISK_BUS);
        return DiskTarget::Disk {
            bus,
            readonly: target.and_then(|t| t.readonly).unwrap_or(false),
        };
    };
    let path = path.child("cdrom");
    let word = cdrom.bus.as_deref().filter(|b| !b.is_empty());
    let bus = faults
        .word(&path.child("bus"), word, &BUSES[1..3])
        .unwrap_or(defaults::CDROM_BUS);
    let tray = faults.word(
        &path.child("tray"),
        cdrom.tray.as_deref().filter(|t| !t.is_empty()),
        &[("closed", false), ("open", true)],
    );
    DiskTarget::Cdrom {
        bus,
        tray_open: tray.unwrap_or(false),
        readonly: cdrom.readonly.unwrap_or(true),
    }
}

fn block_size(
    disk: &catamaran_api::Disk,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<(u32, u32)> {
    let path = path.child("custom");
    let Some(custom) = disk.block_size.as_ref()?.custom.as_ref() else {
        faults.required(&path, "");
        return None;
    };
    let mut sizes = [0; 2];
    for (slot, (name, size)) in sizes
        .iter_mut()
        .zip([("logical", custom.logical), ("physical", custom.physical)])
    {
        let path = path.child(name);
        match size {
            None => faults.required(&path, "logical and physical size must be set together"),
            Some(size) if !size.is_power_of_two() || !(512..=2 << 20).contains(&size) => {
                faults.invalid(
                    &path,
                    size,
                    "must be a power of 2 between 512 and 2097152, inclusive",
                );
            }
            Some(size) => *slot = size,
        }
    }
    if sizes[0] > sizes[1] && sizes[1] != 0 {
        faults.invalid(
            &path.child("logical"),
            sizes[0],
            &format!(
                "must be less than or equal to the physical size, {}",
                sizes[1]
            ),
        );
    }
    Some((sizes[0], sizes[1]))
}

/// Names of disks are unique, and each has a volume.
pub(super) fn join(
    devices: &Devices,
    at: &FieldPath,
    spec: &VirtualMachineInstanceSpec,
    root: &FieldPath,
    faults: &mut Faults,
) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, disk) in devices.disks.iter().enumerate() {
        let path = at.child("disks").index(i).child("name");
        let name = disk.name.as_str();
        if name.is_empty() {
            faults.required(&path, "");
        } else if seen.contains(&name) {
            faults.duplicate(&path, name);
        } else if !spec.volumes.iter().any(|v| v.name == name) {
            faults.invalid(
                &path,
                name,
                &format!("no volume of this name in {}", root.child("volumes")),
            );
        }
        seen.push(name);
    }
}
