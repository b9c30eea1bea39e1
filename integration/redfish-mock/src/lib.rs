//! BMCs that speak Redfish, without machines: for tests, demos, and runs with a thousand hosts in one process.
//!
//! Each [`Mock`] serves any number of BMCs, each on a port of its own with one system behind it, user and password, a session table, ETags,
//! tasks, a boot override that is used up, virtual media, BIOS settings, an inventory. How a BMC behaves is data (a [`Personality`]: Dell,
//! HPE, Supermicro, Lenovo, OpenBMC, or a plain one that follows the standard). What it does wrong is scripted: [`Fault`]s for single
//! requests, a [`Lie`] about power, slowness, a BMC that hangs or is gone ([`Availability`]).
//!
//! A [`Handle`] sees and changes what a client can't: whether the machine really is on, what it booted from, which requests came. The program
//! `catamaran-redfish-mock` offers the same over HTTP ([`admin`]). A command can be run at each power change, so that something real goes on
//! and off with it ([`Options::command`]).
//!
//! ```text
//!   client ──TCP/TLS──> server ──> faults, hang ──> authorisation ──> tree (reads) / change (writes) ──> State
//!   test   ──Handle───────────────────────────────────────────────────────────────────────────────────────^
//!   curl   ──HTTP────> admin ──> Handle
//! ```

pub mod admin;
mod bmc;
mod change;
mod fault;
mod handle;
mod machine;
mod mock;
mod personality;
mod power;
mod reply;
mod request;
mod server;
mod sessions;
mod tasks;
mod tls;
mod tree;

pub use bmc::Options;
pub use fault::{Effect, Fault};
pub use handle::{Handle, Record};
pub use machine::Boot;
pub use mock::{Mock, MockError};
pub use personality::{Personality, PersonalityError};
pub use power::{Lie, Timing};
pub use server::Availability;
pub use tls::Certificate;
