//! What there is in a network namespace, to compare before and after: tests and `down` check that nothing is left.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::key::VETH_PREFIX;
use crate::netns;
use crate::{nft, sysctl};

/// Links with their addresses and routes, nftables tables, forwarding settings, and mounted namespaces of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Per link: kind, addresses without link-local ones, routes; one text each.
    pub links: BTreeMap<String, Vec<String>>,
    /// nftables tables as `family name`.
    pub tables: Vec<String>,
    /// The settings that [`crate::HostNetwork::ensure`] may change.
    pub sysctls: BTreeMap<String, String>,
    /// Names of the namespaces mounted under our folder.
    pub netns: Vec<String>,
}

impl Snapshot {
    /// The part that is ours: bridge and veth pairs, our tables, our namespaces. Empty after
    /// [`crate::HostNetwork::remove`].
    #[must_use]
    pub fn ours(&self, config: &NetworkConfig) -> Snapshot {
        let mut ours = Snapshot {
            netns: self.netns.clone(),
            ..Snapshot::default()
        };
        let tables = [
            format!("inet {}", config.table),
            format!("bridge {}", config.table),
        ];
        ours.tables.extend(
            self.tables
                .iter()
                .filter(|table| tables.contains(table))
                .cloned(),
        );
        for (name, facts) in &self.links {
            if *name == config.bridge || name.starts_with(VETH_PREFIX) {
                ours.links.insert(name.clone(), facts.clone());
            }
        }
        ours
    }
}

/// Lists what is in the caller's namespace, and in the folder `netns` under `folder`.
///
/// # Errors
/// The kernel's refusal.
pub async fn snapshot(folder: &Path) -> Result<Snapshot, Error> {
    let mounted = folder.join("netns");
    netns::inside(None, "list the network", async move |netlink| {
        let mut snapshot = Snapshot {
            tables: nft::tables()?,
            ..Snapshot::default()
        };
        snapshot.tables.sort();
        for link in netlink.links().await? {
            let mut facts = vec![link.kind.clone()];
            for address in netlink.addresses(&link).await? {
                if !matches!(address.addr(), std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
                {
                    facts.push(address.to_string());
                }
            }
            for route in netlink.routes(&link).await? {
                facts.push(format!("{} via {:?}", route.destination, route.gateway));
            }
            snapshot.links.insert(link.name, facts);
        }
        let mut names = vec![
            "ipv4/ip_forward".to_owned(),
            "ipv6/conf/all/forwarding".to_owned(),
        ];
        names.extend(
            sysctl::interfaces("ipv6")
                .iter()
                .map(|name| format!("ipv6/conf/{name}/accept_ra")),
        );
        for name in names {
            if let Some(value) = sysctl::get(&name)? {
                snapshot.sysctls.insert(name, value);
            }
        }
        if let Ok(entries) = std::fs::read_dir(&mounted) {
            for entry in entries.flatten() {
                snapshot
                    .netns
                    .push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        snapshot.netns.sort();
        Ok(snapshot)
    })
    .await
}
