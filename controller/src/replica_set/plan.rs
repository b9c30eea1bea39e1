//! Which instances of a set are to be made and deleted, and its status. Pure.

use std::collections::HashSet;

use catamaran_api::{
    VirtualMachineInstance, VirtualMachineInstanceReplicaSet,
    VirtualMachineInstanceReplicaSetCondition, VirtualMachineInstanceReplicaSetStatus,
};
use catamaran_lifecycle::{Phase, Seconds, to_time};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

use crate::finalizers;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Names of the instances to make.
    pub(super) create: Vec<String>,
    /// Instances to delete.
    pub(super) delete: Vec<&'a Member>,
}

/// What matters of an instance of a set. There may be thousands, and each change of one looks at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    /// Its UID.
    pub(super) uid: Option<String>,
    deleting: bool,
    phase: Phase,
    ready: bool,
}

impl Member {
    pub(super) fn of(vmi: &VirtualMachineInstance) -> Self {
        let status = vmi.status.as_ref();
        let phase = Phase::parse(status.and_then(|status| status.phase.as_deref()));
        let mut conditions = status.iter().flat_map(|status| &status.conditions);
        Self {
            name: vmi.metadata.name.clone().unwrap_or_default(),
            uid: vmi.metadata.uid.clone(),
            deleting: vmi.metadata.deletion_timestamp.is_some(),
            phase,
            ready: phase == Phase::Running
                && conditions.any(|c| c.type_ == "Ready" && c.status == "True"),
        }
    }
}

fn wanted(set: &VirtualMachineInstanceReplicaSet) -> usize {
    usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or(0)
}

/// Names of the places, the first ones first.
pub(super) fn names(set: &VirtualMachineInstanceReplicaSet) -> Vec<String> {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let prefix: String = set
        .metadata
        .name
        .as_deref()
        .unwrap_or_default()
        .chars()
        .take(57)
        .collect();
    (0..wanted(set))
        .map(|place| {
            let digest = hex::encode(Sha256::digest(format!("{uid}/{place}")));
            format!("{prefix}-{}", digest.get(..5).unwrap_or_default())
        })
        .collect()
}

/// Whether the set is the controller of the instance.
pub(super) fn is_owned(
    vmi: &VirtualMachineInstance,
    set: &VirtualMachineInstanceReplicaSet,
) -> bool {
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    owners.any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == set.metadata.uid.as_ref()
    })
}

/// What is to be done about the instances of a set.
pub(super) fn plan<'a>(set: &VirtualMachineInstanceReplicaSet, owned: &'a [Member]) -> Plan<'a> {
    if set.spec.paused == Some(true) {
        return Plan::default();
    }
    let names = names(set);
    let there: HashSet<&str> = owned.iter().map(|member| member.name.as_str()).collect();
    let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
    let is_left = |member: &&Member| {
        !member.deleting && (member.phase.is_final() || !wanted.contains(member.name.as_str()))
    };
    Plan {
        delete: owned.iter().filter(is_left).collect(),
        create: names
            .iter()
            .filter(|name| !there.contains(name.as_str()))
            .cloned()
            .collect(),
    }
}

/// A new instance in that place.
pub(super) fn instance(
    set: &VirtualMachineInstanceReplicaSet,
    name: &str,
) -> VirtualMachineInstance {
    let template = set.spec.template.clone();
    let metadata = template.metadata.unwrap_or_default();
    VirtualMachineInstance {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: set.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: Some(vec![finalizers::INSTANCE.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                api_version: catamaran_api::API_VERSION.to_owned(),
                block_owner_deletion: Some(true),
                controller: Some(true),
                kind: "VirtualMachineInstanceReplicaSet".to_owned(),
                name: set.metadata.name.clone().unwrap_or_default(),
                uid: set.metadata.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        },
        spec: template.spec.unwrap_or_default(),
        status: None,
    }
}

/// The status of the set.
pub(super) fn status(
    set: &VirtualMachineInstanceReplicaSet,
    owned: &[Member],
    now: Seconds,
) -> VirtualMachineInstanceReplicaSetStatus {
    let is_live = |member: &&Member| !member.phase.is_final() && !member.deleting;
    let live: Vec<_> = owned.iter().filter(is_live).collect();
    let ready = live.iter().filter(|member| member.ready).count();
    let old = set.status.clone().unwrap_or_default();
    let mut conditions = old.conditions;
    let paused = set.spec.paused == Some(true);
    if !paused {
        conditions.retain(|c| c.type_ != "ReplicaPaused");
    } else if conditions.iter().all(|c| c.type_ != "ReplicaPaused") {
        conditions.push(VirtualMachineInstanceReplicaSetCondition {
            status: "True".to_owned(),
            type_: "ReplicaPaused".to_owned(),
            last_probe_time: None,
            last_transition_time: Some(to_time(now)),
            message: Some("Controller got paused".to_owned()),
            reason: Some("Paused".to_owned()),
        });
    }
    let number = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    VirtualMachineInstanceReplicaSetStatus {
        conditions,
        label_selector: Some(text(&set.spec.selector)),
        ready_replicas: number(ready),
        replicas: number(live.len()),
    }
}

/// A selector as the API server's query parameter has it.
fn text(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={value}"));
    let terms = selector.match_expressions.iter().flatten().map(|term| {
        let values = term.values.clone().unwrap_or_default().join(",");
        let key = &term.key;
        match term.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    equal.chain(terms).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(replicas: i32) -> VirtualMachineInstanceReplicaSet {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet",
            "metadata": {"name": "web", "namespace": "shop", "uid": "s1"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}},
            }},
        }))
        .unwrap()
    }

    fn members(set: &VirtualMachineInstanceReplicaSet, phase: &str) -> Vec<Member> {
        let make = |name: &String| {
            let mut vmi = instance(set, name);
            vmi.status = Some(
                serde_json::from_value(
                    json!({"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}),
                )
                .unwrap(),
            );
            Member::of(&vmi)
        };
        names(set).iter().map(make).collect()
    }

    #[test]
    fn an_empty_set_is_filled_and_a_full_one_is_left_alone() {
        let set = set(3);
        assert_eq!(plan(&set, &[]).create, names(&set));
        let owned = members(&set, "Running");
        let plan = plan(&set, &owned);
        assert!(plan.create.is_empty() && plan.delete.is_empty());
        let status = status(&set, &owned, 0);
        assert_eq!((status.replicas, status.ready_replicas), (Some(3), Some(3)));
        assert_eq!(status.label_selector.as_deref(), Some("app=web"));
    }

    #[test]
    fn a_smaller_set_loses_its_last_places() {
        let owned = members(&set(3), "Running");
        let smaller = set(1);
        let plan = plan(&smaller, &owned);
        let gone: Vec<_> = plan
            .delete
            .iter()
            .map(|member| member.name.clone())
            .collect();
        assert_eq!(gone, [owned[1].name.clone(), owned[2].name.clone()]);
    }

    #[test]
    fn an_instance_that_is_over_is_cleared_away() {
        let set = set(2);
        let mut owned = members(&set, "Running");
        owned[0].phase = Phase::Failed;
        let plan = plan(&set, &owned);
        assert_eq!((plan.delete.len(), plan.create.len()), (1, 0));
        assert_eq!(status(&set, &owned, 0).replicas, Some(1));
    }

    #[test]
    fn a_paused_set_does_nothing_and_says_so() {
        let mut set = set(2);
        set.spec.paused = Some(true);
        assert!(plan(&set, &[]).create.is_empty());
        assert_eq!(status(&set, &[], 0).conditions[0].type_, "ReplicaPaused");
    }
}
