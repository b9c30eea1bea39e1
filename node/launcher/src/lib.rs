//! The process that owns one virtual machine (`catamaran-launcher`); its sandbox and init are the crate `catamaran-sandbox`.
//!
//! Architecture invariants: one task ([`driver`]) owns the machine's state; what follows from what is decided by a pure
//! function ([`machine`]); one writer publishes reports ([`publish`]). The launcher never talks to Kubernetes and
//! never waits for any process but by its own pidfd: init reaps.

pub mod agent;
pub mod dhcp;
pub mod driver;
pub mod guest_log;
pub mod hypervisor;
pub mod inspect;
pub mod machine;
pub mod places;
pub mod plug;
pub mod prepare;
pub mod probe;
pub mod program;
pub mod publish;
pub mod request_queue;
pub mod serial;
pub mod server;
pub mod vnc;
