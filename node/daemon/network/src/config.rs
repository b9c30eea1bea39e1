//! What an operator can set about the network of `play`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::mac::MacAddr;

/// The network of `play`: one bridge with one subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Name of the bridge, 1 to 15 characters.
    pub bridge: String,
    /// The IPv4 subnet, /8 to /28. Its first address is the gateway, its lower half is for VMs, its upper half for Pods.
    pub subnet_v4: Ipv4Net,
    /// The IPv6 subnet (ULA), /48 to /112, in the same halves; none for IPv4 only.
    pub subnet_v6: Option<Ipv6Net>,
    /// MTU of bridge and attachments in bytes, 1280 to 65535.
    pub mtu: u32,
    /// Whether traffic to the outside leaves with the address of the host.
    pub masquerade: bool,
    /// Where names that are not ours are asked, in this order.
    pub dns_upstreams: Vec<SocketAddr>,
    /// The zone in which VMs have names: `NAME.NAMESPACE.<zone>`.
    pub zone: String,
    /// Name of our nftables tables (`inet <table>` and `bridge <table>`).
    pub table: String,
    /// Folder of our records: leases, host ports, namespaces.
    pub folder: PathBuf,
}

impl NetworkConfig {
    /// The defaults, with records in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> NetworkConfig {
        NetworkConfig {
            bridge: "ctm0".to_owned(),
            subnet_v4: Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16),
            subnet_v6: Some(Ipv6Net::new_assert(
                Ipv6Addr::new(0xfdca, 0x7a3a, 0x7261, 0, 0, 0, 0, 0),
                64,
            )),
            mtu: 1500,
            masquerade: true,
            dns_upstreams: crate::dns::system_resolvers(),
            zone: "catamaran.internal".to_owned(),
            table: "catamaran".to_owned(),
            folder: folder.into(),
        }
    }

    /// First address of the IPv4 subnet: the bridge's own.
    #[must_use]
    pub fn gateway_v4(&self) -> Ipv4Addr {
        self.v4_at(1)
    }

    /// First address of the IPv6 subnet: the bridge's own.
    #[must_use]
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        self.v6_at(1)
    }

    /// The gateway's link-local address, from which routers must announce themselves.
    #[must_use]
    pub fn gateway_link_local(&self) -> Option<Ipv6Addr> {
        self.subnet_v6.map(|_| self.bridge_mac().link_local())
    }

    /// The gateway's addresses; the DNS server listens on them.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        std::iter::once(IpAddr::V4(self.gateway_v4()))
            .chain(self.gateway_v6().map(IpAddr::V6))
            .collect()
    }

    /// The domain search list of a VM in `namespace`: neighbours by bare name, and those elsewhere as `NAME.NAMESPACE`.
    #[must_use]
    pub fn domain_search(&self, namespace: &str) -> Vec<String> {
        vec![format!("{namespace}.{}", self.zone), self.zone.clone()]
    }

    /// The bridge's MAC address: fixed, so that it does not change with its ports.
    pub(crate) fn bridge_mac(&self) -> MacAddr {
        MacAddr::from_hash(
            &Sha256::new()
                .chain_update("bridge\0")
                .chain_update(&self.bridge)
                .finalize()
                .into(),
        )
    }

    /// Number of addresses in one half of the IPv4 subnet.
    pub(crate) fn half(&self) -> u32 {
        1 << (31 - u32::from(self.subnet_v4.prefix_len()))
    }

    /// The IPv4 address at `offset` in the subnet.
    pub(crate) fn v4_at(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet_v4.network().to_bits() + offset)
    }

    /// The IPv6 address at `offset` in the subnet.
    pub(crate) fn v6_at(&self, offset: u32) -> Option<Ipv6Addr> {
        self.subnet_v6
            .map(|net| Ipv6Addr::from_bits(net.network().to_bits() + u128::from(offset)))
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::InterfaceName`] for the first field that is out of range.
    pub fn validate(&self) -> Result<(), Error> {
        check_interface_name(&self.bridge)?;
        let wrong = |field, value: String, allowed| {
            Err(Error::Config {
                field,
                value,
                allowed,
            })
        };
        if !(8..=28).contains(&self.subnet_v4.prefix_len()) {
            return wrong(
                "the IPv4 subnet",
                self.subnet_v4.to_string(),
                "a prefix length of 8 to 28",
            );
        }
        if let Some(net) = self
            .subnet_v6
            .filter(|net| !(48..=112).contains(&net.prefix_len()))
        {
            return wrong(
                "the IPv6 subnet",
                net.to_string(),
                "a prefix length of 48 to 112",
            );
        }
        if !(1280..=65535).contains(&self.mtu) {
            return wrong("the MTU", self.mtu.to_string(), "1280 to 65535");
        }
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if self.table.is_empty() || self.table.len() > 32 || !self.table.bytes().all(word) {
            return wrong(
                "the table name",
                format!("{:?}", self.table),
                "1 to 32 letters, digits and '_'",
            );
        }
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        if self.zone.is_empty()
            || self.zone.len() > 128
            || self.zone.starts_with('.')
            || !self.zone.bytes().all(label)
        {
            return wrong(
                "the zone",
                format!("{:?}", self.zone),
                "a DNS name in small letters, up to 128 characters",
            );
        }
        Ok(())
    }
}

/// Interface names become parts of nft scripts, arguments and sysctl paths.
pub(crate) fn check_interface_name(value: &str) -> Result<(), Error> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    let first = value
        .as_bytes()
        .first()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || value.len() > 15 || !value.bytes().all(fits) {
        return Err(Error::InterfaceName {
            value: value.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        NetworkConfig::new("/x").validate().unwrap();
    }

    #[test]
    fn names_that_would_be_a_script_are_refused() {
        for bridge in ["", "a b", "x;flush", "0123456789abcdef", "-x", "../x"] {
            let config = NetworkConfig {
                bridge: bridge.to_owned(),
                ..NetworkConfig::new("/x")
            };
            assert!(config.validate().is_err(), "{bridge:?} was accepted");
        }
    }
}
