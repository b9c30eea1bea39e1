//! Masquerade binding: NAT between the pod's interface and the tap, in both families.

use std::fmt::Write;
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::record::Record;
use super::{BindRequest, BoundNic, GuestPort, dhcp_base, ensure_tap, table_name, v4_at, v6_at};
use crate::dhcp::{DhcpV4, DhcpV6};
use crate::error::Error;
use crate::expose::Protocol;
use crate::netlink::{LinkChange, Netlink};
use crate::{nft, sysctl};

/// The gateway's link-local address, the same in every VM: its network has nobody else.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

pub(super) async fn bind(
    netlink: &Netlink,
    request: &BindRequest,
    record: &Record,
    ports: &[GuestPort],
    (v4, v6): (Ipv4Net, Ipv6Net),
) -> Result<BoundNic, Error> {
    let mtu = request.mtu.unwrap_or(record.mtu).min(record.mtu);
    let with_v6 = record.v6().is_some() && mtu >= 1280;
    let mac = request
        .guest_mac
        .unwrap_or_else(|| record.mac.derived("guest"));
    let interface = &request.interface;

    let rules = render(interface, &request.tap, ports, v4, with_v6.then_some(v6));
    nft::replace_table("inet", &table_name(&request.tap), &rules)?;
    if with_v6 {
        // A forwarding namespace ignores router advertisements unless told; the pod's own route may come from one.
        let accept = format!("ipv6/conf/{interface}/accept_ra");
        if sysctl::get(&accept)?.as_deref() == Some("1") {
            sysctl::set(&accept, "2")?;
        }
        sysctl::set_if_present("ipv6/conf/all/forwarding", "1")?;
    }
    sysctl::set("ipv4/ip_forward", "1")?;

    let tap = ensure_tap(netlink, request).await?;
    let conf = |family: &str, name: &str| format!("{family}/conf/{}/{name}", request.tap);
    sysctl::set(&conf("ipv4", "route_localnet"), "1")?;
    sysctl::set_if_present(&conf("ipv6", "accept_dad"), "0")?;
    sysctl::set_if_present(&conf("ipv6", "accept_ra"), "0")?;
    let change = LinkChange {
        mac: Some(mac.derived("gateway")),
        mtu: Some(mtu),
        ..LinkChange::default()
    };
    netlink
        .change(
            &tap,
            LinkChange {
                up: Some(true),
                no_link_local: true,
                ..change
            },
        )
        .await?;
    let mut addresses = vec![IpNet::V4(Ipv4Net::new_assert(
        v4_at(v4, 1),
        v4.prefix_len(),
    ))];
    if with_v6 {
        addresses.push(IpNet::V6(Ipv6Net::new_assert(ROUTER, 64)));
        addresses.push(IpNet::V6(Ipv6Net::new_assert(
            v6_at(v6, 1),
            v6.prefix_len(),
        )));
    }
    for address in addresses {
        netlink.add_address(&tap, address).await?;
    }

    let mut dhcp = dhcp_base(request, request.tap.clone(), mac, mtu);
    dhcp.v4 = Some(DhcpV4 {
        address: Ipv4Net::new_assert(v4_at(v4, 2), v4.prefix_len()),
        server: v4_at(v4, 1),
        gateway: Some(v4_at(v4, 1)),
        routes: Vec::new(),
    });
    dhcp.v6 = with_v6.then(|| DhcpV6 {
        address: Ipv6Net::new_assert(v6_at(v6, 2), v6.prefix_len()),
        router: Some(ROUTER),
        router_is_ours: true,
    });
    Ok(BoundNic {
        tap: request.tap.clone(),
        mac,
        mtu,
        dhcp,
    })
}

