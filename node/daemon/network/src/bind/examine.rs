//! A pod's interface as CNI made it, also after a binding has taken it over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::record::{self, Record};
use crate::attach::Attachment;
use crate::error::Error;
use crate::files;
use crate::mac::MacAddr;
use crate::netlink::Route;
use crate::netns;

/// Port on which nobody listens.
const DISCARD: u16 = 9;
/// Longest wait for a gateway to say its MAC address.
const NEIGHBOUR: Duration = Duration::from_secs(1);

/// What `interface` in `netns` has, or had before [`super::bind`] was called for `tap` with these `records`. Its IPv4 gateway is `0.0.0.0` where
/// it has none.
///
/// # Errors
/// There is no such interface, it has no address, or the kernel's refusal.
pub async fn examine(
    netns: &Path,
    interface: &str,
    tap: &str,
    records: &Path,
) -> Result<Attachment, Error> {
    let identity = record::identity(netns)?;
    let known: Option<Record> = files::read_record(&record::path(records, tap))?;
    if let Some(known) =
        known.filter(|known| known.identity == identity && known.interface == interface)
    {
        return Ok(describe(
            netns,
            interface,
            known.mac,
            known.mtu,
            &known.addresses,
            &known.routes,
        ));
    }
    let (path, name) = (netns.to_owned(), interface.to_owned());
    netns::inside(
        Some(netns),
        "look at a pod's interface",
        async move |netlink| {
            let missing = || Error::NoInterface {
                netns: path.clone(),
                interface: name.clone(),
            };
            let link = netlink.link(&name).await?.ok_or_else(missing)?;
            let mut addresses = netlink.addresses(&link).await?;
            addresses
                .retain(|net| !matches!(net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local()));
            if addresses.is_empty() {
                return Err(Error::NoAddress {
                    netns: path.clone(),
                    interface: name.clone(),
                });
            }
            let routes = netlink.routes(&link).await?;
            let mac = link.mac.ok_or_else(missing)?;
            let mut attachment = describe(&path, &name, mac, link.mtu, &addresses, &routes);
            if let (None, Some(gateway)) = (attachment.gateway_link_local, attachment.gateway_v6) {
                attachment.gateway_link_local = link_local(&name, gateway).await;
            }
            Ok(attachment)
        },
    )
    .await
}

/// MTU of an interface in a namespace, bound or not, in bytes.
///
/// # Errors
/// There is no such interface, or the kernel's refusal.
pub async fn interface_mtu(netns: &Path, interface: &str) -> Result<u32, Error> {
    let (path, name) = (netns.to_owned(), interface.to_owned());
    netns::inside(
        Some(netns),
        "look at a pod's interface",
        async move |netlink| {
            let link = netlink.link(&name).await?;
            let link = link.ok_or_else(|| Error::NoInterface {
                netns: path.clone(),
                interface: name.clone(),
            })?;
            Ok(link.mtu)
        },
    )
    .await
}

/// The link-local address of a gateway that is known by another one: made of its MAC address, as the kernel makes it. `None` when it does not
/// answer.
async fn link_local(interface: &str, gateway: Ipv6Addr) -> Option<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok()?;
    // Whatever is sent makes the kernel ask who has the address.
    socket.connect((gateway, DISCARD)).await.ok()?;
    let deadline = Instant::now() + NEIGHBOUR;
    while Instant::now() < deadline {
        let _ = socket.send(&[]).await;
        let said = Command::new("ip")
            .args([
                "-6",
                "neigh",
                "show",
                &gateway.to_string(),
                "dev",
                interface,
            ])
            .stdin(Stdio::null())
            .output()
            .ok()?;
        if let Some(mac) = neighbour(&String::from_utf8_lossy(&said.stdout)) {
            return Some(mac.link_local());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

/// `fd00::1 lladdr 0a:58:0a:f4:00:01 router REACHABLE`
fn neighbour(line: &str) -> Option<MacAddr> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == "lladdr")?;
    words.next()?.parse().ok()
}

fn describe(
    netns: &Path,
    interface: &str,
    mac: MacAddr,
    mtu: u32,
    addresses: &[ipnet::IpNet],
    routes: &[Route],
) -> Attachment {
    let gateways = routes
        .iter()
        .filter(|route| route.destination.prefix_len() == 0)
        .filter_map(|route| route.gateway);
    let (mut v4, mut v6): (Option<Ipv4Addr>, Option<Ipv6Addr>) = (None, None);
    for gateway in gateways {
        match gateway {
            IpAddr::V4(ip) => v4 = v4.or(Some(ip)),
            IpAddr::V6(ip) => v6 = v6.or(Some(ip)),
        }
    }
    Attachment {
        netns: netns.to_owned(),
        interface: interface.to_owned(),
        mac,
        addresses: addresses.to_vec(),
        gateway_v4: v4.unwrap_or(Ipv4Addr::UNSPECIFIED),
        gateway_v6: v6,
        gateway_link_local: v6.filter(Ipv6Addr::is_unicast_link_local),
        mtu,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbours_address_is_read() {
        let mac = neighbour("fd77:78:1::1 lladdr 0a:58:0a:f4:00:01 router REACHABLE").unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:f4:00:01");
        assert_eq!(neighbour("fd77:78:1::1 FAILED"), None);
    }
}
