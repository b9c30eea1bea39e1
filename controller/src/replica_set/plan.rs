//! Which instances of a set are to be made and deleted, and its status. Pure.

use catamaran_api::{
    VirtualMachineInstance, VirtualMachineInstanceReplicaSet,
    VirtualMachineInstanceReplicaSetCondition, VirtualMachineInstanceReplicaSetStatus,
};
use catamaran_lifecycle::{Phase, Seconds, VmiView, to_time};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

use crate::finalizers;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// Names of the instances to make.
    pub(super) create: Vec<String>,
    /// Instances to delete.
    pub(super) delete: Vec<&'a VirtualMachineInstance>,
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
pub(super) fn plan<'a>(
    set: &VirtualMachineInstanceReplicaSet,
    owned: &'a [VirtualMachineInstance],
) -> Plan<'a> {
    let mut plan = Plan::default();
    if set.spec.paused == Some(true) {
        return plan;
    }
    let names = names(set);
    let named = |name: &String| {
        owned
            .iter()
            .find(|vmi| vmi.metadata.name.as_ref() == Some(name))
    };
    plan.create = names
        .iter()
        .filter(|name| named(name).is_none())
        .cloned()
        .collect();
    plan.delete = owned
        .iter()
        .filter(|vmi| {
            let view = VmiView::of(vmi);
            let in_place = names
                .iter()
                .any(|name| Some(name) == vmi.metadata.name.as_ref());
            !view.deleting && (view.phase.is_final() || !in_place)
        })
        .collect();
    plan
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
    owned: &[VirtualMachineInstance],
    now: Seconds,
) -> VirtualMachineInstanceReplicaSetStatus {
    let live: Vec<_> = owned
        .iter()
        .filter(|vmi| VmiView::of(vmi).is_live())
        .collect();
    let ready = live.iter().filter(|vmi| is_ready(vmi)).count();
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

fn is_ready(vmi: &VirtualMachineInstance) -> bool {
    let Some(status) = vmi.status.as_ref() else {
        return false;
    };
    Phase::parse(status.phase.as_deref()) == Phase::Running
        && status
            .conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True")
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

    fn instances(
        set: &VirtualMachineInstanceReplicaSet,
        phase: &str,
    ) -> Vec<VirtualMachineInstance> {
        let make = |name: &String| {
            let mut vmi = instance(set, name);
            vmi.status = Some(
                serde_json::from_value(
                    json!({"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]}),
                )
                .unwrap(),
            );
            vmi
        };
        names(set).iter().map(make).collect()
    }

    #[test]
    fn an_empty_set_is_filled_and_a_full_one_is_left_alone() {
        let set = set(3);
        assert_eq!(plan(&set, &[]).create, names(&set));
        let owned = instances(&set, "Running");
        let plan = plan(&set, &owned);
        assert!(plan.create.is_empty() && plan.delete.is_empty());
        let status = status(&set, &owned, 0);
        assert_eq!((status.replicas, status.ready_replicas), (Some(3), Some(3)));
        assert_eq!(status.label_selector.as_deref(), Some("app=web"));
    }

    #[test]
    fn a_smaller_set_loses_its_last_places() {
        let owned = instances(&set(3), "Running");
        let smaller = set(1);
        let plan = plan(&smaller, &owned);
        let gone: Vec<_> = plan
            .delete
            .iter()
            .map(|vmi| vmi.metadata.name.clone())
            .collect();
        assert_eq!(
            gone,
            [
                owned[1].metadata.name.clone(),
                owned[2].metadata.name.clone()
            ]
        );
    }

    #[test]
    fn an_instance_that_is_over_is_cleared_away() {
        let set = set(2);
        let mut owned = instances(&set, "Running");
        owned[0].status.as_mut().unwrap().phase = Some("Failed".to_owned());
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
