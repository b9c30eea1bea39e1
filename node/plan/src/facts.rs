//! What a host can do, found out once by the daemon.

use serde::{Deserialize, Serialize};

use crate::plan::Accelerator;

/// Facts of a host that a plan depends on. Sorted lists, so that equal hosts give equal facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// What runs guests here: the verdict of the probe, not the presence of a device node.
    pub accelerator: Accelerator,
    /// Path of the emulator, such as `/usr/bin/qemu-system-x86_64`.
    pub emulator: String,
    /// QEMU version as (major, minor, micro).
    pub qemu_version: (u32, u32, u32),
    /// Versioned q35 machine types, newest first (`pc-q35-10.0`, …).
    pub machine_types: Vec<String>,
    /// Named CPU models that libvirt calls usable with this accelerator.
    pub usable_cpu_models: Vec<String>,
    /// The closest named model to this host (`host-model`).
    pub host_cpu_model: String,
    /// Firmware files; absent when no OVMF package is installed.
    pub ovmf: Option<OvmfFiles>,
    /// swtpm is installed.
    pub swtpm: bool,
    /// Free huge pages by size in bytes.
    pub hugepages: Vec<(u64, u64)>,
    /// `/dev/vhost-net` opens.
    pub vhost_net: bool,
}

/// OVMF firmware files of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvmfFiles {
    /// Code without secure boot.
    pub code: String,
    /// Empty variables.
    pub vars: String,
    /// Code with secure boot (needs SMM).
    pub secure_code: Option<String>,
    /// Variables with the usual keys enrolled.
    pub secure_vars: Option<String>,
}
