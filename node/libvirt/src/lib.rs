//! Safe wrapper over libvirt's *embedded* QEMU driver (`qemu:///embed?root=ROOT`): no daemon, the driver's code runs in
//! this process, and QEMU outlives it.
//!
//! This is the only crate that links libvirt (LGPL-2.1, dynamically) and one of the two that hold `unsafe` code. Nothing
//! of libvirt's own types shows in its public interface. It is used by one thread of `catamaran-launcher` and by the
//! daemon's one-time probe of QEMU's capabilities.
//!
//! ```text
//!   Settings::write ─> Connection::open ──create/lookup/restore──> Domain ──> verbs, statistics, screenshot
//!                          │
//!        event thread ─────┴──> your closure, one Event at a time
//! ```
//!
//! Architecture invariant: one ROOT folder holds one virtual machine, and one process at a time has it open (libvirt's
//! own lock file sees to that).

mod connection;
mod domain;
mod error;
mod event;
mod memory;
mod settings;
mod statistics;

pub use connection::{Connection, SaveFormat};
pub use domain::{Domain, ShutdownMode, State};
pub use error::{Error, ErrorKind};
pub use event::{AgentState, Event, EventKind, IoErrorAction, Lifecycle};
pub use memory::{release_code, trim_memory};
pub use settings::{Account, Settings};
pub use statistics::{
    BlockStatistics, MemoryStatistics, NetStatistics, Statistics, VcpuStatistics,
};
