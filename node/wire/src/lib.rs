//! Messages between the node daemon and a launcher, over a unix stream.
//!
//! A frame is a big-endian `u32` length, a `u8` number of descriptors, and that many bytes of JSON (at most [`MAX_FRAME`]). The launcher listens; the daemon connects. The
//! first frame of each side is a [`Hello`]. Unknown fields are ignored, unknown verbs are answered with [`ErrorKind::Unsupported`]: launchers
//! that are months older than the daemon are the normal case. File descriptors travel beside the frame that names them (`SCM_RIGHTS`).
//!
//! What each release says is kept in `tests/transcripts`, and read with today's types.

pub mod frame;
pub mod inspect;
pub mod message;
pub mod report;

pub use frame::{Connection, FrameError, MAX_FRAME};
pub use inspect::{FoundDisk, Inspected, InspectedDisk};
pub use message::{
    DhcpServe, ErrorKind, HOTPLUG, Hello, Incoming, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Request,
    Stream, Unplugged, Verb, WireError,
};
pub use report::{
    AgentInfo, BlockStats, EndReason, GuestInterface, MemoryStats, NetStats, PauseReason,
    Statistics, VcpuStats, VmReport, VmState,
};
