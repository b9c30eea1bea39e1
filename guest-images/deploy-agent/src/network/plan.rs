//! From network data to calls of `ip`: a pure function.

mod bond;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use catamaran_deploy_wire::{Link, LinkKind, Network, NetworkData, NetworkKind};

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The kernel's name.
    pub name: String,
    /// In lower case, with colons.
    pub mac: String,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
    /// Cards on which DHCPv4 is asked.
    pub dhcp: Vec<String>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call `ip` with these arguments.
    Ip(Vec<String>),
    /// Load the driver of bonds, without a bond of its own making.
    LoadBonding,
    /// Set an option of a bond, which `ip` does not know.
    SetBond {
        /// The kernel's name of it.
        bond: String,
        /// Name of the option.
        option: &'static str,
        /// What it is to be.
        value: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(words) => formatter.write_str(&words.join(" ")),
            Self::LoadBonding => formatter.write_str("modprobe bonding max_bonds=0"),
            Self::SetBond {
                bond,
                option,
                value,
            } => write!(formatter, "{bond} {option} {value}"),
        }
    }
}

/// A mistake in network data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("networkData: {path} is {value:?}: {problem}")]
pub struct PlanError {
    /// Where.
    pub path: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl Plan {
    /// DHCPv4 on every card.
    #[must_use]
    pub fn dhcp_on_all(cards: &[Card]) -> Self {
        Self {
            steps: cards.iter().map(|card| up(&card.name)).collect(),
            dhcp: cards.iter().map(|card| card.name.clone()).collect(),
            dns: Vec::new(),
        }
    }
}

/// Says how to bring up what the network data describe on these cards.
///
/// # Errors
/// All mistakes at once.
pub fn plan(data: &NetworkData, cards: &[Card]) -> Result<Plan, Vec<PlanError>> {
    let bonded = data.links.iter().flat_map(|link| &link.bond_links);
    let mut planner = Planner {
        cards,
        bonded: bonded.map(String::as_str).collect(),
        names: BTreeMap::new(),
        bonds: 0,
        plan: Plan::default(),
        errors: Vec::new(),
    };
    // What is made of others needs them, wherever they stand.
    let mut links: Vec<_> = data.links.iter().enumerate().collect();
    links.sort_by_key(|(_, link)| match link.kind {
        LinkKind::Phy | LinkKind::Other => 0,
        LinkKind::Bond => 1,
        LinkKind::Vlan => 2,
    });
    for (number, link) in links {
        planner.link(&format!("links[{number}]"), link);
    }
    for (number, network) in data.networks.iter().enumerate() {
        planner.network(&format!("networks[{number}]"), network);
    }
    for (number, service) in data.services.iter().enumerate() {
        if service.kind == "dns" {
            planner.dns(&format!("services[{number}].address"), &service.address);
        }
    }
    if planner.errors.is_empty() {
        Ok(planner.plan)
    } else {
        Err(planner.errors)
    }
}

struct Planner<'a> {
    cards: &'a [Card],
    /// Ids of the links that bonds are made of.
    bonded: BTreeSet<&'a str>,
    /// Link's id → the kernel's name.
    names: BTreeMap<&'a str, String>,
    /// How many there are so far.
    bonds: usize,
    plan: Plan,
    errors: Vec<PlanError>,
}

impl<'a> Planner<'a> {
    fn error(&mut self, path: String, value: &str, problem: impl Into<String>) {
        self.errors.push(PlanError {
            path,
            value: value.to_owned(),
            problem: problem.into(),
        });
    }

    fn ip(&mut self, words: &[&str]) {
        let words = words.iter().map(|word| (*word).to_owned());
        self.plan.steps.push(Step::Ip(words.collect()));
    }

    fn link(&mut self, path: &str, link: &'a Link) {
        let name = match link.kind {
            LinkKind::Phy => self.card(path, link),
            LinkKind::Vlan => self.vlan(path, link),
            LinkKind::Bond => self.bond(path, link),
            LinkKind::Other => {
                let problem = "phy, bond and vlan are allowed";
                self.error(format!("{path}.type"), &format!("{:?}", link.kind), problem);
                None
            }
        };
        let Some(name) = name else { return };
        if let Some(mtu) = link.mtu {
            self.ip(&["link", "set", "dev", &name, "mtu", &mtu.to_string()]);
        }
        if !self.bonded.contains(link.id.as_str()) {
            self.plan.steps.push(up(&name));
        }
        self.names.insert(&link.id, name);
    }

