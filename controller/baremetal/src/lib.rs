//! Servers as `BareMetalHost` resources: which state one is in, what is to be done next, its power, and fencing.
//!
//! ```text
//!              no BMC                  BMC given
//!   (new) ───────────▶ unmanaged ───────────────┐
//!     └─────────────────────────────────────────▼
//!                                          registering ───────────────▶ externally provisioned
//!                         inspection disabled │  │                        ▲          │ flag cleared
//!                              ┌──────────────┘  ▼                        │          ▼
//!                              │            inspecting ◀── annotation ─┐  │      provisioned
//!                              ▼                 │                     │  │       ▲     │ image gone or another
//!                          preparing ◀───────────┘                     │  │       │     ▼
//!                              │    └◀──── boot mode changed ─────── available    │  deprovisioning
//!                              └─────────────────────────────────────▶ │  ▲       │     │
//!                                                       image, online  ▼  └───────┼─────┘
//!                                                                 provisioning ───┘
//!   deleted:  new, unmanaged, registering, detached ───────────────────────────────────────▶ deleting
//!             provisioning, provisioned ──▶ deprovisioning ──▶ powering off before delete ──▶ deleting
//!             all others ─────────────────────────────────────▶ powering off before delete ──▶ deleting
//! ```
//!
//! Errors never change a state: they are counted, shown, and the same step is tried again, later each time. The one exception is a host that
//! is being deleted: what fails there four times in a row is given up, so that a dead BMC can't hold an object for ever.
//!
//! ```text
//!   shell: object, Secret, BMC ──▶ Facts ──▶ decide (pure) ──▶ Step { actions, outcome } ──▶ shell: carried out ──▶ status (pure) ──▶ written
//! ```
//!
//! - `decide` and one module for each state decide; they have no clock, no I/O and no randomness.
//! - [`Shell`] reads, carries out and writes. It knows the cluster by the [`Store`] trait only.
//! - [`Bmcs`] keeps one connection, and so one session, for each host's BMC.
//! - [`Readings`] asks BMCs for people who look: sensors, event logs.
//! - [`fence`](Shell::fence) proves that a host is off, or says that it is not proved.
//! - [`Deploy`] is what inspects, writes and cleans by a program on the host; [`Agents`] does it by deploy agents.

mod agents;
mod annotations;
mod back_off;
mod bmcs;
mod boot_once;
mod conditions;
mod data;
mod decide;
mod deploy;
mod endpoint;
mod facts;
mod fence;
mod firmware;
mod inventory;
mod link;
mod metrics;
mod outcome;
mod per_host;
mod power;
mod preprovisioning;
mod readings;
mod shell;
mod state;
mod states;
mod status;
mod store;

pub use agents::{Agents, Patience};
pub use annotations::{
    BOOT_ONCE, CONFIRMED_OFF, DETACHED, FENCE_HOLD, FENCED, FINALIZER, FORCE_DELETE, HARDWARE,
    INSPECT, PAUSED, REBOOT, STATUS,
};
pub use bmcs::Bmcs;
pub use data::Data;
pub use decide::{Gate, decide, gate};
pub use deploy::{Deploy, Job, Progress};
pub use facts::{Contact, Facts, Login, Seconds, Seen, Trouble};
pub use fence::{NotFenced, Proof};
pub use firmware::{Firmware, SettingsChange};
pub use link::{Link, NodeIdentity, Unlinked, link};
pub use metrics::HostMetrics;
pub use outcome::{Action, ErrorType, Failure, Off, Outcome, Step};
pub use readings::{Part, Readings, Unread};
pub use shell::{Again, BesideCache, DataCache, FirmwareCache, Shell};
pub use state::State;
pub use store::{Companion, HostName, Note, Store, StoreError};
