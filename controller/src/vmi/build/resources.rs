//! What a launcher pod asks of its node.

use std::collections::BTreeMap;

use catamaran_plan::overhead::{self, Load};
use catamaran_spec::{MachineSpec, VolumeSource};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::settings::Settings;

/// Virtual size that is counted for a disk nobody has looked at yet.
const UNKNOWN_DISK: u64 = 16 << 30;
/// Bytes that are counted for a kernel and its initial RAM disk.
const BOOT_FILES: u64 = 64 << 20;
/// Bytes of the node's disk that a pod asks for, as the peer's.
const EPHEMERAL_STORAGE: &str = "50M";
/// Network taps.
const TUN: &str = "devices.kubevirt.io/tun";
/// Hardware virtualisation.
const KVM: &str = "devices.kubevirt.io/kvm";

/// What the overhead depends on, as far as it is known before the images are on the node.
pub(super) fn load(machine: &MachineSpec, emulated: bool) -> Load {
    let cache = |source: &VolumeSource| match source {
        VolumeSource::ContainerDisk { .. } | VolumeSource::Ephemeral { .. } => {
            overhead::qcow2_cache(UNKNOWN_DISK)
        }
        VolumeSource::EmptyDisk { capacity } => overhead::qcow2_cache(*capacity),
        _ => 0,
    };
    Load {
        emulated,
        boot_files: machine
            .firmware
            .kernel_boot
            .as_ref()
            .map_or(0, |_| BOOT_FILES),
        qcow2_caches: machine
            .volumes
            .iter()
            .map(|volume| cache(&volume.source))
            .sum(),
    }
}

/// Requests and limits of the launcher's container.
pub(super) fn requirements(
    machine: &MachineSpec,
    settings: &Settings,
    overhead: u64,
) -> ResourceRequirements {
    let asked = &machine.resources;
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut both = |name: String, value: String| {
        requests.insert(name.clone(), Quantity(value.clone()));
        limits.insert(name, Quantity(value));
    };
    both(TUN.to_owned(), "1".to_owned());
    if !settings.emulation {
        both(KVM.to_owned(), "1".to_owned());
    }
    if let Some(size) = machine.memory.hugepages {
        both(
            format!("hugepages-{}", page_size(size)),
            machine.memory.guest.to_string(),
        );
    }
    let added = if asked.overcommit_guest_overhead {
        0
    } else {
        overhead
    };
    let guest = match machine.memory.hugepages {
        Some(_) => 0,
        None => asked.memory_request.unwrap_or(machine.memory.guest),
    };
    requests.insert("memory".to_owned(), bytes(guest + added));
    if let Some(limit) = asked.memory_limit {
        let limit = if machine.memory.hugepages.is_some() {
            0
        } else {
            limit
        };
        // A guest whose hypervisor has no room of its own is killed.
        limits.insert("memory".to_owned(), bytes(limit + overhead));
    }
    let shared = u64::from(machine.cpu.count()) * 1000 / settings.cpu_allocation_ratio;
    let cpu = asked.cpu_request_millis.unwrap_or(shared.max(1));
    requests.insert("cpu".to_owned(), Quantity(format!("{cpu}m")));
    if let Some(limit) = asked.cpu_limit_millis {
        limits.insert("cpu".to_owned(), Quantity(format!("{limit}m")));
    }
    requests.insert(
        "ephemeral-storage".to_owned(),
        Quantity(EPHEMERAL_STORAGE.to_owned()),
    );
    ResourceRequirements {
        claims: None,
        limits: Some(limits),
        requests: Some(requests),
    }
}

fn bytes(bytes: u64) -> Quantity {
    Quantity(bytes.to_string())
}

/// As the kubelet names sizes of huge pages.
fn page_size(bytes: u64) -> String {
    match bytes {
        b if b % (1 << 30) == 0 => format!("{}Gi", b >> 30),
        b => format!("{}Mi", b >> 20),
    }
}
