//! Root device hints: which disk the system is written to. One pure function, so that the controller can tell without a host which disk
//! would be chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inventory::{Disk, disk_order};

/// Bytes in a GiB, the unit of `minSizeGigabytes`.
pub const GIB: u64 = 1 << 30;

/// Without hints, disks below this size are left alone: 4 GiB.
pub const DEFAULT_MIN_BYTES: u64 = 4 * GIB;

/// `spec.rootDeviceHints` of a BareMetalHost. A disk has to fit all that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RootDeviceHints {
    /// One of its names: `/dev/sda`, `/dev/disk/by-path/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    /// SCSI address: `0:0:0:0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hctl: Option<String>,
    /// Part of the model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Part of the vendor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Least size, GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size_gigabytes: Option<u64>,
    /// World wide name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// World wide name with the vendor's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_with_extension: Option<String>,
    /// The vendor's extension alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn_vendor_extension: Option<String>,
    /// Whether it turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
}

impl RootDeviceHints {
    /// Whether none is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why a disk does not fit, in words; empty where it does.
    fn against(&self, disk: &Disk) -> Vec<String> {
        let Self {
            device_name,
            hctl,
            model,
            vendor,
            serial_number,
            min_size_gigabytes,
            wwn,
            wwn_with_extension,
            wwn_vendor_extension,
            rotational,
        } = self;
        let mut reasons = Vec::new();
        if let Some(wanted) = device_name
            && !disk.names().any(|name| name == wanted)
        {
            let names: Vec<&str> = disk.names().collect();
            reasons.push(format!(
                "deviceName is {}, not {wanted:?}",
                names.join(" or ")
            ));
        }
        for (field, wanted, found) in [
            ("hctl", hctl, &disk.hctl),
            ("serialNumber", serial_number, &disk.serial_number),
            ("wwn", wwn, &disk.wwn),
            (
                "wwnWithExtension",
                wwn_with_extension,
                &disk.wwn_with_extension,
            ),
            (
                "wwnVendorExtension",
                wwn_vendor_extension,
                &disk.wwn_vendor_extension,
            ),
        ] {
            if let Some(wanted) = wanted
                && !wanted.trim().eq_ignore_ascii_case(found.trim())
            {
                reasons.push(format!("{field} is {found:?}, not {wanted:?}"));
            }
        }
        for (field, wanted, found) in [
            ("model", model, &disk.model),
            ("vendor", vendor, &disk.vendor),
        ] {
            if let Some(wanted) = wanted
                && !found
                    .to_ascii_lowercase()
                    .contains(&wanted.trim().to_ascii_lowercase())
            {
                reasons.push(format!("{field} is {found:?}, without {wanted:?} in it"));
            }
        }
        if let Some(wanted) = min_size_gigabytes
            && disk.size_bytes / GIB < *wanted
        {
            reasons.push(format!(
                "it has {} GiB, minSizeGigabytes is {wanted}",
                disk.size_bytes / GIB
            ));
        }
        if let Some(wanted) = rotational
            && disk.rotational != *wanted
        {
            reasons.push(format!("rotational is {}, not {wanted}", disk.rotational));
        }
        reasons
    }
}

/// No disk fits: says of each disk why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoDisk {
    /// The kernel's name of each disk, and why it does not fit.
    pub disks: Vec<(String, Vec<String>)>,
    /// Whether hints were given.
    pub hinted: bool,
}

impl std::error::Error for NoDisk {}

impl fmt::Display for NoDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.disks.is_empty() {
            return out
                .write_str("the host has no disk (removable and read-only ones don't count)");
        }
        out.write_str(if self.hinted {
            "no disk fits rootDeviceHints: "
        } else {
            "no disk can be chosen without rootDeviceHints: "
        })?;
        for (number, (disk, reasons)) in self.disks.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(out, "{separator}{disk}: {}", reasons.join(", "))?;
        }
        Ok(())
    }
}

/// The disk that the system is written to. With hints, the first by name that fits all of them; without, the smallest of at least
/// [`DEFAULT_MIN_BYTES`], of equal ones the first by name.
///
/// # Errors
/// No disk fits; the error names each disk and each reason.
pub fn choose<'a>(disks: &'a [Disk], hints: &RootDeviceHints) -> Result<&'a Disk, NoDisk> {
    let mut sorted: Vec<&Disk> = disks.iter().collect();
    sorted.sort_by_key(|disk| disk_order(disk));
    let hinted = !hints.is_empty();
    let mut refused = Vec::new();
    let mut fitting: Vec<&Disk> = Vec::new();
    for disk in sorted {
        let mut reasons = hints.against(disk);
        if !hinted && disk.size_bytes < DEFAULT_MIN_BYTES {
            reasons.push(format!(
                "it has {} MiB, less than the 4096 MiB that are taken without hints",
                disk.size_bytes >> 20
            ));
        }
        if reasons.is_empty() {
            fitting.push(disk);
        } else {
            refused.push((disk.device().to_owned(), reasons));
        }
    }
    let chosen = if hinted {
        fitting.first().copied()
    } else {
        // The first of equal ones, and they are sorted by name.
        fitting.into_iter().min_by_key(|disk| disk.size_bytes)
    };
    chosen.ok_or(NoDisk {
        disks: refused,
        hinted,
    })
}

