//! The controller: what makes Catamaran a part of Kubernetes.
//!
//! - **[`vm`], [`vmi`]**: `VirtualMachine` to `VirtualMachineInstance` to Pod. The decisions are `catamaran-lifecycle`'s, the same that the
//!   node daemon's `play` uses; the controller is a second shell around that crate.
//! - **[`replica_set`]**: so many equal instances.
//! - **[`baremetal`]**: servers, by their BMCs; the decisions are `catamaran-baremetal`'s.
//! - **[`kubevirt`]**: the installation as clients of the peer see it, and its configuration.
//! - **[`nodes`]**: nodes whose daemon is silent get no more machines. **[`node_states`]**: whether nodes answer at all.
//! - **[`preflight`], [`uninstall`]**: before and after an installation.
//! - **[`leader`]**: one replica reconciles; all of them serve the API.
//!
//! ```text
//!   watches ─▶ caches (our own writes included) ─▶ decide (pure) ─▶ writes: what differs, if nobody wrote in between
//! ```
//!
//! Reconcilers are level-triggered and idempotent: each looks at what there is and does the next thing, whatever woke it.
//!
//! Architecture invariant: the controller never talks to libvirt and never touches a host; the node daemon is the only thing that talks to
//! both sides.

pub mod args;
pub mod baremetal;
pub mod controllers;
pub mod error;
pub mod events;
pub mod finalizers;
pub mod health;
pub mod kubevirt;
pub mod leader;
pub mod metrics;
pub mod node_states;
pub mod nodes;
pub mod objects;
pub mod patch;
pub mod preflight;
mod program;
pub mod replica_set;
pub mod settings;
pub mod uninstall;
pub mod vm;
pub mod vmi;
pub mod watch;
pub mod work;
pub mod world;

pub use program::run;
