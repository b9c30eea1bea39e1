//! Binding: tap, bridge and nftables inside a network namespace, for one guest NIC.
//!
//! Takes any namespace that has an interface with addresses: one of [`crate::HostNetwork::attach`], or a pod's on
//! Kubernetes. Three ways:
//!
//! - [`Binding::Masquerade`]: the guest has a private address; NAT between the pod's interface and the tap.
//! - [`Binding::Bridge`]: the guest gets the pod's own MAC address and addresses; the pod's interface becomes a port of a
//!   bridge.
//! - [`Binding::Segment`]: the same for an interface of another network, which gives the guest its addresses itself.
//!
//! What the interface had is written to disk before anything is touched, so that a second call, or [`unbind`], knows it.

mod bridge;
mod examine;
mod masquerade;
mod record;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::check_interface_name;
use crate::dhcp::DhcpConfig;
use crate::error::Error;
use crate::expose::Protocol;
use crate::files;
use crate::mac::MacAddr;
use crate::netlink::{Link, Netlink};
use crate::{netns, nft, sysctl};
use record::Record;

pub use examine::{examine, interface_mtu};

/// A port of the guest that a masquerade binding lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port, the same on the pod's address and in the guest.
    pub port: u16,
}

/// How a guest NIC is connected to the pod's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// NAT; the guest has an address of its own network.
    Masquerade {
        /// What is let in; everything when empty.
        ports: Vec<GuestPort>,
        /// The guest's network: its first address is the gateway, its second the guest.
        v4: Ipv4Net,
        /// The same for IPv6; used when the pod's interface has IPv6.
        v6: Ipv6Net,
    },
    /// The guest takes over the pod's addresses.
    Bridge,
    /// The guest is a member of the network behind the interface, with a MAC address of its own. It has no addresses from us, and the interface
    /// loses those that it has.
    Segment,
}

impl Binding {
    /// Masquerade with the usual networks, 10.0.2.0/24 and fd10:0:2::/120.
    #[must_use]
    pub fn masquerade(ports: Vec<GuestPort>) -> Binding {
        Binding::Masquerade {
            ports,
            v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24),
            v6: Ipv6Net::new_assert(Ipv6Addr::new(0xfd10, 0, 2, 0, 0, 0, 0, 0), 120),
        }
    }
}

/// Everything about a binding.
#[derive(Debug, Clone)]
pub struct BindRequest {
    /// The namespace.
    pub netns: PathBuf,
    /// The pod's interface in it, `eth0` as a rule.
    pub interface: String,
    /// Name of the tap to make, 1 to 12 characters.
    pub tap: String,
    /// How.
    pub binding: Binding,
    /// Who may open the tap.
    pub owner_uid: u32,
    /// MTU in bytes; the interface's when none.
    pub mtu: Option<u32>,
    /// The guest's MAC address, for a masquerade or segment binding; derived from the interface's, or that itself, when none. With a bridge
    /// binding the guest always has the interface's.
    pub guest_mac: Option<MacAddr>,
    /// Whether the tap may have several queues.
    pub multi_queue: bool,
    /// Host name told to the guest.
    pub hostname: Option<String>,
    /// Domain search list told to the guest.
    pub domain_search: Vec<String>,
    /// Name servers told to the guest.
    pub dns: Vec<IpAddr>,
    /// With a bridge binding: the gateway's link-local address ([`crate::Attachment::gateway_link_local`]). Without it a
    /// guest gets an IPv6 address and no default route.
    pub router: Option<Ipv6Addr>,
    /// Folder of this VM for our records; lives as long as the namespace or longer.
    pub records: PathBuf,
}

/// What the launcher needs to know of a bound NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundNic {
    /// Name of the tap, for QEMU to open.
    pub tap: String,
    /// The guest's MAC address.
    pub mac: MacAddr,
    /// MTU in bytes.
    pub mtu: u32,
    /// What the guest's DHCP servers say; [`crate::open_dhcp_sockets`] opens their sockets.
    pub dhcp: DhcpConfig,
}

