//! Names: a small DNS server on the gateway's addresses.
//!
//! Answers `NAME`, `NAME.NAMESPACE` and both with the zone's suffix; everything else is relayed to the upstreams. It
//! parses bytes made by guests, so it is a process of its own without privileges: the daemon opens the sockets, starts
//! it as an unprivileged user and passes them to it ([`DnsServer::spawn`]); what it should answer it reads from a file in
//! a folder that it was given open ([`publish`]). It outlives the daemon, and the next daemon finds it again.

mod answer;
mod child;
mod serve;
mod zone;

pub use answer::{Reply, answer};
pub use child::{DnsServer, child_main};
pub use serve::{DnsSockets, serve};
pub use zone::{NameRecord, Zone, ZoneFolder, publish, system_resolvers};
