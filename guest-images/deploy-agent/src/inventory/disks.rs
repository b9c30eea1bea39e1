//! Disks, from `/sys/block`.

use std::fs;
use std::path::{Path, PathBuf};

use catamaran_deploy_wire::{Disk, DiskKind, disk_order};

use super::path::{by_path, is_hctl};
use super::text;

/// No disks of a server: what the kernel makes itself, floppies and CDs.
const OTHERS: [&str; 9] = [
    "loop", "ram", "zram", "fd", "sr", "dm-", "md", "nbd", "mmcblk",
];
/// Bytes of a sector in `/sys/block/*/size`, whatever the disk's are.
const SECTOR: u64 = 512;

/// The disks below `root`, by name.
pub(super) fn read(root: &Path) -> Vec<Disk> {
    let mut disks: Vec<Disk> = fs::read_dir(root.join("sys/block"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| one(root, &entry.file_name().into_string().ok()?))
        .collect();
    disks.sort_by(|a, b| disk_order(a).cmp(&disk_order(b)));
    disks
}

fn one(root: &Path, name: &str) -> Option<Disk> {
    let folder = root.join("sys/block").join(name);
    let file = |path: &str| text(&folder.join(path));
    let size_bytes = file("size").parse::<u64>().unwrap_or(0) * SECTOR;
    let hidden = file("hidden") == "1" || file("removable") == "1" || file("ro") == "1";
    if size_bytes == 0 || hidden || OTHERS.iter().any(|other| name.starts_with(other)) {
        return None;
    }
    let real = fs::canonicalize(&folder).ok()?;
    let place = in_sys(root, &real);
    let rotational = file("queue/rotational") == "1";
    let wwid = [file("device/wwid"), file("wwid")]
        .into_iter()
        .find(|wwid| !wwid.is_empty())
        .unwrap_or_default();
    let (wwn, extension) = world_wide_name(&wwid);
    let kernel = format!("/dev/{name}");
    let stable = by_path(&place, ata_port(&real));
    Some(Disk {
        alternate_names: stable.iter().map(|_| kernel.clone()).collect(),
        name: stable.unwrap_or(kernel),
        rotational,
        kind: match (name.starts_with("nvme"), rotational) {
            (true, _) => DiskKind::Nvme,
            (false, true) => DiskKind::Hdd,
            (false, false) => DiskKind::Ssd,
        },
        size_bytes,
        vendor: file("device/vendor")
            .strip_prefix("0x")
            // Of virtio: the vendor of the card.
            .map_or_else(|| file("device/vendor"), |_| String::new()),
        model: file("device/model"),
        serial_number: serial(&folder, &wwid),
        wwn_with_extension: if wwn.is_empty() {
            String::new()
        } else {
            format!("{wwn}{}", extension.trim_start_matches("0x"))
        },
        wwn,
        wwn_vendor_extension: extension,
        hctl: place
            .split('/')
            .rfind(|part| is_hctl(part))
            .unwrap_or_default()
            .to_owned(),
    })
}

/// virtio and NVMe have files of their own; SCSI and ATA answer page 80; else the end of the name that ATA makes of model and serial.
fn serial(folder: &Path, wwid: &str) -> String {
    for path in ["serial", "device/serial"] {
        let serial = text(&folder.join(path));
        if !serial.is_empty() {
            return serial;
        }
    }
    // Four bytes of header, the serial number behind it.
    let page = fs::read(folder.join("device/vpd_pg80")).unwrap_or_default();
    let serial = String::from_utf8_lossy(page.get(4..).unwrap_or_default()).into_owned();
    let serial = serial.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if !serial.is_empty() {
        return serial.to_owned();
    }
    wwid.strip_prefix("t10.ATA")
        .and_then(|rest| rest.split_whitespace().next_back())
        .unwrap_or_default()
        .to_owned()
}

/// Name and extension: 64 bits each of a SCSI name; an NVMe's name has none.
fn world_wide_name(wwid: &str) -> (String, String) {
    if let Some(digits) = wwid.strip_prefix("naa.") {
        return match digits.split_at_checked(16) {
            Some((name, "")) => (format!("0x{name}"), String::new()),
            Some((name, extension)) => (format!("0x{name}"), format!("0x{extension}")),
            None => (format!("0x{digits}"), String::new()),
        };
    }
    if wwid.starts_with("eui.") || wwid.starts_with("nvme.") || wwid.starts_with("uuid.") {
        return (wwid.to_owned(), String::new());
    }
    (String::new(), String::new())
}

/// The folder below `/sys`, whatever `root` is.
fn in_sys(root: &Path, real: &Path) -> String {
    let sys = fs::canonicalize(root.join("sys")).unwrap_or_else(|_| root.join("sys"));
    let inner = real.strip_prefix(&sys).unwrap_or(real);
    format!("/{}", inner.display())
}

/// The number of the ATA port that a disk is on: `ataN/ata_port/ataN/port_no`.
fn ata_port(real: &Path) -> Option<u32> {
    let above: PathBuf = real
        .ancestors()
        .find(|folder| {
            folder
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix("ata"))
                .is_some_and(|number| number.parse::<u32>().is_ok())
        })?
        .to_owned();
    let name = above.file_name()?;
    text(&above.join("ata_port").join(name).join("port_no"))
        .parse()
        .ok()
}
