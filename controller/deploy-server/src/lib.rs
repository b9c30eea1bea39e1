//! Serves the deploy agents of hosts that are inspected, written or cleaned.
//!
//! ```text
//!   state machine ── enrol ──> Enrolment{iso_url, …}        BMC ── GET iso ──────────> Template + the host's parameters
//!                 ── ask ────> command id                   agent ── session, command ─> Hosts ── Ledger
//!                 <─ status ── inventory, progress, outcome  agent ── image, config drive ─> files with ranges
//! ```
//!
//! A host's ISO is never written: the [`Template`] is read, and the slot with the parameters is laid over it as it is sent. So a thousand
//! hosts cost a thousand tokens and no disk.
//!
//! [`DeployServer`] is a handle for whoever drives hosts; all its clones share one state. [`DeployServer::router`] is what is served, and
//! [`serve()`] serves it over HTTPS. What has to outlive the controller's process (who has which token and session) is written to a
//! [`Ledger`]; everything else is told again by the agents. Nothing here knows Kubernetes.

mod config_drive;
mod error;
mod files;
mod host;
mod ledger;
mod routes;
mod serve;
mod server;
mod template;
mod token;

pub use config_drive::{ConfigDriveFiles, config_drive};
pub use error::{Denied, DeployError};
pub use host::{Status, Told};
pub use ledger::{Ledger, LedgerError, MemoryLedger, Record};
pub use serve::{serve, server_config};
pub use server::{DeployServer, Enrolment, Settings, Wanted};
pub use template::Template;