#[cfg(test)]
mod tests {
    use super::{GIB, RootDeviceHints, choose};
    use crate::inventory::{Disk, DiskKind};

    fn disks() -> Vec<Disk> {
        vec![
            Disk {
                name: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1".into(),
                alternate_names: vec!["/dev/sdaa".into()],
                rotational: true,
                size_bytes: 2000 * GIB,
                vendor: "ATA".into(),
                model: "ST2000NX0403".into(),
                serial_number: "W461".into(),
                wwn: "0x5000c500a1b2c3d4".into(),
                hctl: "1:0:0:0".into(),
                ..Disk::default()
            },
            Disk {
                name: "/dev/disk/by-path/pci-0000:3b:00.0-scsi-0:2:0:0".into(),
                alternate_names: vec!["/dev/sdb".into()],
                rotational: true,
                size_bytes: 500 * GIB,
                vendor: "DELL".into(),
                model: "PERC H730P".into(),
                serial_number: "0061".into(),
                wwn: "0x61866da0".into(),
                wwn_vendor_extension: "0x22a4".into(),
                wwn_with_extension: "0x61866da022a4".into(),
                hctl: "0:2:0:0".into(),
                ..Disk::default()
            },
            Disk {
                name: "/dev/nvme0n1".into(),
                kind: DiskKind::Nvme,
                size_bytes: 500 * GIB,
                model: "INTEL SSDPE2KX010T8".into(),
                serial_number: "PHLJ1".into(),
                wwn: "eui.01000000".into(),
                ..Disk::default()
            },
            Disk {
                name: "/dev/sdc".into(),
                size_bytes: GIB,
                ..Disk::default()
            },
        ]
    }

    #[test]
    fn each_hint_chooses_the_disk_it_describes() {
        for (hints, wanted) in [
            (r#"{}"#, "/dev/sdb"),
            (r#"{"deviceName":"/dev/sdaa"}"#, "/dev/sdaa"),
            (
                r#"{"deviceName":"/dev/disk/by-path/pci-0000:3b:00.0-scsi-0:2:0:0"}"#,
                "/dev/sdb",
            ),
            (r#"{"hctl":"1:0:0:0"}"#, "/dev/sdaa"),
            (r#"{"model":"perc"}"#, "/dev/sdb"),
            (r#"{"vendor":"ata"}"#, "/dev/sdaa"),
            (r#"{"serialNumber":"PHLJ1"}"#, "/dev/nvme0n1"),
            (r#"{"serialNumber":"phlj1 "}"#, "/dev/nvme0n1"),
            (r#"{"minSizeGigabytes":501}"#, "/dev/sdaa"),
            (r#"{"minSizeGigabytes":1}"#, "/dev/sdb"),
            (r#"{"wwn":"0x5000C500A1B2C3D4"}"#, "/dev/sdaa"),
            (r#"{"wwnWithExtension":"0x61866da022a4"}"#, "/dev/sdb"),
            (r#"{"wwnVendorExtension":"0x22a4"}"#, "/dev/sdb"),
            (
                r#"{"rotational":false,"minSizeGigabytes":4}"#,
                "/dev/nvme0n1",
            ),
            // A hint makes a small disk eligible.
            (r#"{"deviceName":"/dev/sdc"}"#, "/dev/sdc"),
        ] {
            let hints: RootDeviceHints = serde_json::from_str(hints).unwrap();
            let disks = disks();
            let chosen = choose(&disks, &hints).map(Disk::device);
            assert_eq!(chosen, Ok(wanted), "{hints:?}");
        }
    }

    #[test]
    fn the_error_says_of_each_disk_why_it_does_not_fit() {
        let hints: RootDeviceHints =
            serde_json::from_str(r#"{"serialNumber":"0061","rotational":false,"model":"H730"}"#)
                .unwrap();
        let disks = disks();
        assert_eq!(
            choose(&disks, &hints).unwrap_err().to_string(),
            "no disk fits rootDeviceHints: \
             /dev/sdb: rotational is true, not false; \
             /dev/sdc: serialNumber is \"\", not \"0061\", model is \"\", without \"H730\" in it; \
             /dev/sdaa: serialNumber is \"W461\", not \"0061\", model is \"ST2000NX0403\", without \"H730\" in it, rotational is true, not false; \
             /dev/nvme0n1: serialNumber is \"PHLJ1\", not \"0061\", model is \"INTEL SSDPE2KX010T8\", without \"H730\" in it"
        );
    }

    #[test]
    fn without_hints_small_disks_are_left_alone() {
        let disks = &disks()[3..];
        assert_eq!(
            choose(disks, &RootDeviceHints::default())
                .unwrap_err()
                .to_string(),
            "no disk can be chosen without rootDeviceHints: /dev/sdc: it has 1024 MiB, less than the 4096 MiB that are taken without hints"
        );
    }

    #[test]
    fn a_host_without_disks_says_so() {
        assert_eq!(
            choose(&[], &RootDeviceHints::default())
                .unwrap_err()
                .to_string(),
            "the host has no disk (removable and read-only ones don't count)"
        );
    }
}
