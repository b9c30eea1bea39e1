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
    /// QEMU version as (major, minor, micro), from `virConnectGetVersion` or `--version`.
    pub qemu_version: (u32, u32, u32),
    /// libvirt version as (major, minor, micro), from `virGetVersion`. Elements that are younger than it are not written.
    #[serde(default)]
    pub libvirt_version: (u32, u32, u32),
    /// Versioned q35 machine types, newest first (`pc-q35-10.0`, …); the alias `q35` itself is left out.
    pub machine_types: Vec<String>,
    /// Every named CPU model of the emulator (domain capabilities, `cpu/mode[@name='custom']/model`), usable or not, sorted.
    #[serde(default)]
    pub cpu_models: Vec<String>,
    /// Named CPU models that libvirt calls usable with this accelerator (`usable='yes'`), sorted.
    pub usable_cpu_models: Vec<String>,
    /// The closest named model to this host (domain capabilities, `cpu/mode[@name='host-model']/model`). Unused under emulation.
    pub host_cpu_model: String,
    /// Features that make the closest model this host, as (name, `require` or `disable`) from the same place, in its order.
    #[serde(default)]
    pub host_cpu_features: Vec<(String, String)>,
    /// Firmware files; absent when no OVMF package is installed.
    pub ovmf: Option<OvmfFiles>,
    /// `swtpm` and `swtpm_setup` are installed.
    pub swtpm: bool,
    /// (size of a page in bytes, number of free pages) for each size of huge pages, from `/sys/kernel/mm/hugepages`.
    pub hugepages: Vec<(u64, u64)>,
    /// `/dev/vhost-net` opens for the launcher.
    pub vhost_net: bool,
}

impl HostFacts {
    /// A plain present-day host with KVM, for `catamaran plan` where no daemon has looked at the real one.
    #[must_use]
    pub fn offline() -> Self {
        let models = [
            "Broadwell",
            "EPYC",
            "Haswell",
            "IvyBridge",
            "SandyBridge",
            "Skylake-Client",
            "Skylake-Server",
            "Westmere",
            "qemu64",
        ];
        let models: Vec<String> = models.iter().map(ToString::to_string).collect();
        Self {
            accelerator: Accelerator::Kvm,
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            qemu_version: (10, 0, 2),
            libvirt_version: (11, 3, 0),
            machine_types: vec![
                "pc-q35-10.0".into(),
                "pc-q35-9.2".into(),
                "pc-q35-7.2".into(),
            ],
            cpu_models: models.clone(),
            usable_cpu_models: models,
            host_cpu_model: "Skylake-Client".into(),
            host_cpu_features: Vec::new(),
            ovmf: Some(OvmfFiles {
                code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
                vars: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
                secure_code: Some("/usr/share/OVMF/OVMF_CODE_4M.ms.fd".into()),
                secure_vars: Some("/usr/share/OVMF/OVMF_VARS_4M.ms.fd".into()),
            }),
            swtpm: true,
            hugepages: vec![
                (2 << 20, u64::from(u32::MAX)),
                (1 << 30, u64::from(u32::MAX)),
            ],
            vhost_net: true,
        }
    }

    /// Whether libvirt is at least that version.
    pub(crate) fn libvirt_at_least(&self, major: u32, minor: u32) -> bool {
        self.libvirt_version >= (major, minor, 0)
    }
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
