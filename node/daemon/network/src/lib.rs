//! Attachment and binding of guest and pod networks.
//!
//! Two separate things (`docs/explanation`, decision 22):
//!
//! - **attachment**: someone gives a network namespace with addresses in it. On Kubernetes that is CNI; under `play` it
//!   is [`HostNetwork`]: one bridge, a veth pair per VM, addresses of our own kept in files.
//! - **binding**: tap, bridge and nftables inside a given namespace, for one guest NIC ([`bind()`], [`unbind`]). The same
//!   in both worlds.
//!
//! ```text
//!  host netns                                      VM's netns (a bind mount under <folder>/netns)
//!  ┌──────────────────────────────┐                ┌─────────────────────────────────────────────┐
//!  │ uplink ── nft inet/bridge ── ctm0 ── ctmv… ───┼── eth0 ── nft NAT ── tap0 ── QEMU (masquerade)
//!  │            dns server on .1  │                │   eth0 ── br-tap0 ── tap0 ── QEMU (bridge)
//!  └──────────────────────────────┘                └─────────────────────────────────────────────┘
//! ```
//!
//! Nothing lives in the memory of the daemon only: leases, host ports and the sysctls that were changed are files, links
//! and rules are in the kernel, the DNS server is a process of its own. Every verb is idempotent and may be killed at
//! any line: run again, it converges.
//!
//! Everything here runs as root; what parses bytes made by a guest (DNS) runs in an unprivileged child process
//! ([`dns::child_main`]), and the DHCP sockets ([`open_dhcp_sockets`]) are handed to the VM's own sandbox.

mod attach;
mod bind;
pub mod cni;
mod config;
mod dhcp;
pub mod dns;
mod error;
mod expose;
mod files;
mod guard;
mod host;
mod ipam;
mod key;
mod mac;
mod netlink;
mod netns;
mod nft;
mod snapshot;
mod sysctl;

pub use attach::Attachment;
pub use bind::{BindRequest, Binding, BoundNic, GuestPort, bind, examine, interface_mtu, unbind};
pub use config::NetworkConfig;
pub use dhcp::{DhcpConfig, DhcpSockets, DhcpV4, DhcpV6, open_dhcp_sockets};
pub use error::Error;
pub use expose::{HostPort, Owner, OwnerKind, PortTarget, Protocol};
pub use host::HostNetwork;
pub use ipam::Lease;
pub use key::Key;
pub use mac::MacAddr;
pub use snapshot::{Snapshot, snapshot};
