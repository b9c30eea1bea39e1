//! What was found or made for one machine before it is planned: disk files, addresses, identity.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::plan::{Generation, Hardware};

/// Everything besides the spec and the host that a plan depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Which plan this is.
    pub generation: Generation,
    /// The VM's identity.
    pub identity: Identity,
    /// Disk files by volume name, for volumes that are files before the start (containerDisk, claims, host disks, ephemeral).
    pub disks: BTreeMap<String, GivenDisk>,
    /// Optional volumes whose object is missing: their disk is left out.
    pub absent: Vec<String>,
    /// Interfaces by name.
    pub nics: BTreeMap<String, GivenNic>,
    /// Files of a direct kernel boot.
    pub boot: Option<GivenBoot>,
    /// Names of the keys in each Secret or ConfigMap that a volume or credential names, by (`secret`|`configmap`)`/`name. Never contents.
    pub config_keys: BTreeMap<String, Vec<String>>,
    /// Hardware of an earlier run with the same spec; used as it is.
    pub hardware: Option<Hardware>,
    /// Bytes of the host that the overlay of a containerDisk or an ephemeral volume may grow to; a guest that writes more is paused. `None` =
    /// as far as its virtual size goes.
    pub overlay_limit: Option<u64>,
}

/// Identity of a VM, stable over its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// uid of the VM (a function of namespace and name under `play`).
    pub uid: Uuid,
    /// SMBIOS and domain UUID when the manifest has none.
    pub firmware_uuid: Uuid,
    /// SMBIOS serial when the manifest has none.
    pub firmware_serial: String,
}

/// Format of a disk file; always said, never probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Raw.
    Raw,
    /// qcow2.
    Qcow2,
}

impl Format {
    /// qemu's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A disk file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenDisk {
    /// Absolute path, on the host or [`Self::inside`].
    pub host_path: String,
    /// The path is one of the sandbox, where the file is visible already: nothing has to be shown.
    #[serde(default)]
    pub inside: bool,
    /// It is a block device, not a file.
    #[serde(default)]
    pub block: bool,
    /// Format.
    pub format: Format,
    /// Virtual size in bytes.
    pub virtual_size: u64,
    /// The file system takes `O_DIRECT` (tmpfs, for one, may not).
    #[serde(default)]
    pub direct_io: bool,
}

/// A network attachment of the host for one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenNic {
    /// Name of the tap in the VM's network namespace.
    pub tap: String,
    /// MAC address of the guest's interface.
    pub mac: [u8; 6],
    /// MTU of the pod's interface.
    pub mtu: u32,
    /// Addresses of the pod.
    pub addresses: Vec<IpAddr>,
}

/// Files of a direct kernel boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBoot {
    /// Kernel on the host, or [`Self::inside`].
    pub kernel: Option<String>,
    /// Initial RAM disk, likewise.
    pub initrd: Option<String>,
    /// The paths are those of the sandbox, where the files are visible already.
    #[serde(default)]
    pub inside: bool,
    /// Bytes of both; QEMU holds them in memory.
    #[serde(default)]
    pub size: u64,
}
