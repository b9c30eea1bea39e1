//! What a server is made of, in the shape of `HardwareData.spec.hardware` of metal3.io/v1alpha1.

use serde::{Deserialize, Serialize};

/// The inventory of a server. Serialised, it is a `HardwareDetails` of metal3.io.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inventory {
    /// Who made it.
    pub system_vendor: SystemVendor,
    /// Its firmware.
    pub firmware: Firmware,
    /// Memory in MiB, as the firmware tells the kernel; a little less than what is plugged in.
    pub ram_mebibytes: u64,
    /// Network cards, by name.
    pub nics: Vec<Nic>,
    /// Disks, by name; neither removable nor read-only ones.
    pub storage: Vec<Disk>,
    /// Processors.
    pub cpu: Cpu,
    /// The host's name; empty unless a DHCP server gave one.
    pub hostname: String,
}

/// From DMI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SystemVendor {
    /// `Dell Inc.`
    pub manufacturer: String,
    /// `PowerEdge R640`
    pub product_name: String,
    /// Often readable by root only.
    pub serial_number: String,
}

/// Firmware of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firmware {
    /// BIOS or UEFI.
    pub bios: Bios,
}

/// From DMI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bios {
    /// As DMI has it: `MM/DD/YYYY`.
    pub date: String,
    /// Who made the firmware.
    pub vendor: String,
    /// In the vendor's own form.
    pub version: String,
}

/// Processors, taken together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// `x86_64`
    pub arch: String,
    /// Of the first one.
    pub model: String,
    /// Highest clock rate where the kernel knows it, else the present one.
    pub clock_megahertz: f64,
    /// Sorted.
    pub flags: Vec<String>,
    /// Threads.
    pub count: u32,
}

/// A network card's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Nic {
    /// The kernel's name: `eth0`.
    pub name: String,
    /// Vendor and device id of PCI: `0x8086 0x1572`.
    pub model: String,
    /// In lower case, with colons.
    pub mac: String,
    /// The first address, without a prefix length; empty without one.
    pub ip: String,
    /// 0 without a link, or where the driver does not tell.
    pub speed_gbps: u32,
    /// Whether the agent reaches the controller over it.
    pub pxe: bool,
    /// `0000:3b:00.0`; empty where it is no PCI device.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pci_address: String,
}

/// What kind of disk it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiskKind {
    /// It turns.
    #[default]
    Hdd,
    /// It does not.
    Ssd,
    /// It does not, and is on PCI.
    Nvme,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// `/dev/disk/by-path/…` where the kernel tells the path to it, else `/dev/sda`: names of the second kind change from boot to boot.
    pub name: String,
    /// All other names: `/dev/sda`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternate_names: Vec<String>,
    /// Whether it turns.
    pub rotational: bool,
    /// See there.
    #[serde(rename = "type")]
    pub kind: DiskKind,
    /// Bytes.
    pub size_bytes: u64,
    /// Of SCSI; empty for others.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vendor: String,
    /// Empty where there is none (virtio).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Empty where there is none.
    pub serial_number: String,
    /// World wide name: `0x5000c500a1b2c3d4`, or `eui.…` for NVMe.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wwn: String,
    /// The second half of a 128 bit name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wwn_vendor_extension: String,
    /// Both halves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wwn_with_extension: String,
    /// Host, channel, target and LUN of SCSI: `0:0:0:0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hctl: String,
}

impl Disk {
    /// All names it goes by.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.alternate_names.iter().map(String::as_str))
    }

    /// The kernel's name, for people and for sorting: `/dev/sda`.
    #[must_use]
    pub fn device(&self) -> &str {
        self.names()
            .find(|name| !name.starts_with("/dev/disk/"))
            .unwrap_or(&self.name)
    }
}

/// What disks are sorted by: `sdb` before `sdaa`.
#[must_use]
pub fn disk_order(disk: &Disk) -> (usize, &str) {
    (disk.device().len(), disk.device())
}
