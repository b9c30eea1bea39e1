//! The sandbox of one virtual machine, its init, and the records they leave.
//!
//! A crate of its own because the daemon builds sandboxes and must not load libvirt, which the launcher inside does.

pub mod console_log;
pub mod hold;
pub mod init;
pub mod pod;
pub mod records;
pub mod sandbox;

pub use sandbox::{
    Answer, Bind, CAPABILITIES_SEED, FileId, Limit, Running, SandboxError, SandboxSpec,
};
