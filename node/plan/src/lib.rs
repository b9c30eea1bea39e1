//! From a validated machine and the facts of a host to a plan: what the launcher does, with no choices left.
//!
//! Architecture invariant: this crate is pure and synchronous: no tokio, no filesystem, no kube client, no clock. A plan is data:
//! printable, diffable, golden-tested (`catamaran plan -f vm.yaml` prints it).

mod addresses;
pub mod alias;
mod build;
mod clock;
mod cpu;
mod describe;
mod devices;
mod disks;
mod draft;
mod error;
pub mod facts;
mod firmware;
pub mod given;
pub mod hotplug;
mod hyperv;
mod identity;
mod io_threads;
mod memory;
pub mod networks;
mod nics;
mod offline;
pub mod overhead;
pub mod paths;
// The function `plan` and the types of its result share the name.
pub mod plan;
pub mod pod;
mod seeds;
mod volumes;
mod xml;

pub use build::plan;
pub use describe::describe;
pub use error::PlanError;
pub use facts::{HostFacts, OvmfFiles};
pub use given::{Format, Given, GivenBoot, GivenDisk, GivenNic, Identity};
pub use offline::offline_given;
pub use plan::{
    Accelerator, AgentAccess, FileSource, FileView, Generation, Hardware, NicBinding, NicPlan,
    Plan, Prepare, SeedFile, SeedSource,
};
