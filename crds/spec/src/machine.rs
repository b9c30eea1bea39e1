//! The machine as a whole.

use std::collections::BTreeMap;

use crate::access::AccessCredential;
use crate::disk::{Disk, HotDisk, Volume};
use crate::hardware::{
    Clock, Cpu, Features, Firmware, Input, IoThreads, Memory, Tpm, Video, Watchdog,
};
use crate::network::{HostPort, Interface};
use crate::probe::Probe;

/// One virtual machine, validated: every default filled in, every reference resolved inside the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Namespace of the VM (`default` when the manifest names none).
    pub namespace: String,
    /// Name of the VM and of its instance.
    pub name: String,
    /// Labels of the instance (`spec.template.metadata.labels` of a VM).
    pub labels: BTreeMap<String, String>,
    /// Annotations of the instance.
    pub annotations: BTreeMap<String, String>,
    /// Virtual processors.
    pub cpu: Cpu,
    /// Guest memory.
    pub memory: Memory,
    /// Machine type as written, `q35` by default; the plan resolves it to a versioned one.
    pub machine_type: String,
    /// Firmware, boot loader, SMBIOS identity, direct kernel boot.
    pub firmware: Firmware,
    /// SMBIOS chassis strings.
    pub chassis: Chassis,
    /// ACPI, APIC, SMM, Hyper-V enlightenments.
    pub features: Features,
    /// Guest clock and timers.
    pub clock: Clock,
    /// Disks that the machine starts with, in manifest order; each names an entry of `volumes`.
    pub disks: Vec<Disk>,
    /// Their volumes in manifest order, names unique.
    pub volumes: Vec<Volume>,
    /// Disks that are plugged in while the machine runs, in manifest order.
    pub hotplug: Vec<HotDisk>,
    /// Network interfaces in manifest order, each already joined with its network.
    pub interfaces: Vec<Interface>,
    /// Ports of the host that lead to the guest, from an annotation.
    pub host_ports: Vec<HostPort>,
    /// Everything else that is plugged in.
    pub devices: Devices,
    /// I/O threads.
    pub io_threads: IoThreads,
    /// SSH keys and passwords to hand to the guest.
    pub access_credentials: Vec<AccessCredential>,
    /// Guest host name (the VM's name, made DNS-safe, when the manifest has none).
    pub hostname: String,
    /// DNS subdomain.
    pub subdomain: Option<String>,
    /// Compute resources asked of the node.
    pub resources: Resources,
    /// Seconds between the ACPI power button and destroy.
    pub termination_grace_period_seconds: u32,
    /// Whether the guest begins running or paused.
    pub start_strategy: StartStrategy,
    /// Restarts the guest when it fails.
    pub liveness_probe: Option<Probe>,
    /// Decides `Ready`.
    pub readiness_probe: Option<Probe>,
}

impl MachineSpec {
    /// libvirt's domain name: `<namespace>_<name>`.
    #[must_use]
    pub fn domain_name(&self) -> String {
        format!("{}_{}", self.namespace, self.name)
    }

    /// The volume of that name.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|v| v.name == name)
    }
}

/// SMBIOS type 3 strings, empty when unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chassis {
    /// Manufacturer.
    pub manufacturer: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Asset tag.
    pub asset: Option<String>,
    /// Stock keeping unit.
    pub sku: Option<String>,
}

/// Whether the guest begins running or paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StartStrategy {
    /// Runs at once.
    #[default]
    Running,
    /// Waits for `unpause`.
    Paused,
}

/// Compute resources asked of the node; absent means "derive from the machine".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU request, thousandths of a core.
    pub cpu_request_millis: Option<u64>,
    /// CPU limit, thousandths of a core.
    pub cpu_limit_millis: Option<u64>,
    /// Memory request, bytes.
    pub memory_request: Option<u64>,
    /// Memory limit, bytes.
    pub memory_limit: Option<u64>,
    /// Leave the overhead out of the request.
    pub overcommit_guest_overhead: bool,
}

/// Devices besides disks and NICs. Each switch has the peer's default already applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// virtio-rng.
    pub rng: bool,
    /// A serial port with a console (`autoattachSerialConsole`).
    pub serial_console: bool,
    /// Keep the serial output as a log (`logSerialConsole`).
    pub log_serial_console: bool,
    /// VNC and a video device (`autoattachGraphicsDevice`).
    pub graphics: bool,
    /// Video model; `None` = the default of the boot loader.
    pub video: Option<Video>,
    /// Memory balloon (`autoattachMemBalloon`).
    pub balloon: bool,
    /// Tablets and keyboards.
    pub inputs: Vec<Input>,
    /// Watchdog.
    pub watchdog: Option<Watchdog>,
    /// TPM 2.0 emulated by swtpm.
    pub tpm: Option<Tpm>,
    /// pvpanic (`panicDevices`); always added for the crash tail, this records an explicit wish for its model.
    pub panic_devices: Vec<String>,
    /// One virtio-blk queue for each vCPU.
    pub block_multi_queue: bool,
    /// One virtio-net queue pair for each vCPU.
    pub network_multi_queue: bool,
    /// No spare PCIe root ports.
    pub disable_hotplug: bool,
    /// virtio-transitional models for old guests.
    pub virtio_transitional: bool,
}
