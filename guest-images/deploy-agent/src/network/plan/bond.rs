//! Bonds: several cards as one.

use catamaran_deploy_wire::Link;

use super::{Planner, Step};

/// The kernel's names.
const MODES: [&str; 7] = [
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
];
/// Likewise.
const HASHES: [&str; 6] = [
    "layer2",
    "layer2+3",
    "layer3+4",
    "encap2+3",
    "encap3+4",
    "vlan+srcmac",
];
/// Milliseconds between two looks at the cards where none are given; the kernel would not look, and so never change to another card.
const LOOK: u32 = 100;

impl<'a> Planner<'a> {
    pub(super) fn bond(&mut self, path: &str, link: &'a Link) -> Option<String> {
        let before = self.errors.len();
        let mode = link.bond_mode.as_deref();
        let mode = mode.map(|mode| self.one_of(format!("{path}.bond_mode"), mode, &MODES));
        let hash = link.bond_xmit_hash_policy.as_deref();
        let at = format!("{path}.bond_xmit_hash_policy");
        let hash = hash.map(|hash| self.one_of(at, hash, &HASHES));
        if link.bond_links.is_empty() {
            self.error(
                format!("{path}.bond_links"),
                "",
                "the names of its cards' links are wanted",
            );
        }
        let mut cards = Vec::new();
        for (number, id) in link.bond_links.iter().enumerate() {
            match self.names.get(id.as_str()) {
                Some(card) => cards.push(card.clone()),
                None => self.error(
                    format!("{path}.bond_links[{number}]"),
                    id,
                    "it names no card's link",
                ),
            }
        }
        if self.errors.len() > before {
            return None;
        }
        let name = format!("bond{}", self.bonds);
        self.bonds += 1;
        if self.bonds == 1 {
            self.plan.steps.push(Step::LoadBonding);
        }
        self.ip(&["link", "add", "name", &name, "type", "bond"]);
        let look = link.bond_miimon.unwrap_or(LOOK).to_string();
        let options = [
            ("mode", mode),
            ("miimon", Some(look.as_str())),
            ("xmit_hash_policy", hash),
        ];
        for (option, value) in options {
            let Some(value) = value else { continue };
            self.plan.steps.push(Step::SetBond {
                bond: name.clone(),
                option,
                value: value.to_owned(),
            });
        }
        if let Some(mac) = &link.ethernet_mac_address {
            self.ip(&["link", "set", "dev", &name, "address", mac]);
        }
        // They are down, as the kernel wants it, and come up with the bond.
        for card in cards {
            self.ip(&["link", "set", "dev", &card, "master", &name]);
        }
        Some(name)
    }

    fn one_of(&mut self, path: String, value: &'a str, allowed: &[&str]) -> &'a str {
        if !allowed.contains(&value) {
            let problem = format!("{} are allowed", allowed.join(", "));
            self.error(path, value, problem);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, mistakes};

    const CARDS: &str = r#"{"id":"a","type":"phy","ethernet_mac_address":"52:54:00:00:00:01","mtu":9000},
                           {"id":"b","type":"phy","ethernet_mac_address":"52:54:00:00:00:02"}"#;

    #[test]
    fn cards_become_one_before_they_are_up() {
        let (commands, _, _) = lines(&format!(
            r#"{{"links":[{{"id":"v","type":"vlan","vlan_link":"bond","vlan_id":7}},
                          {{"id":"bond","type":"bond","bond_links":["a","b"],"bond_mode":"802.3ad","bond_xmit_hash_policy":"layer3+4",
                            "ethernet_mac_address":"52:54:00:00:00:01","mtu":9000}}, {CARDS}],
                "networks":[{{"id":"n","type":"ipv4","link":"bond","ip_address":"192.0.2.9/24"}}]}}"#
        ));
        assert_eq!(
            commands,
            [
                "link set dev eth0 mtu 9000",
                "modprobe bonding max_bonds=0",
                "link add name bond0 type bond",
                "bond0 mode 802.3ad",
                "bond0 miimon 100",
                "bond0 xmit_hash_policy layer3+4",
                "link set dev bond0 address 52:54:00:00:00:01",
                "link set dev eth0 master bond0",
                "link set dev eth1 master bond0",
                "link set dev bond0 mtu 9000",
                "link set dev bond0 up",
                "link add link bond0 name vlan7 type vlan id 7",
                "link set dev vlan7 up",
                "addr add 192.0.2.9/24 dev bond0",
            ]
        );
    }

    #[test]
    fn what_is_wrong_with_a_bond_is_told_with_what_is_allowed() {
        let told = mistakes(&format!(
            r#"{{"links":[{CARDS}, {{"id":"x","type":"bond","bond_links":["a","c"],"bond_mode":"lacp"}}, {{"id":"y","type":"bond"}}]}}"#
        ));
        let paths: Vec<_> = told.iter().map(|told| told.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "links[2].bond_mode",
                "links[2].bond_links[1]",
                "links[3].bond_links"
            ]
        );
        assert!(told[0].problem.contains("802.3ad"), "{}", told[0]);
    }
}
