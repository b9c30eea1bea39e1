//! What the deploy agent and the controller say to each other.
//!
//! The agent runs on a server that was booted from the deploy ISO. It asks; the controller never calls it. All is JSON over HTTPS, below
//! [`base`], the controller's certificate checked against the CA in the agent's [`Parameters`]:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST session` | [`Hello`] | 200 [`Welcome`], or 403 where the token is used up or wrong |
//! | `POST inventory` | [`Inventory`] | 204 |
//! | `GET command?after=ID` | | 200 [`Command`] with another id; 204 when there was none for [`POLL_SECONDS`] |
//! | `POST progress` | [`Progress`] | 200 [`Directive`] |
//! | `POST outcome` | [`Outcome`] | 204 |
//! | `GET config-drive/ID` | | 200, the file system of the config drive that command ID names |
//!
//! The token of the parameters opens one session: the first `POST session` binds it to the random key in it, which is the bearer token of
//! all other requests. The same key may be sent again (an answer got lost, the agent was started anew); another key with the same
//! token is refused. So a copy of the ISO that lies about in a BMC opens nothing once the host has booted from it.
//!
//! A command stands until its outcome is told. An agent that starts anew is given the command it had, and begins it from the start: every
//! action is idempotent. Unknown fields are ignored, an unknown action is answered with [`Reason::Unsupported`].
//!
//! Everything here is data and pure functions; nothing reads a file or a clock.

mod command;
mod hints;
mod inventory;
mod network;
mod outcome;
mod parameters;
mod slot;

pub use command::{
    Action, Checksum, ChecksumKind, Command, ConfigDrive, Format, Image, WipeScope, WriteImage,
};
pub use hints::{DEFAULT_MIN_BYTES, GIB, NoDisk, RootDeviceHints, choose};
pub use inventory::{
    Bios, Cpu, Disk, DiskKind, Firmware, Inventory, Nic, SystemVendor, disk_order,
};
pub use network::{Link, LinkKind, Network, NetworkData, NetworkKind, Route, Service};
pub use outcome::{Answer, Directive, Failure, Outcome, Progress, Reason, Result, Step};
pub use parameters::{Hello, Parameters, ParametersError, Welcome};
pub use slot::{SLOT_NAME, SLOT_SIZE, SlotError, find_slot, render_slot};

/// Version of this protocol. A controller refuses an agent of another one.
pub const VERSION: u32 = 1;

/// How long the controller holds `GET command` when there is nothing to do, seconds.
pub const POLL_SECONDS: u64 = 20;

/// The path below which everything about one host is: `/deploy/v1/hosts/HOST`.
#[must_use]
pub fn base(host: &str) -> String {
    format!("/deploy/v1/hosts/{host}")
}

/// Whether `host` may stand in a path: 1 to 253 of `a-z A-Z 0-9 . _ -`, not beginning with a dot.
#[must_use]
pub fn is_host(host: &str) -> bool {
    (1..=253).contains(&host.len())
        && !host.starts_with('.')
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn hosts_are_safe_in_a_path() {
        for good in ["a", "metal.rack1-7", "3fa85f64-5717-4562-b3fc-2c963f66afa6"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a/b", "..", ".x", "a b", "ä"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