    fn card(&mut self, path: &str, link: &Link) -> Option<String> {
        let wanted = link.ethernet_mac_address.as_deref().unwrap_or_default();
        let found = self
            .cards
            .iter()
            .find(|card| card.mac.eq_ignore_ascii_case(wanted))
            .map(|card| card.name.clone());
        if found.is_none() {
            let macs: Vec<&str> = self.cards.iter().map(|card| card.mac.as_str()).collect();
            let problem = format!("no card has it; the host's are {}", macs.join(", "));
            self.error(format!("{path}.ethernet_mac_address"), wanted, problem);
        }
        found
    }

    fn vlan(&mut self, path: &str, link: &Link) -> Option<String> {
        let below = link.vlan_link.as_deref().unwrap_or_default();
        let Some(parent) = self.names.get(below).cloned() else {
            self.error(
                format!("{path}.vlan_link"),
                below,
                "it names no link of a card or a bond",
            );
            return None;
        };
        let Some(id) = link.vlan_id.filter(|id| (1..=4094).contains(id)) else {
            let value = link.vlan_id.map(|id| id.to_string()).unwrap_or_default();
            self.error(format!("{path}.vlan_id"), &value, "1 to 4094 are allowed");
            return None;
        };
        // Names of interfaces have 15 characters.
        let name = format!("vlan{id}");
        self.ip(&[
            "link",
            "add",
            "link",
            &parent,
            "name",
            &name,
            "type",
            "vlan",
            "id",
            &id.to_string(),
        ]);
        Some(name)
    }

    fn network(&mut self, path: &str, network: &Network) {
        let Some(name) = self.names.get(network.link.as_str()).cloned() else {
            // A link that is wrong was named already.
            if self.errors.is_empty() {
                self.error(
                    format!("{path}.link"),
                    &network.link,
                    "there is no such link",
                );
            }
            return;
        };
        match network.kind {
            NetworkKind::Ipv4 | NetworkKind::Ipv6 => self.address(path, &name, network),
            NetworkKind::Ipv4Dhcp => {
                if !self.plan.dhcp.contains(&name) {
                    self.plan.dhcp.push(name);
                }
            }
            // The kernel does it by itself.
            NetworkKind::Ipv6Slaac => {}
            NetworkKind::Other => self.error(
                format!("{path}.type"),
                "(unknown)",
                "ipv4, ipv4_dhcp, ipv6, ipv6_slaac and ipv6_dhcp are allowed",
            ),
        }
        for (number, server) in network.dns_nameservers.iter().enumerate() {
            self.dns(&format!("{path}.dns_nameservers[{number}]"), server);
        }
    }

    fn address(&mut self, path: &str, name: &str, network: &Network) {
        let given = network.ip_address.as_deref().unwrap_or_default();
        let (address, length) = match given.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (given, network.netmask.as_deref()),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            self.error(format!("{path}.ip_address"), given, "it is no IP address");
            return;
        };
        let Some(length) = length.and_then(|mask| prefix(mask, &address)) else {
            let value = length.unwrap_or_default();
            let problem = "a mask like 255.255.255.0 or a length like 24 is wanted";
            self.error(format!("{path}.netmask"), value, problem);
            return;
        };
        self.ip(&["addr", "add", &format!("{address}/{length}"), "dev", name]);
        if let Some(gateway) = &network.gateway {
            self.route(&format!("{path}.gateway"), "default", gateway, name);
        }
        for (number, route) in network.routes.iter().enumerate() {
            let path = format!("{path}.routes[{number}]");
            let Ok(to) = route.network.parse::<IpAddr>() else {
                self.error(
                    format!("{path}.network"),
                    &route.network,
                    "it is no IP address",
                );
                continue;
            };
            let mask = if route.netmask.is_empty() && to.is_unspecified() {
                Some(0)
            } else {
                prefix(&route.netmask, &to)
            };
            match mask {
                Some(0) => self.route(&format!("{path}.gateway"), "default", &route.gateway, name),
                Some(length) => {
                    let to = format!("{to}/{length}");
                    self.route(&format!("{path}.gateway"), &to, &route.gateway, name);
                }
                None => self.error(format!("{path}.netmask"), &route.netmask, "it is no mask"),
            }
        }
    }

    fn route(&mut self, path: &str, to: &str, gateway: &str, name: &str) {
        let Ok(via) = gateway.parse::<IpAddr>() else {
            self.error(path.to_owned(), gateway, "it is no IP address");
            return;
        };
        let family = if via.is_ipv6() { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", to, "via", gateway, "dev", name]);
    }

    fn dns(&mut self, path: &str, server: &str) {
        match server.parse() {
            Ok(server) if self.plan.dns.contains(&server) => {}
            Ok(server) => self.plan.dns.push(server),
            Err(_) => self.error(path.to_owned(), server, "it is no IP address"),
        }
    }
}

fn up(name: &str) -> Step {
    Step::Ip(["link", "set", "dev", name, "up"].map(str::to_owned).into())
}

