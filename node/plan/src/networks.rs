//! Networks besides the pod's: what the controller asks the cluster's meta plugin (such as Multus) for, and what that says it has done.
//!
//! Both sides are annotations of the pod, in the format of the Network Plumbing Working Group's "Kubernetes Network Custom Resource Definition
//! De-facto Standard".

use std::collections::BTreeMap;
use std::net::IpAddr;

use catamaran_spec::{Interface, Joined, MachineSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::given::Identity;
use crate::identity::mac_text;

/// Annotation of a pod: the networks that it is to be in.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Annotation of a pod: the networks that it is in.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// Digits of a digest in the name of an interface, which has 15 characters at most.
const DIGITS: usize = 11;

/// One network that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Name of the NetworkAttachmentDefinition.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Name of the interface in the pod.
    pub interface: String,
    /// MAC address of the guest, for plugins that can give it to the interface.
    pub mac: String,
}

/// One network that the pod is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Attached {
    /// `NAMESPACE/NAME` of the definition, or the name of the cluster's own network.
    name: String,
    /// Interface in the pod.
    #[serde(default)]
    interface: String,
    /// Its addresses.
    #[serde(default)]
    ips: Vec<IpAddr>,
    /// The pod's own network.
    #[serde(default)]
    default: bool,
}

/// The interface of the pod that a network of the machine is behind: a function of the network's name, as by the peer.
#[must_use]
pub fn pod_interface(network: &str) -> String {
    let digest = hex::encode(Sha256::digest(network));
    format!("pod{}", &digest[..DIGITS])
}

/// The networks to ask for, in the machine's order.
#[must_use]
pub fn selections(spec: &MachineSpec, identity: &Identity) -> Vec<Selection> {
    let selection = |nic: &Interface| match &nic.network {
        Joined::Pod => None,
        Joined::Definition { namespace, name } => Some(Selection {
            name: name.clone(),
            namespace: namespace.clone().unwrap_or_else(|| spec.namespace.clone()),
            interface: pod_interface(&nic.name),
            mac: mac_text(nic.mac.unwrap_or_else(|| identity.mac(&nic.name))),
        }),
    };
    spec.interfaces.iter().filter_map(selection).collect()
}

/// Whether the machine is in other networks than the pod's.
#[must_use]
pub fn is_wanted(spec: &MachineSpec) -> bool {
    let mut joined = spec.interfaces.iter().map(|nic| &nic.network);
    joined.any(|network| *network != Joined::Pod)
}

/// The interface of the pod for each interface of the machine that is in another network, from the pod's annotation.
///
/// # Errors
/// A sentence: the annotation is not there, is not understood, or lacks a network.
pub fn found(
    spec: &MachineSpec,
    identity: &Identity,
    status: Option<&str>,
) -> Result<BTreeMap<String, String>, String> {
    let wanted = selections(spec, identity);
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let status = status.filter(|text| !text.is_empty()).ok_or_else(|| {
        format!(
            "the pod has no annotation {STATUS}: a plugin that reads {NETWORKS}, such as Multus, must be in the nodes' CNI configuration"
        )
    })?;
    let attached: Vec<Attached> = serde_json::from_str(status)
        .map_err(|error| format!("the pod's annotation {STATUS} is not understood: {error}"))?;
    let others: Vec<&Attached> = attached.iter().filter(|one| !one.default).collect();
    let mut out = BTreeMap::new();
    let nics = spec.interfaces.iter();
    let nics = nics.filter(|nic| nic.network != Joined::Pod);
    for (nic, wanted) in nics.zip(wanted) {
        let full = format!("{}/{}", wanted.namespace, wanted.name);
        let mut named = others.iter().filter(|one| one.name == full);
        let one = others
            .iter()
            .find(|one| one.interface == wanted.interface)
            .or_else(|| {
                let first = named.next();
                // Which of two it would be, nobody can tell.
                first.filter(|_| named.next().is_none())
            })
            .filter(|one| is_interface(&one.interface))
            .ok_or_else(|| {
                let names: Vec<&str> = attached.iter().map(|one| one.name.as_str()).collect();
                format!(
                    "network {:?}: the pod has no interface in {full}; it is in {}",
                    nic.name,
                    names.join(", ")
                )
            })?;
        out.insert(nic.name.clone(), one.interface.clone());
    }
    Ok(out)
}

/// It becomes an argument of programs.
fn is_interface(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len()) && name.bytes().all(fine) && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use catamaran_spec::Context;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn spec() -> MachineSpec {
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "domain": {"memory": {"guest": "128Mi"}, "devices": {"interfaces": [
                    {"name": "default", "masquerade": {}},
                    {"name": "blue", "bridge": {}, "macAddress": "02:00:00:00:00:0a"},
                    {"name": "green", "bridge": {}},
                ]}},
                "networks": [
                    {"name": "default", "pod": {}},
                    {"name": "blue", "multus": {"networkName": "blue-net"}},
                    {"name": "green", "multus": {"networkName": "common/green-net"}},
                ],
            },
        });
        let vmi = serde_json::from_value(vmi).unwrap();
        MachineSpec::from_vmi(&vmi, Context::Cluster).unwrap().0
    }

    fn identity() -> Identity {
        Identity::of_uid(Uuid::from_u128(7))
    }

    #[test]
    fn definitions_are_asked_for_with_names_that_both_sides_know() {
        let asked = selections(&spec(), &identity());
        let names: Vec<_> = asked
            .iter()
            .map(|one| (one.namespace.as_str(), one.name.as_str()))
            .collect();
        assert_eq!(names, [("shop", "blue-net"), ("common", "green-net")]);
        assert_eq!(asked[0].mac, "02:00:00:00:00:0a");
        assert!(asked.iter().all(|one| is_interface(&one.interface)));
        assert_ne!(asked[0].interface, asked[1].interface);
    }

    #[test]
    fn interfaces_are_found_by_their_name_else_by_that_of_the_definition() {
        let blue = pod_interface("blue");
        let status = json!([
            {"name": "lab", "interface": "eth0", "ips": ["10.0.0.1"], "default": true},
            {"name": "shop/blue-net", "interface": blue, "mac": "02:00:00:00:00:0a", "dns": {}},
            {"name": "common/green-net", "interface": "net2"},
        ]);
        let found = found(&spec(), &identity(), Some(&status.to_string())).unwrap();
        assert_eq!((&found["blue"], found["green"].as_str()), (&blue, "net2"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let words = found(&spec(), &identity(), None).unwrap_err();
        assert!(
            words.contains(STATUS) && words.contains("Multus"),
            "{words}"
        );
        let status = json!([{"name": "shop/blue-net", "interface": "net1"}]).to_string();
        let words = found(&spec(), &identity(), Some(&status)).unwrap_err();
        assert!(words.contains("common/green-net"), "{words}");
        let hostile = json!([{"name": "shop/blue-net", "interface": "-x"}]).to_string();
        assert!(found(&spec(), &identity(), Some(&hostile)).is_err());
    }
}
