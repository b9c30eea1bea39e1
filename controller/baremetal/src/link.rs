//! Which host is a node. Pure.
//!
//! A wrong answer would cut the power of the wrong server, so a doubtful one is none: an empty or made-up UUID, or one that two hosts share,
//! never links.

use catamaran_api::metal3::BareMetalHost;
use k8s_openapi::api::core::v1::Node;

use crate::store::HostName;

/// What a node is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeIdentity {
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// UUID of its system, as its operating system reads it.
    pub system_uuid: Option<String>,
    /// MAC addresses, where the caller knows them.
    pub macs: Vec<String>,
}

/// How a node and a host were linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The host.
    pub host: HostName,
    /// By what: `providerID`, `system UUID` or `MAC address`.
    pub by: &'static str,
}

/// Why a node is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlinked {
    /// None fits.
    #[error("no BareMetalHost has the node's providerID, system UUID or a MAC address of it")]
    Unknown,
    /// Several fit.
    #[error("{by} fits several BareMetalHosts: {}", .hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Ambiguous {
        /// What fits.
        by: &'static str,
        /// The hosts.
        hosts: Vec<HostName>,
    },
}

impl NodeIdentity {
    /// What a node's object tells.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let info = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref());
        Self {
            provider_id: node.spec.as_ref().and_then(|spec| spec.provider_id.clone()),
            system_uuid: info.map(|info| info.system_uuid.clone()),
            macs: Vec::new(),
        }
    }
}

/// The host of a node.
///
/// # Errors
/// When none fits, or several do.
pub fn link(node: &NodeIdentity, hosts: &[BareMetalHost]) -> Result<Link, Unlinked> {
    if let Some(id) = node
        .provider_id
        .as_deref()
        .and_then(|id| id.strip_prefix("metal3://"))
    {
        let found = hosts.iter().filter(|host| named_by(id, host));
        if let Some(link) = only("providerID", found)? {
            return Ok(link);
        }
    }
    if let Some(uuid) = node.system_uuid.as_deref().and_then(uuid) {
        // Firmware of either kind reads the first three parts of a UUID in either byte order.
        let swapped = swap(&uuid);
        let found = hosts.iter().filter(|host| {
            let id = host
                .status
                .as_ref()
                .and_then(|status| self::uuid(&status.provisioning.id));
            id.is_some_and(|id| id == uuid || id == swapped)
        });
        if let Some(link) = only("system UUID", found)? {
            return Ok(link);
        }
    }
    let found = hosts.iter().filter(|host| {
        node.macs
            .iter()
            .any(|mac| macs(host).any(|own| own.eq_ignore_ascii_case(mac)))
    });
    only("MAC address", found)?.ok_or(Unlinked::Unknown)
}

fn only<'a>(
    by: &'static str,
    found: impl Iterator<Item = &'a BareMetalHost>,
) -> Result<Option<Link>, Unlinked> {
    let mut hosts: Vec<HostName> = found.map(HostName::of).collect();
    match hosts.len() {
        0 | 1 => Ok(hosts.pop().map(|host| Link { host, by })),
        _ => Err(Unlinked::Ambiguous { by, hosts }),
    }
}

/// `UID`, `NAMESPACE/HOST/MACHINE` or `NAMESPACE/HOST`.
fn named_by(id: &str, host: &BareMetalHost) -> bool {
    if host.metadata.uid.as_deref() == Some(id) {
        return true;
    }
    let name = HostName::of(host);
    let mut parts = id.trim_start_matches('/').split('/');
    parts.next() == Some(&name.namespace) && parts.next() == Some(&name.name)
}

fn macs(host: &BareMetalHost) -> impl Iterator<Item = &str> {
    let hardware = host
        .status
        .as_ref()
        .and_then(|status| status.hardware.as_ref());
    let nics = hardware
        .map(|hardware| hardware.nics.as_slice())
        .unwrap_or_default();
    let found = nics.iter().filter_map(|nic| nic.mac.as_deref());
    host.spec
        .boot_mac_address
        .as_deref()
        .into_iter()
        .chain(found)
}

/// 32 digits in lower case; none for what is no UUID, and for those that vendors leave in: all digits the same, or counted up.
fn uuid(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let hex = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    let first = digits.chars().next()?;
    let same = digits.chars().all(|c| c == first);
    let known = [
        "03000200040005000006000700080009",
        "00020003000400050006000700080009",
    ];
    (hex && !same && !known.contains(&digits.as_str())).then_some(digits)
}

fn swap(digits: &str) -> String {
    let part = |from: usize, to: usize| {
        let bytes: Vec<&str> = (from..to)
            .step_by(2)
            .map(|at| &digits[at..at + 2])
            .collect();
        bytes.into_iter().rev().collect::<String>()
    };
    format!(
        "{}{}{}{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        &digits[16..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UUID: &str = "4c4c4544-0042-3510-8052-b4c04f4e4b31";

    fn host(name: &str, uuid: &str) -> BareMetalHost {
        serde_json::from_value(json!({
            "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}")},
            "spec": {"online": true, "bootMACAddress": format!("52:54:00:00:00:0{}", name.len())},
            "status": {
                "operationalStatus": "OK", "errorCount": 0, "errorMessage": "", "poweredOn": true, "provisioningFailCount": 0,
                "provisioning": {"state": "provisioned", "ID": uuid},
            },
        }))
        .unwrap()
    }

    fn by_uuid(uuid: &str) -> NodeIdentity {
        NodeIdentity {
            system_uuid: Some(uuid.to_owned()),
            ..NodeIdentity::default()
        }
    }

    #[test]
    fn nodes_are_linked_by_provider_id_uuid_or_mac() {
        let hosts = [host("a", UUID), host("bb", "")];
        for id in ["uid-bb", "n/bb/machine", "n/bb"] {
            let node = NodeIdentity {
                provider_id: Some(format!("metal3://{id}")),
                ..by_uuid(UUID)
            };
            assert_eq!(link(&node, &hosts).unwrap().host.name, "bb", "{id}");
        }
        let upper = by_uuid(&UUID.to_uppercase());
        assert_eq!(link(&upper, &hosts).unwrap().by, "system UUID");
        let swapped = by_uuid("44454c4c-4200-1035-8052-b4c04f4e4b31");
        assert_eq!(link(&swapped, &hosts).unwrap().host.name, "a");
        let node = NodeIdentity {
            macs: vec!["52:54:00:00:00:02".to_owned()],
            ..NodeIdentity::default()
        };
        assert_eq!(link(&node, &hosts).unwrap().host.name, "bb");
    }

    #[test]
    fn empty_made_up_and_shared_uuids_never_link() {
        for uuid in [
            "",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "Not Settable",
            "03000200-0400-0500-0006-000700080009",
        ] {
            assert_eq!(
                link(&by_uuid(uuid), &[host("a", uuid)]),
                Err(Unlinked::Unknown),
                "{uuid}"
            );
        }
        let error = link(&by_uuid(UUID), &[host("a", UUID), host("bb", UUID)]).unwrap_err();
        assert!(error.to_string().contains("n/a, n/bb"), "{error}");
    }
}
