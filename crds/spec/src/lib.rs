//! What the wire types mean: validated, complete, not serialisable as Kubernetes objects.
//!
//! A [`MachineSpec`] is reached from a `VirtualMachine` or `VirtualMachineInstance` by parsing, never by hand-editing, and holds no
//! unknown field, no absent default and no dangling reference. Everything below `crds/spec` in the data flow (`node/plan`, the launcher)
//! works on these types only.
//!
//! Architecture invariant: this crate is synchronous: no tokio, no filesystem, no kube client, no clock.

pub mod access;
mod convert;
pub mod defaults;
pub mod disk;
pub mod field;
pub mod hardware;
pub mod instancetype;
pub mod machine;
mod names;
pub mod network;
pub mod probe;
pub mod quantity;
pub mod read;
pub mod support;

pub use access::{AccessCredential, Propagation, SecretKind};
pub use disk::{
    Bus, CacheMode, CloudInit, CloudInitData, CloudInitKind, Disk, DiskTarget, ErrorPolicy,
    HostDiskKind, HotDisk, IoMode, PullPolicy, Volume, VolumeSource,
};
pub use field::{Fault, FieldError, FieldErrors, FieldPath, Warning};
pub use hardware::{
    Bootloader, Clock, ClockBase, Cpu, CpuFeature, CpuModel, FeaturePolicy, Features, Firmware,
    Hyperv, Input, InputBus, IoThreads, KernelBoot, Memory, TickPolicy, Timers, Tpm, Video,
    Watchdog, WatchdogAction,
};
pub use machine::{Devices, MachineSpec, Resources, StartStrategy};
pub use network::{
    Binding, HOST_PORTS_ANNOTATION, HostPort, Interface, Joined, LinkState, NicModel, Port,
    PortRange, Protocol,
};
pub use probe::{Probe, ProbeAction};
pub use support::Context;
