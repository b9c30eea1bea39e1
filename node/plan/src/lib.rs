//! From a validated machine and the facts of a host to a plan: what the launcher does, with no choices left.
//!
//! Architecture invariant: this crate is pure and synchronous: no tokio, no filesystem, no kube client, no clock. A plan is data:
//! printable, diffable, golden-tested (`catamaran plan -f vm.yaml` prints it).

pub mod facts;
pub mod given;
pub mod paths;
pub mod plan;

pub use facts::{HostFacts, OvmfFiles};
pub use given::{Format, Given, GivenBoot, GivenDisk, GivenNic, Identity};
pub use plan::{
    Accelerator, AgentAccess, FileSource, FileView, Generation, Hardware, NicBinding, NicPlan,
    Plan, Prepare, SeedFile, SeedSource,
};