/// Makes the binding, or completes it. A running QEMU on the tap is not disturbed by a second call with the same request.
///
/// # Errors
/// The interface is not there or has no address, a name is not one, or the kernel's refusal.
pub async fn bind(request: &BindRequest) -> Result<BoundNic, Error> {
    check_interface_name(&request.interface)?;
    check_interface_name(&bridge_name(&request.tap))?;
    files::make_folder(&request.records)?;
    let identity = record::identity(&request.netns)?;
    let request = request.clone();
    let netns = request.netns.clone();
    netns::inside(Some(&netns), "bind a guest NIC", async move |netlink| {
        let record = record::ensure(netlink, &request, identity).await?;
        match &request.binding {
            Binding::Masquerade { ports, v4, v6 } => {
                masquerade::bind(netlink, &request, &record, ports, (*v4, *v6)).await
            }
            Binding::Bridge | Binding::Segment => bridge::bind(netlink, &request, &record).await,
        }
    })
    .await
}

/// Undoes [`bind`]: removes tap, bridge and rules, gives the interface its addresses back. Nothing there is fine; when
/// the namespace is gone only the record is removed.
///
/// # Errors
/// The kernel's refusal.
pub async fn unbind(netns: &Path, tap: &str, records: &Path) -> Result<(), Error> {
    check_interface_name(&bridge_name(tap))?;
    let path = record::path(records, tap);
    if netns.exists() {
        let identity = record::identity(netns)?;
        let record: Option<Record> = files::read_record(&path)?;
        let record = record.filter(|record| record.identity == identity);
        let tap = tap.to_owned();
        netns::inside(Some(netns), "unbind a guest NIC", async move |netlink| {
            netlink.delete_link(&tap).await?;
            nft::delete_table("inet", &table_name(&tap))?;
            nft::delete_table("bridge", &table_name(&tap))?;
            bridge::unbind(netlink, &tap, record.as_ref()).await
        })
        .await?;
    }
    files::remove_file(&path)
}

/// Name of our nftables table for a tap.
fn table_name(tap: &str) -> String {
    format!("catamaran_{tap}")
}

/// Name of the bridge of a bridge binding.
fn bridge_name(tap: &str) -> String {
    format!("br-{tap}")
}

/// Makes the tap, or takes the one that is there. It is down when it is new.
async fn ensure_tap(netlink: &Netlink, request: &BindRequest) -> Result<Link, Error> {
    let tap = &request.tap;
    if let Some(link) = netlink.link(tap).await? {
        return Ok(link);
    }
    let uid = request.owner_uid.to_string();
    let mut command = Command::new("ip");
    command.args(["tuntap", "add", "name", tap, "mode", "tap", "user", &uid]);
    if request.multi_queue {
        command.arg("multi_queue");
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::system("run ip"))?;
    nft::check("ip", &format!("make the tap {tap}"), &output)?;
    netlink.expect_link(tap).await
}

/// Frames between two ports of a bridge in this namespace pass no IP rules.
fn no_bridge_netfilter() -> Result<(), Error> {
    for family in ["iptables", "ip6tables", "arptables"] {
        sysctl::set_if_present(&format!("bridge/bridge-nf-call-{family}"), "0")?;
    }
    Ok(())
}

/// The address at `offset` of a guest network.
fn v4_at(net: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits() + offset)
}

/// The address at `offset` of a guest network.
fn v6_at(net: Ipv6Net, offset: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits() + offset)
}

/// The part of the guest's configuration that does not depend on the binding.
fn dhcp_base(request: &BindRequest, device: String, mac: MacAddr, mtu: u32) -> DhcpConfig {
    let mut config = DhcpConfig {
        device,
        mac,
        hostname: request.hostname.clone(),
        domain_search: request.domain_search.clone(),
        dns_v4: Vec::new(),
        dns_v6: Vec::new(),
        mtu,
        lease: None,
        v4: None,
        v6: None,
    };
    for server in &request.dns {
        match server {
            IpAddr::V4(ip) => config.dns_v4.push(*ip),
            IpAddr::V6(ip) => config.dns_v6.push(*ip),
        }
    }
    config
}
