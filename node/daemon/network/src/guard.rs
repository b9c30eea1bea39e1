//! Who may say what on the bridge: no VM can use the MAC address or the IP address of a neighbour or of the gateway.
//!
//! Rules of the `bridge` family, written from the leases as a whole. A port with a lease may send only from its own
//! addresses; any other port (a Pod's) may not send from an address that is leased. Also dropped: router advertisements,
//! redirects and DHCP answers of guests, and everything that is neither IPv4, IPv6 nor ARP (tagged frames too).
//!
//! The rules do not name our bridge (`meta ibrname` needs a kernel module that small kernels lack): its addresses are
//! nobody else's on this host, so frames from them on another bridge are wrong too.

use std::fmt::Write;

use crate::config::NetworkConfig;
use crate::ipam::Lease;

/// The body of the table `bridge <table>`.
pub(crate) fn render(config: &NetworkConfig, leases: &[Lease]) -> String {
    let mut text = String::new();
    for lease in leases {
        text.push_str(&render_port(config, lease));
    }
    let mut line = |rule: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {rule}");
    };
    line("chain prerouting {");
    line("type filter hook prerouting priority -200; policy accept;");
    if !leases.is_empty() {
        let ports = join(
            leases
                .iter()
                .map(|l| format!("\"{0}\" : goto port_{0}", l.host_interface)),
        );
        line(&format!("iifname vmap {{ {ports} }}"));
        line(&format!(
            "ether saddr {{ {} }} drop",
            join(leases.iter().map(|l| l.mac.to_string()))
        ));
    }
    line(&format!("ether saddr {} drop", config.bridge_mac()));
    let v4 = join(std::iter::once(config.gateway_v4()).chain(leases.iter().map(|l| l.v4)));
    line(&format!("arp saddr ip {{ {v4} }} drop"));
    line(&format!("ip saddr {{ {v4} }} drop"));
    if let (Some(gateway), Some(link_local)) = (config.gateway_v6(), config.gateway_link_local()) {
        let v6 = || {
            [gateway, link_local]
                .into_iter()
                .chain(leases.iter().filter_map(|l| l.v6))
        };
        line(&format!("ip6 saddr {{ {} }} drop", join(v6())));
        for ip in v6() {
            line(&format!(
                "icmpv6 type nd-neighbor-advert @th,64,128 0x{:032x} drop",
                ip.to_bits()
            ));
        }
    }
    line("}");
    text
}

fn render_port(config: &NetworkConfig, lease: &Lease) -> String {
    let Lease {
        key,
        v4,
        v6,
        mac,
        host_interface,
    } = lease;
    let mut rules = vec![
        format!("ether saddr != {mac} drop"),
        format!("arp saddr ether != {mac} drop"),
        // 0.0.0.0 asks whether an address is free (RFC 5227).
        format!("arp saddr ip {{ 0.0.0.0, {v4} }} accept"),
        "ether type arp drop".to_owned(),
        format!("ip saddr != {v4} drop"),
        "ether type ip udp sport 67 udp dport 68 drop".to_owned(),
        "ether type ip accept".to_owned(),
    ];
    if let (Some(v6), Some(gateway)) = (v6, config.gateway_link_local()) {
        // The target of an advertisement begins 8 bytes into the ICMPv6 header (RFC 4861, 4.4). A guest may choose its
        // link-local address, so only the gateway's is protected among those.
        let advert = "icmpv6 type nd-neighbor-advert @th,64";
        rules.extend([
            format!("ip6 saddr {gateway} drop"),
            format!("ip6 saddr != {{ ::, {v6}, fe80::/64 }} drop"),
            "ip6 saddr :: meta l4proto != ipv6-icmp drop".to_owned(),
            "icmpv6 type { nd-router-advert, nd-redirect } drop".to_owned(),
            "ether type ip6 udp sport 547 udp dport 546 drop".to_owned(),
            format!("{advert},128 0x{:032x} drop", gateway.to_bits()),
            format!("{advert},128 0x{:032x} accept", v6.to_bits()),
            format!("{advert},64 0xfe80000000000000 accept"),
            "icmpv6 type nd-neighbor-advert drop".to_owned(),
            "ether type ip6 accept".to_owned(),
        ]);
    }
    rules.push("drop".to_owned());
    let mut text = format!("  chain port_{host_interface} {{\n  # {key}\n");
    for rule in rules {
        let _ = writeln!(text, "    {rule}");
    }
    text.push_str("  }\n");
    text
}

fn join(items: impl Iterator<Item = impl ToString>) -> String {
    items
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
