//! The few rtnetlink requests that this crate needs, each idempotent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use ipnet::IpNet;
use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::mac::MacAddr;

/// A netlink socket in one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Netlink {
    handle: Handle,
}

/// What we read of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`, `tun`…; `device` where the kernel names no kind.
    pub(crate) kind: String,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    /// Index of the bridge that this is a port of.
    pub(crate) controller: Option<u32>,
    /// Index of the other end of a veth pair, in its own namespace.
    pub(crate) peer: Option<u32>,
    pub(crate) up: bool,
}

/// What we read and write of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// Where it leads; `0.0.0.0/0` or `::/0` for the default route.
    pub(crate) destination: IpNet,
    /// The next hop; on link when none.
    pub(crate) gateway: Option<IpAddr>,
}

/// What is to be made of a link; `None` leaves a property as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkChange {
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
    /// Index of the bridge it becomes a port of; 0 for none.
    pub(crate) controller: Option<u32>,
    pub(crate) up: Option<bool>,
    /// The kernel makes no link-local address by itself.
    pub(crate) no_link_local: bool,
}

impl Netlink {
    pub(crate) fn new(handle: Handle) -> Netlink {
        Netlink { handle }
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, Error> {
        let links = self.handle.link().get().execute();
        links
            .map_ok(read_link)
            .try_collect()
            .await
            .map_err(Error::netlink("list the links"))
    }

    /// The link called `name`, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut answers = Box::pin(self.handle.link().get().match_name(name).execute());
        match answers.try_next().await {
            Ok(message) => Ok(message.map(read_link)),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::netlink(format!("look for the link {name}"))(error)),
        }
    }

    /// Deletes the link called `name`; none there is fine.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.link(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(Error::netlink(format!("delete the link {name}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Makes a bridge, or takes the one that is there; returns it as it is (the caller sets the rest).
    ///
    /// It has its MAC address from the first moment, since its link-local address is made of it.
    pub(crate) async fn ensure_bridge(&self, name: &str, mac: MacAddr) -> Result<Link, Error> {
        if let Some(link) = self.link(name).await? {
            if link.kind != "bridge" {
                return Err(Error::NotABridge {
                    name: link.name,
                    kind: link.kind,
                });
            }
            return Ok(link);
        }
        // Without a querier on the bridge, snooping can only lose neighbour discovery.
        let message = LinkBridge::new(name)
            .address(mac.bytes().to_vec())
            .mcast_snooping(false)
            .forward_delay(0)
            .build();
        let action = format!("make the bridge {name}");
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(Error::netlink(action))?;
        self.expect_link(name).await
    }

    /// Makes a veth pair in one step: `host` here, `peer` in the namespace `netns`.
    pub(crate) async fn add_veth(
        &self,
        (host, host_mac): (&str, MacAddr),
        (peer, peer_mac): (&str, MacAddr),
        netns: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), Error> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .address(peer_mac.bytes().to_vec())
            .mtu(mtu)
            .setns_by_fd(netns.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(host)
            .address(host_mac.bytes().to_vec())
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let action = format!("make the veth pair {host}");
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(Error::netlink(action))
    }

    /// Changes a link.
    pub(crate) async fn change(&self, link: &Link, change: LinkChange) -> Result<(), Error> {
        let LinkChange {
            mac,
            mtu,
            controller,
            up,
            no_link_local,
        } = change;
        let mut message = LinkUnspec::new_with_index(link.index);
        if let Some(mac) = mac.filter(|mac| link.mac != Some(*mac)) {
            message = message.address(mac.bytes().to_vec());
        }
        if let Some(mtu) = mtu.filter(|mtu| link.mtu != *mtu) {
            message = message.mtu(mtu);
        }
        if let Some(controller) = controller.filter(|index| link.controller.unwrap_or(0) != *index)
        {
            message = message.controller(controller);
        }
        if no_link_local && crate::sysctl::get("ipv6/conf/all/disable_ipv6")?.is_some() {
            let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            message = message.append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![
                AfSpecUnspec::Inet6(vec![none]),
            ]));
        }
        message = match up {
            Some(true) => message.up(),
            Some(false) => message.down(),
            None => message,
        };
        let action = format!("set up the link {}", link.name);
        self.handle
            .link()
            .set(message.build())
            .execute()
            .await
            .map_err(Error::netlink(action))
    }

    /// Addresses of a link. Link-local ones are among them.
    pub(crate) async fn addresses(&self, link: &Link) -> Result<Vec<IpNet>, Error> {
        let answers = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute();
        let messages: Vec<AddressMessage> = answers.try_collect().await.map_err(Error::netlink(
            format!("list the addresses of {}", link.name),
        ))?;
        Ok(messages.iter().filter_map(read_address).collect())
    }

    /// Adds an address without duplicate detection (it would take a second); one that is there is fine.
    pub(crate) async fn add_address(&self, link: &Link, address: IpNet) -> Result<(), Error> {
        let mut request =
            self.handle
                .address()
                .add(link.index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request
                .message_mut()
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => Err(Error::netlink(format!(
                "add {address} to {}",
                link.name
            ))(error)),
            _ => Ok(()),
        }
    }

    /// Removes an address; one that is not there is fine.
    pub(crate) async fn delete_address(&self, link: &Link, address: IpNet) -> Result<(), Error> {
        let message = match address {
            IpNet::V4(net) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(link.index)
                .address(net.addr(), net.prefix_len())
                .build(),
            IpNet::V6(net) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(link.index)
                .address(net.addr(), net.prefix_len())
                .build(),
        };
        match self.handle.address().del(message).execute().await {
            Err(error) if errno(&error) != Some(libc::EADDRNOTAVAIL) => Err(Error::netlink(
                format!("remove {address} from {}", link.name),
            )(error)),
            _ => Ok(()),
        }
    }

    /// Unicast routes of the main table over a link, without those that the kernel makes itself.
    pub(crate) async fn routes(&self, link: &Link) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let answers = self.handle.route().get(query).execute();
            let action = format!("list the routes over {}", link.name);
            let messages: Vec<RouteMessage> = answers
                .try_collect()
                .await
                .map_err(Error::netlink(action))?;
            routes.extend(
                messages
                    .iter()
                    .filter_map(|message| read_route(message, link.index)),
            );
        }
        Ok(routes)
    }

    /// Adds a route over a link; one that is there is fine.
    pub(crate) async fn add_route(&self, link: &Link, route: &Route) -> Result<(), Error> {
        let length = route.destination.prefix_len();
        let message = match (route.destination.addr(), route.gateway) {
            (IpAddr::V4(destination), gateway) => {
                let message =
                    RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(destination, length);
                match gateway {
                    Some(IpAddr::V4(gateway)) => message.gateway(gateway),
                    Some(IpAddr::V6(gateway)) => message.via(gateway),
                    None => message.scope(rtnetlink::packet_route::route::RouteScope::Link),
                }
                .output_interface(link.index)
                .build()
            }
            (IpAddr::V6(destination), gateway) => {
                let message =
                    RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(destination, length);
                match gateway {
                    Some(IpAddr::V6(gateway)) => message.gateway(gateway),
                    _ => message,
                }
                .output_interface(link.index)
                .build()
            }
        };
        match self.handle.route().add(message).execute().await {
            Err(error) if errno(&error) != Some(libc::EEXIST) => Err(Error::netlink(format!(
                "add the route to {} over {}",
                route.destination, link.name
            ))(error)),
            _ => Ok(()),
        }
    }

    /// The link called `name`, which must be there.
    pub(crate) async fn expect_link(&self, name: &str) -> Result<Link, Error> {
        self.link(name).await?.ok_or_else(|| Error::System {
            action: format!("find the link {name}"),
            source: std::io::Error::from_raw_os_error(libc::ENODEV),
        })
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

fn read_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: "device".to_owned(),
        mac: None,
        mtu: 0,
        controller: None,
        peer: None,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes).ok().map(MacAddr::new);
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn read_address(message: &AddressMessage) -> Option<IpNet> {
    // IFA_LOCAL is our own address where the two differ (point to point).
    let pick = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) if local => Some(*ip),
                AddressAttribute::Address(ip) if !local => Some(*ip),
                _ => None,
            })
    };
    IpNet::new(
        pick(true).or_else(|| pick(false))?,
        message.header.prefix_len,
    )
    .ok()
}

fn read_route(message: &RouteMessage, index: u32) -> Option<Route> {
    // RTPROT_KERNEL: made with an address and gone with it.
    let made_by_kernel = u8::from(message.header.protocol) == 2;
    let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    if message.header.kind != RouteType::Unicast || made_by_kernel || !main {
        return None;
    }
    let over =
        |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(oif) if *oif == index);
    if !message.attributes.iter().any(over) {
        return None;
    }
    let mut destination = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut gateway = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = read_ip(address)?,
            RouteAttribute::Gateway(address) => gateway = read_ip(address),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        gateway,
    })
}

fn read_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
