//! Bridge binding: the guest takes over the MAC address and the addresses of the pod's interface. Segment binding: a bridge likewise, and the
//! guest has a MAC address of its own and its addresses from the network.
//!
//! ```text
//!   eth0 (another MAC, no addresses) ── br-tap0 ── tap0 ── guest (the pod's MAC, the pod's addresses by DHCP)
//! ```

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::record::Record;
use super::{
    BindRequest, BoundNic, bridge_name, dhcp_base, ensure_tap, no_bridge_netfilter, table_name,
};
use crate::dhcp::{DhcpV4, DhcpV6};
use crate::error::Error;
use crate::netlink::{LinkChange, Netlink};
use crate::{nft, sysctl};

/// Address of our DHCP server on the bridge: link-local, since the pod's own address is the guest's now.
const SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 75, 10);

pub(super) async fn bind(
    netlink: &Netlink,
    request: &BindRequest,
    record: &Record,
) -> Result<BoundNic, Error> {
    let name = bridge_name(&request.tap);
    let mtu = request.mtu.unwrap_or(record.mtu).min(record.mtu);
    let wished = request.guest_mac.filter(|_| record.segment);
    let guest_mac = wished.unwrap_or(record.mac);
    no_bridge_netfilter()?;
    nft::replace_table(
        "bridge",
        &table_name(&request.tap),
        &render(&request.tap, &guest_mac.to_string(), record.segment),
    )?;

    let bridge = netlink
        .ensure_bridge(&name, record.mac.derived("bridge"))
        .await?;
    sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_dad"), "0")?;
    sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink
        .change(
            &bridge,
            LinkChange {
                mac: Some(record.mac.derived("bridge")),
                mtu: Some(mtu),
                ..up
            },
        )
        .await?;
    if record.segment {
        sysctl::set_if_present(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    } else {
        netlink
            .add_address(&bridge, IpNet::V4(Ipv4Net::new_assert(SERVER, 32)))
            .await?;
    }

    let interface = netlink.expect_link(&request.interface).await?;
    // Takes its IPv6 addresses away, the link-local one too, and keeps it silent.
    sysctl::set_if_present(
        &format!("ipv6/conf/{}/disable_ipv6", request.interface),
        "1",
    )?;
    for address in netlink.addresses(&interface).await? {
        netlink.delete_address(&interface, address).await?;
    }
    let port = LinkChange {
        controller: Some(bridge.index),
        ..up
    };
    netlink
        .change(
            &interface,
            LinkChange {
                mac: Some(record.mac.derived("port")),
                ..port
            },
        )
        .await?;

    let tap = ensure_tap(netlink, request).await?;
    sysctl::set_if_present(&format!("ipv6/conf/{}/disable_ipv6", request.tap), "1")?;
    netlink
        .change(
            &tap,
            LinkChange {
                mac: Some(record.mac.derived("tap")),
                mtu: Some(mtu),
                ..port
            },
        )
        .await?;

    let mut dhcp = dhcp_base(request, name, guest_mac, mtu);
    if record.segment {
        return Ok(BoundNic {
            tap: request.tap.clone(),
            mac: guest_mac,
            mtu,
            dhcp,
        });
    }
    dhcp.v4 = record.v4().map(|address| DhcpV4 {
        address,
        server: SERVER,
        gateway: v4_routes(record)
            .find_map(|(net, gateway)| gateway.filter(|_| net.prefix_len() == 0)),
        routes: v4_routes(record)
            .filter(|(net, _)| net.prefix_len() != 0)
            .collect(),
    });
    dhcp.v6 = record.v6().map(|address| DhcpV6 {
        address,
        router: request.router,
        router_is_ours: false,
    });
    Ok(BoundNic {
        tap: request.tap.clone(),
        mac: record.mac,
        mtu,
        dhcp,
    })
}

/// Removes the bridge and gives the interface back what it had.
pub(super) async fn unbind(
    netlink: &Netlink,
    tap: &str,
    record: Option<&Record>,
) -> Result<(), Error> {
    netlink.delete_link(&bridge_name(tap)).await?;
    let Some(record) = record.filter(|record| record.bridge) else {
        return Ok(());
    };
    let Some(interface) = netlink.link(&record.interface).await? else {
        return Ok(());
    };
    let change = LinkChange {
        mac: Some(record.mac),
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.change(&interface, change).await?;
    // Not before: the link-local address is made of the MAC address at this moment.
    sysctl::set_if_present(&format!("ipv6/conf/{}/disable_ipv6", record.interface), "0")?;
    for address in &record.addresses {
        netlink.add_address(&interface, *address).await?;
    }
    // A gateway is reached by the routes on link, so these come first.
    for route in record.routes.iter().filter(|route| route.gateway.is_none()) {
        netlink.add_route(&interface, route).await?;
    }
    for route in record.routes.iter().filter(|route| route.gateway.is_some()) {
        netlink.add_route(&interface, route).await?;
    }
    Ok(())
}

fn v4_routes(record: &Record) -> impl Iterator<Item = (Ipv4Net, Option<Ipv4Addr>)> {
    record
        .routes
        .iter()
        .filter_map(|route| match (route.destination, route.gateway) {
            (IpNet::V4(net), None) => Some((net, None)),
            (IpNet::V4(net), Some(IpAddr::V4(gateway))) => Some((net, Some(gateway))),
            _ => None,
        })
}

/// The guest speaks with its own MAC address only; in the pod's network it asks nobody but us for addresses.
fn render(tap: &str, mac: &str, segment: bool) -> String {
    let own_address = format!(
        "  chain prerouting {{
    type filter hook prerouting priority -200; policy accept;
    iifname \"{tap}\" ether saddr != {mac} drop
  }}
"
    );
    if segment {
        return own_address;
    }
    format!(
        "{own_address}  chain forward {{
    type filter hook forward priority -200; policy accept;
    iifname \"{tap}\" meta protocol ip udp dport 67 drop
    oifname \"{tap}\" meta protocol ip udp sport 67 drop
    iifname \"{tap}\" meta protocol ip6 udp dport 547 drop
    oifname \"{tap}\" meta protocol ip6 udp sport 547 drop
    iifname \"{tap}\" icmpv6 type nd-router-solicit drop
    oifname \"{tap}\" icmpv6 type nd-router-advert drop
  }}
"
    )
}
