//! A pod's interface as CNI made it, also after a binding has taken it over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::record::{self, Record};
use crate::attach::Attachment;
use crate::error::Error;
use crate::files;
use crate::mac::MacAddr;
use crate::netlink::Route;
use crate::netns;

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
            Ok(describe(&path, &name, mac, link.mtu, &addresses, &routes))
        },
    )
    .await
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
