//! A host's network as OpenStack's `network_data.json` describes it: links by MAC address, and networks on them.

use serde::{Deserialize, Serialize};

/// The whole description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkData {
    /// Cards, and what is made of them.
    pub links: Vec<Link>,
    /// Addresses.
    pub networks: Vec<Network>,
    /// DNS servers and others.
    pub services: Vec<Service>,
}

/// A card, several of them as one, or a VLAN on either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name in this description; the kernel's name does not matter.
    pub id: String,
    /// See there.
    #[serde(rename = "type")]
    pub kind: LinkKind,
    /// MAC address of a card: the only thing that it is known by. Of a bond: what it is to have, else that of its first card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethernet_mac_address: Option<String>,
    /// Bytes; the kernel's default where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Of a VLAN: the link it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_link: Option<String>,
    /// Of a VLAN: its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<u16>,
    /// Of a bond: the links of its cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bond_links: Vec<String>,
    /// Of a bond: how it spreads what it sends, by the kernel's name of that; the kernel's default where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_mode: Option<String>,
    /// Of a bond: milliseconds between two looks at its cards; 100 where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_miimon: Option<u32>,
    /// Of a bond: by what it spreads, by the kernel's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bond_xmit_hash_policy: Option<String>,
}

/// Kinds of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A card.
    #[serde(
        alias = "ethernet",
        alias = "physical",
        alias = "ovs",
        alias = "vif",
        alias = "bridge",
        alias = "tap"
    )]
    Phy,
    /// A VLAN.
    Vlan,
    /// Several cards as one.
    Bond,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub id: String,
    /// See there.
    #[serde(rename = "type")]
    pub kind: NetworkKind,
    /// Name of the link.
    pub link: String,
    /// The address; with `/LENGTH`, or with `netmask`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// `255.255.255.0`, `ffff:ffff:ffff:ffff::` or a length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// The default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// More routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// DNS servers of this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_nameservers: Vec<String>,
}

/// Kinds of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkKind {
    /// A static address.
    Ipv4,
    /// DHCPv4.
    Ipv4Dhcp,
    /// A static address.
    Ipv6,
    /// Router advertisements: what the kernel does by itself.
    #[serde(
        alias = "ipv6_dhcp",
        alias = "ipv6_dhcpv6-stateless",
        alias = "ipv6_dhcpv6-stateful"
    )]
    Ipv6Slaac,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; `0.0.0.0` and `::` with an empty mask are the default.
    pub network: String,
    /// As in [`Network`].
    #[serde(default)]
    pub netmask: String,
    /// The next hop.
    pub gateway: String,
}

/// A service of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `dns`; others are ignored.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is.
    pub address: String,
}
