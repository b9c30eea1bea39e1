//! What a launcher says of its machine.

use std::net::IpAddr;

use catamaran_plan::Generation;
use serde::{Deserialize, Serialize};

/// State of one machine. Written by one task of the launcher; `sequence` grows with each change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VmReport {
    /// Plan that this is about; `None` before the first start.
    pub generation: Option<Generation>,
    /// Grows with each report of this launcher process.
    pub sequence: u64,
    /// State.
    pub state: VmState,
    /// Since when, milliseconds of the Unix epoch.
    pub since_ms: u64,
    /// For people: last error or reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Host pid of QEMU in the launcher's pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu_pid: Option<i32>,
    /// Guest agent, when it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentInfo>,
    /// Times the guest has rebooted in this run.
    #[serde(default)]
    pub reboots: u32,
    /// Console viewers at this moment.
    #[serde(default)]
    pub viewers: u32,
    /// Messages of preparation steps that deserve a warning.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// States of a machine as its launcher sees it.
///
/// ```text
/// Idle -> Preparing -> Starting -> Running <-> Paused
///             |            |          |          |
///             v            v          v          v
///           Ended        Ended     Stopping -> Ended
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum VmState {
    /// Nothing was asked yet.
    Idle,
    /// Disks and seeds are made.
    Preparing,
    /// libvirt starts QEMU.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs are stopped.
    Paused {
        /// Why.
        reason: PauseReason,
    },
    /// Asked to shut down.
    Stopping,
    /// QEMU is gone.
    Ended {
        /// How.
        reason: EndReason,
    },
}

/// Why the vCPUs are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PauseReason {
    /// Somebody asked.
    User,
    /// A disk of the host is full; goes on by itself when there is space.
    NoSpace,
    /// A disk of the host has an error.
    IoError,
    /// The guest's kernel has panicked; the tail of its log was stored.
    Panicked,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndReason {
    /// The guest powered itself off (perhaps because it was asked to).
    Shutdown,
    /// Destroyed on request after the grace period or at once.
    Destroyed,
    /// The guest's kernel panicked.
    Panicked,
    /// QEMU is gone and nobody shut it down.
    Crashed,
    /// It never started.
    FailedToStart,
    /// Its memory was saved.
    Saved,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// What the guest agent says, sizes capped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentInfo {
    /// Agent version.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// `guest-get-osinfo` as it came, capped.
    pub os: serde_json::Value,
    /// Interfaces.
    pub interfaces: Vec<GuestInterface>,
}

/// An interface as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestInterface {
    /// Name in the guest.
    pub name: String,
    /// MAC address.
    pub mac: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// Counters since the start of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// CPU time of QEMU, seconds.
    pub cpu_seconds: f64,
    /// Of it in user mode.
    pub cpu_user_seconds: f64,
    /// Of it in the kernel.
    pub cpu_system_seconds: f64,
    /// For each vCPU.
    pub vcpus: Vec<VcpuStats>,
    /// Memory.
    pub memory: MemoryStats,
    /// For each interface.
    pub networks: Vec<NetStats>,
    /// For each disk.
    pub disks: Vec<BlockStats>,
}

/// Counters of one vCPU.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VcpuStats {
    /// Number.
    pub id: u32,
    /// Seconds of run time.
    pub seconds: f64,
    /// Seconds waiting.
    pub wait_seconds: f64,
    /// Seconds delayed by the host's scheduler.
    pub delay_seconds: f64,
}

/// Memory figures in bytes; `None` = the balloon does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryStats {
    /// Balloon size.
    pub actual: Option<u64>,
    /// Usable by the guest's kernel.
    pub available: Option<u64>,
    /// Unused in the guest.
    pub unused: Option<u64>,
    /// Could be reclaimed without swapping.
    pub usable: Option<u64>,
    /// Resident on the host.
    pub resident: Option<u64>,
    /// Page cache of the guest.
    pub cached: Option<u64>,
    /// Swapped in.
    pub swap_in: Option<u64>,
    /// Swapped out.
    pub swap_out: Option<u64>,
    /// Major faults.
    pub major_faults: Option<u64>,
    /// Minor faults.
    pub minor_faults: Option<u64>,
    /// Memory of the domain.
    pub domain: Option<u64>,
}

/// Counters of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetStats {
    /// Tap name.
    pub device: String,
    /// Interface name of the manifest (the alias without its prefix).
    pub name: String,
    /// Bytes, packets, errors and drops towards the guest.
    pub receive: [u64; 4],
    /// Bytes, packets, errors and drops from the guest.
    pub transmit: [u64; 4],
}

/// Counters of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockStats {
    /// Disk name of the manifest.
    pub name: String,
    /// Target name, such as `vda`.
    pub target: String,
    /// Requests, bytes and nanoseconds of reads.
    pub read: [u64; 3],
    /// Requests, bytes and nanoseconds of writes.
    pub write: [u64; 3],
    /// Requests and nanoseconds of flushes.
    pub flush: [u64; 2],
    /// Bytes allocated on the host.
    pub allocated: u64,
    /// Virtual size in bytes.
    pub capacity: u64,
}