/// The length of a mask: `24`, `255.255.255.0`, `ffff:ffff::`.
fn prefix(mask: &str, address: &IpAddr) -> Option<u32> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(length) = mask.parse::<u32>() {
        return (length <= bits).then_some(length);
    }
    let (value, width): (u128, u32) = match mask.parse().ok()? {
        IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, 32),
        IpAddr::V6(mask) => (mask.to_bits(), 128),
    };
    let ones = value.leading_ones();
    let whole = value.count_ones() == ones;
    (width == bits && whole).then_some(ones)
}

#[cfg(test)]
mod tests {
    use catamaran_deploy_wire::NetworkData;

    use super::{Card, Plan, PlanError, plan};

    fn cards() -> Vec<Card> {
        [("eth0", "52:54:00:00:00:01"), ("eth1", "52:54:00:00:00:02")]
            .map(|(name, mac)| Card {
                name: name.into(),
                mac: mac.into(),
            })
            .into()
    }

    pub(super) fn lines(data: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
        let data: NetworkData = serde_json::from_str(data).unwrap();
        let plan = plan(&data, &cards()).unwrap();
        (
            plan.steps.iter().map(ToString::to_string).collect(),
            plan.dhcp,
            plan.dns.iter().map(ToString::to_string).collect(),
        )
    }

    pub(super) fn mistakes(data: &str) -> Vec<PlanError> {
        let data: NetworkData = serde_json::from_str(data).unwrap();
        plan(&data, &cards()).unwrap_err()
    }

    #[test]
    fn a_static_address_is_set_on_the_card_with_the_mac() {
        let (commands, dhcp, dns) = lines(
            r#"{"links":[{"id":"nic","type":"phy","ethernet_mac_address":"52:54:00:00:00:02","mtu":9000}],
                "networks":[{"id":"n","type":"ipv4","link":"nic","ip_address":"192.0.2.9","netmask":"255.255.255.0","gateway":"192.0.2.1",
                             "routes":[{"network":"198.51.100.0","netmask":"255.255.255.128","gateway":"192.0.2.2"}]}],
                "services":[{"type":"dns","address":"192.0.2.53"},{"type":"ntp","address":"x"}]}"#,
        );
        assert_eq!(
            commands,
            [
                "link set dev eth1 mtu 9000",
                "link set dev eth1 up",
                "addr add 192.0.2.9/24 dev eth1",
                "-4 route add default via 192.0.2.1 dev eth1",
                "-4 route add 198.51.100.0/25 via 192.0.2.2 dev eth1",
            ]
        );
        assert!(dhcp.is_empty());
        assert_eq!(dns, ["192.0.2.53"]);
    }

    #[test]
    fn a_vlan_may_stand_before_the_card_it_is_on() {
        let (commands, dhcp, _) = lines(
            r#"{"links":[{"id":"v","type":"vlan","vlan_link":"nic","vlan_id":7},
                         {"id":"nic","type":"physical","ethernet_mac_address":"52:54:00:00:00:01"}],
                "networks":[{"id":"a","type":"ipv4_dhcp","link":"v"},
                            {"id":"b","type":"ipv6","link":"nic","ip_address":"2001:db8::9/64","gateway":"2001:db8::1","dns_nameservers":["2001:db8::53"]}]}"#,
        );
        assert_eq!(
            commands,
            [
                "link set dev eth0 up",
                "link add link eth0 name vlan7 type vlan id 7",
                "link set dev vlan7 up",
                "addr add 2001:db8::9/64 dev eth0",
                "-6 route add default via 2001:db8::1 dev eth0",
            ]
        );
        assert_eq!(dhcp, ["vlan7"]);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let errors = mistakes(
            r#"{"links":[{"id":"a","type":"phy","ethernet_mac_address":"52:54:00:00:00:01"},
                         {"id":"b","type":"dummy"},{"id":"c","type":"phy","ethernet_mac_address":"aa:aa:aa:aa:aa:aa"},
                         {"id":"d","type":"vlan","vlan_link":"a","vlan_id":4095}],
                "networks":[{"id":"n","type":"ipv4","link":"a","ip_address":"192.0.2.9","netmask":"255.0.255.0"}],
                "services":[{"type":"dns","address":"dns.example"}]}"#,
        );
        let errors: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            errors,
            [
                "links[1].type",
                "links[2].ethernet_mac_address",
                "links[3].vlan_id",
                "networks[0].netmask",
                "services[0].address"
            ]
        );
    }

    #[test]
    fn without_network_data_every_card_asks_dhcp() {
        let plan = Plan::dhcp_on_all(&cards());
        assert_eq!(plan.dhcp, ["eth0", "eth1"]);
        assert_eq!(plan.steps.len(), 2);
    }
}
