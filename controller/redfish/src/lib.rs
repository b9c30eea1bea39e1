//! Talks Redfish to the BMCs of servers: power and fencing, boot override, virtual media, BIOS settings, secure boot, inventory,
//! sensors, the event log.
//!
//! One [`Bmc`] stands for one BMC and one system behind it; its clones share everything. BMCs are slow, hang, lie and differ, so
//!
//! - one request is in flight for each BMC; a request of [`Bmc::fencing`] goes before all others and takes the place of a read under way;
//! - no request is without a timeout, and no operation without a deadline ([`Bmc::within`], [`Limits::operation`]);
//! - one session is kept for each BMC, and deleted by [`Bmc::close`]; basic authentication is used where sessions never worked;
//! - what may be repeated is repeated by one table of rules (`retry`), everything else is not;
//! - links are followed, never built, and never to another host; allowable values are looked at before an action is asked for;
//! - no power state is believed before it was read back, and an unknown one is never *off*;
//! - what is peculiar to a vendor is data: [`Quirks`].
//!
//! ```text
//!   inventory  sensors  log  boot  media  bios  secure_boot  power  fence       what a controller asks for
//!        \        \       \    \     |      |      /        |     /
//!                     Bmc (resource, task, etag ladder)            Redfish's habits
//!                              |
//!              exchange: gate · session · retry · breaker          one request at a time
//!                              |
//!                       wire (reqwest, rustls)                     one HTTP exchange with a timeout
//! ```
//!
//! Nothing here knows Kubernetes. Errors name the BMC, the path, the status and what the BMC said, never credentials.

mod address;
mod bios;
mod bmc;
mod boot;
mod breaker;
mod discovery;
mod error;
mod etag;
mod exchange;
mod fence;
mod gate;
mod inventory;
mod limits;
mod log;
mod media;
mod message;
mod power;
mod quirks;
mod resource;
mod retry;
mod secure_boot;
mod sensors;
mod session;
mod storage;
mod task;
mod tls;
mod wire;

pub use address::{Address, AddressError, Delivery};
pub use bios::{Attribute, Bios, Change};
pub use bmc::{Bmc, Credentials, Endpoint};
pub use boot::{BootDevice, BootMode, BootOverride};
pub use discovery::{Identity, System};
pub use error::{Error, Kind};
pub use fence::Fenced;
pub use inventory::{Disk, DiskKind, Inventory, Nic, Processors};
pub use limits::Limits;
pub use log::{EventLog, LogEntry};
pub use media::Slot;
pub use message::Message;
pub use power::{PowerChange, PowerOff, PowerState};
pub use quirks::{Include, QuirkTable, QuirkTableError, Quirks};
pub use resource::Resource;
pub use secure_boot::SecureBoot;
pub use sensors::{Bounds, Sensor, SensorKind, Sensors};
pub use tls::{Fingerprint, FingerprintError, Trust};
pub use wire::Connector;
