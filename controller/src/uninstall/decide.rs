//! What may be removed, and what of it is ours. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// How many names a sentence has.
const NAMED: usize = 5;

/// Machines of a cluster, as `namespace/name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machines {
    /// VirtualMachines.
    pub(super) machines: Vec<String>,
    /// VirtualMachineInstances, those of VirtualMachines too.
    pub(super) instances: Vec<String>,
    /// VirtualMachineInstanceReplicaSets.
    pub(super) sets: Vec<String>,
}

impl Machines {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many objects they are.
    pub(super) fn count(&self) -> usize {
        self.machines.len() + self.instances.len() + self.sets.len()
    }

    /// The objects, each once: an instance has the name of its machine.
    fn words(&self) -> String {
        let alone: Vec<&String> = self
            .instances
            .iter()
            .filter(|name| !self.machines.contains(name))
            .collect();
        let sets: Vec<&String> = self.sets.iter().collect();
        let machines: Vec<&String> = self.machines.iter().collect();
        [
            ("VirtualMachine", machines),
            ("VirtualMachineInstance", alone),
            ("VirtualMachineInstanceReplicaSet", sets),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| some(kind, &names))
        .collect::<Vec<_>>()
        .join("; ")
    }
}

/// `2 VirtualMachines (shop/a, shop/b)`
fn some<S: AsRef<str>>(kind: &str, names: &[S]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    let named: Vec<&str> = names.iter().take(NAMED).map(AsRef::as_ref).collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!(
        "{} {kind}{plural} ({}{more})",
        names.len(),
        named.join(", ")
    )
}

/// Why nothing is removed, if so.
pub(super) fn refusal(machines: &Machines, delete_machines: bool) -> Option<String> {
    (!machines.is_empty() && !delete_machines).then(|| {
        format!(
            "there are machines, and they would be lost: {}. Delete them first, or say --delete-vms (with Helm: uninstall.deleteVMs=true)",
            machines.words()
        )
    })
}

/// Why machines that do not end stop everything.
pub(super) fn alive(machines: &Machines, pods: &[String], timeout: Duration) -> String {
    format!(
        "after {} s there are still {}, with {}: a machine whose pod is not gone may still write to its disks. Is the controller running?",
        timeout.as_secs(),
        machines.words(),
        some("pod", pods)
    )
}

/// Whether a label or an annotation of a node is ours: its prefix is the peer's domain, one below it, or our own.
pub(super) fn is_ours(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else {
        return false;
    };
    prefix == "kubevirt.io" || prefix.ends_with(".kubevirt.io") || prefix == "catamaran.dev"
}

/// The merge patch that takes our marks from a node; `None` where there are none.
pub(super) fn unmark(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Option<Value> {
    let none = |marks: &BTreeMap<String, String>| -> Map<String, Value> {
        let ours = marks.keys().filter(|key| is_ours(key));
        ours.map(|key| (key.clone(), Value::Null)).collect()
    };
    let (labels, annotations) = (none(labels), none(annotations));
    (!labels.is_empty() || !annotations.is_empty())
        .then(|| json!({"metadata": {"labels": labels, "annotations": annotations}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn machines_are_lost_only_when_it_is_said() {
        let none = Machines::default();
        assert_eq!(refusal(&none, false), None);
        let some = Machines {
            machines: owned(&["shop/a", "shop/b"]),
            instances: owned(&["shop/a", "lab/c"]),
            sets: Vec::new(),
        };
        assert_eq!(refusal(&some, true), None);
        assert_eq!(
            refusal(&some, false).as_deref(),
            Some(
                "there are machines, and they would be lost: 2 VirtualMachines (shop/a, shop/b); 1 VirtualMachineInstance (lab/c). \
                 Delete them first, or say --delete-vms (with Helm: uninstall.deleteVMs=true)"
            )
        );
    }

    #[test]
    fn a_sentence_names_a_few_of_many() {
        let names: Vec<String> = (0..7).map(|n| format!("a/{n}")).collect();
        assert_eq!(some("pod", &names), "7 pods (a/0, a/1, a/2, a/3, a/4, …)");
    }

    #[test]
    fn a_node_loses_our_marks_and_no_others() {
        let marks = |keys: &[&str]| -> BTreeMap<String, String> {
            keys.iter()
                .map(|key| ((*key).to_owned(), "x".to_owned()))
                .collect()
        };
        let labels = marks(&[
            "kubevirt.io/schedulable",
            "cpu-model.node.kubevirt.io/Haswell",
            "catamaran.dev/kvm",
            "kubernetes.io/hostname",
            "mykubevirt.io/zone",
            "plain",
        ]);
        assert_eq!(
            unmark(&labels, &marks(&["kubevirt.io/heartbeat", "csi.volume"])),
            Some(json!({"metadata": {
                "labels": {"kubevirt.io/schedulable": null, "cpu-model.node.kubevirt.io/Haswell": null, "catamaran.dev/kvm": null},
                "annotations": {"kubevirt.io/heartbeat": null},
            }}))
        );
        assert_eq!(unmark(&marks(&["plain"]), &BTreeMap::new()), None);
    }
}