/// The body of the table. The guest can send from its own address only; it is reached from the interface and from
/// the namespace itself (probes), on `ports` or on all.
fn render(
    interface: &str,
    tap: &str,
    ports: &[GuestPort],
    v4: Ipv4Net,
    v6: Option<Ipv6Net>,
) -> String {
    let (guest, gateway) = (v4_at(v4, 2), v4_at(v4, 1));
    let mut text = String::new();
    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  chain {name} {{\n    type {hook}; policy accept;");
        for rule in rules {
            let _ = writeln!(text, "    {rule}");
        }
        text.push_str("  }\n");
    };

    let mut raw = vec![
        format!("iifname \"{tap}\" ip daddr 127.0.0.0/8 drop"),
        format!("iifname \"{tap}\" ip saddr != {{ {guest}, 0.0.0.0 }} drop"),
        format!("iifname \"{tap}\" icmp type redirect drop"),
        format!("iifname \"{tap}\" icmpv6 type {{ nd-router-advert, nd-redirect }} drop"),
    ];
    match v6 {
        Some(v6) => {
            raw.push(format!(
                "iifname \"{tap}\" ip6 saddr != {{ {}, ::, fe80::/64 }} drop",
                v6_at(v6, 2)
            ));
        }
        None => raw.push(format!("iifname \"{tap}\" meta protocol ip6 drop")),
    }
    chain("raw", "filter hook prerouting priority -300", &raw);

    let forward = [
        format!("iifname \"{tap}\" oifname \"{interface}\" accept"),
        format!("iifname \"{tap}\" drop"),
        format!("oifname \"{tap}\" ct state established,related accept"),
        format!("oifname \"{tap}\" ct status dnat accept"),
        format!("oifname \"{tap}\" drop"),
    ];
    chain("forward", "filter hook forward priority filter", &forward);

    let inward = selectors(ports);
    let mut prerouting = Vec::new();
    let mut output = Vec::new();
    for selector in &inward {
        let head = format!("iifname \"{interface}\" fib daddr type local {selector}");
        prerouting.push(format!("{head} dnat ip to {guest}"));
        output.push(format!(
            "fib daddr type local {selector} dnat ip to {guest}"
        ));
        if let Some(v6) = v6 {
            prerouting.push(format!("{head} dnat ip6 to {}", v6_at(v6, 2)));
            // ::1 cannot leave the namespace.
            let own = format!("fib daddr type local ip6 daddr != ::1 {selector}");
            output.push(format!("{own} dnat ip6 to {}", v6_at(v6, 2)));
        }
    }
    if ports.is_empty() {
        prerouting.push(format!(
            "iifname \"{interface}\" fib daddr type local meta l4proto icmp dnat ip to {guest}"
        ));
        if let Some(v6) = v6 {
            let echo = "icmpv6 type echo-request";
            prerouting.push(format!(
                "iifname \"{interface}\" fib daddr type local {echo} dnat ip6 to {}",
                v6_at(v6, 2)
            ));
        }
    }
    chain(
        "prerouting",
        "nat hook prerouting priority dstnat",
        &prerouting,
    );
    chain("output", "nat hook output priority -100", &output);

    let mut postrouting = vec![
        format!("ip saddr {guest} oifname \"{interface}\" masquerade"),
        format!("ip saddr 127.0.0.0/8 oifname \"{tap}\" snat ip to {gateway}"),
    ];
    postrouting.extend(v6.map(|v6| {
        format!(
            "ip6 saddr {} oifname \"{interface}\" masquerade",
            v6_at(v6, 2)
        )
    }));
    chain(
        "postrouting",
        "nat hook postrouting priority srcnat",
        &postrouting,
    );
    text
}

/// Matches for what is let in.
fn selectors(ports: &[GuestPort]) -> Vec<String> {
    if ports.is_empty() {
        return vec!["meta l4proto { tcp, udp, sctp }".to_owned()];
    }
    let mut selectors = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut list: Vec<u16> = ports
            .iter()
            .filter(|p| p.protocol == protocol)
            .map(|p| p.port)
            .collect();
        list.sort_unstable();
        list.dedup();
        if !list.is_empty() {
            let list: Vec<String> = list.iter().map(u16::to_string).collect();
            selectors.push(format!("{protocol} dport {{ {} }}", list.join(", ")));
        }
    }
    selectors
}
