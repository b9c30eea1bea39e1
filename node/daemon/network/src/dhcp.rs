//! What the DHCP, DHCPv6 and router-advertisement servers of a VM say, and the sockets they use.
//!
//! The servers parse bytes made by the guest, so they run in the VM's sandbox, without privileges. The daemon opens the
//! sockets in the VM's network namespace and passes them in.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::mac::MacAddr;
use crate::netns;

/// What one guest NIC is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpConfig {
    /// Interface in the VM's namespace on which the guest is heard: the tap, or the bridge it is a port of.
    pub device: String,
    /// The guest's MAC address; nobody else is answered.
    pub mac: MacAddr,
    /// Host name, without domain.
    pub hostname: Option<String>,
    /// Domain search list.
    pub domain_search: Vec<String>,
    /// Name servers.
    pub dns_v4: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns_v6: Vec<Ipv6Addr>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Lease time; infinite when none.
    pub lease: Option<Duration>,
    /// IPv4, where the interface has it.
    pub v4: Option<DhcpV4>,
    /// IPv6, where the interface has it.
    pub v6: Option<DhcpV6>,
}

/// The IPv4 part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpV4 {
    /// The guest's address with its prefix length.
    pub address: Ipv4Net,
    /// Our address: server identifier.
    pub server: Ipv4Addr,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes (option 121): destination and gateway; on link when none.
    pub routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
}

/// The IPv6 part: DHCPv6 gives the address, a router advertisement (managed flag set) the default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpV6 {
    /// The guest's address with the prefix length of its link.
    pub address: Ipv6Net,
    /// Link-local address of the router; the advertisement socket is bound to it. None: no default route is announced.
    ///
    /// With a bridge binding it is the address of another machine: then the advertisement must carry no link-layer
    /// address option (`router_is_ours` is false), and the guest asks for it.
    pub router: Option<Ipv6Addr>,
    /// Whether the device has the router's address.
    pub router_is_ours: bool,
}

/// Sockets in the VM's namespace for its servers, all bound to the device.
#[derive(Debug)]
pub struct DhcpSockets {
    /// UDP 67, broadcast allowed.
    pub v4: OwnedFd,
    /// Raw ICMPv6, member of ff02::2, hop limit 255: every ICMPv6 message to this host is read, so the reader picks router
    /// solicitations (type 133). None without IPv6.
    pub ra: Option<OwnedFd>,
    /// UDP 547, member of ff02::1:2. None without IPv6.
    pub v6: Option<OwnedFd>,
    /// Index of the device in the namespace.
    pub device_index: u32,
    /// MAC address of the device.
    pub device_mac: [u8; 6],
}

/// All routers on the link (RFC 4291).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All DHCPv6 servers and relays on the link (RFC 8415).
const ALL_DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Opens the sockets for a bound NIC; may be called again after the daemon was restarted.
///
/// # Errors
/// The namespace or the device is not there, or the port is taken in it.
pub async fn open_dhcp_sockets(netns: &Path, config: &DhcpConfig) -> Result<DhcpSockets, Error> {
    let (device, v6) = (config.device.clone(), config.v6.clone());
    netns::inside(Some(netns), "open the DHCP sockets", async move |_| {
        let failed = |what: &str| Error::system(format!("open {what} on {device}"));
        let router = v6.as_ref().and_then(|v6| v6.router);
        Ok(DhcpSockets {
            v4: open_v4(&device).map_err(failed("UDP port 67"))?,
            ra: v6
                .as_ref()
                .map(|_| open_ra(&device, router))
                .transpose()
                .map_err(failed("raw ICMPv6"))?,
            v6: v6
                .as_ref()
                .map(|_| open_v6(&device))
                .transpose()
                .map_err(failed("UDP port 547"))?,
            device_index: nix::net::if_::if_nametoindex(device.as_str())
                .map_err(|errno| failed("the index")(errno.into()))?,
            device_mac: device_mac(&device).map_err(failed("the addresses"))?,
        })
    })
    .await
}

fn device_mac(device: &str) -> io::Result<[u8; 6]> {
    let mut addresses =
        nix::ifaddrs::getifaddrs()?.filter(|address| address.interface_name == device);
    let mac = addresses.find_map(|address| address.address?.as_link_addr()?.addr());
    mac.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no MAC address"))
}

fn open(domain: Domain, kind: Type, protocol: Protocol, device: &str) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
    // The one before, in a launcher that is being replaced, may still be open.
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    Ok(socket)
}

fn open_v4(device: &str) -> io::Result<OwnedFd> {
    let socket = open(Domain::IPV4, Type::DGRAM, Protocol::UDP, device)?;
    socket.set_broadcast(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67).into())?;
    Ok(socket.into())
}

fn open_ra(device: &str, router: Option<Ipv6Addr>) -> io::Result<OwnedFd> {
    let socket = open(Domain::IPV6, Type::RAW, Protocol::ICMPV6, device)?;
    let index = nix::net::if_::if_nametoindex(device)?;
    // RFC 4861, 6.1.2: a receiver drops advertisements with another hop limit.
    socket.set_multicast_hops_v6(255)?;
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_loop_v6(false)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    socket.set_multicast_if_v6(index)?;
    if let Some(router) = router {
        // With a bridge binding the router is another machine.
        rustix::net::sockopt::set_ipv6_freebind(&socket, true)?;
        socket.bind(&SocketAddrV6::new(router, 0, 0, index).into())?;
    }
    Ok(socket.into())
}

fn open_v6(device: &str) -> io::Result<OwnedFd> {
    let socket = open(Domain::IPV6, Type::DGRAM, Protocol::UDP, device)?;
    socket.set_only_v6(true)?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 547, 0, 0).into())?;
    socket.join_multicast_v6(&ALL_DHCP_SERVERS, nix::net::if_::if_nametoindex(device)?)?;
    Ok(socket.into())
}
