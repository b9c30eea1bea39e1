//! What the cache keeps of launcher and attachment pods: what is read of them here. Pure.
//!
//! There may be thousands, and a whole pod is several times as large: its volumes alone are more than all that is read.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::objects::Key;
use crate::vmi::pod_view::GATE;
use crate::vmi::{ATTACHMENT_OF, NAME_LABEL};

/// Conditions that are read.
const CONDITIONS: [&str; 2] = ["PodScheduled", GATE];

/// Drops what nobody reads.
pub fn pare(pod: &mut Pod) {
    let Pod {
        metadata,
        spec,
        status,
    } = std::mem::take(pod);
    let labels = metadata.labels.map(|mut labels| {
        labels.retain(|key, _| key == NAME_LABEL || key == ATTACHMENT_OF);
        labels
    });
    *pod = Pod {
        metadata: ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
            owner_references: metadata.owner_references,
            labels,
            ..ObjectMeta::default()
        },
        spec: spec.map(|spec| PodSpec {
            node_name: spec.node_name,
            containers: spec.containers.into_iter().map(container).collect(),
            ..PodSpec::default()
        }),
        status: status.map(|status| PodStatus {
            phase: status.phase,
            reason: status.reason,
            message: status.message,
            pod_ip: status.pod_ip,
            qos_class: status.qos_class,
            conditions: status.conditions.map(|mut conditions| {
                conditions.retain(|condition| CONDITIONS.contains(&condition.type_.as_str()));
                conditions
            }),
            container_statuses: status
                .container_statuses
                .map(|statuses| statuses.into_iter().map(container_status).collect()),
            ..PodStatus::default()
        }),
    };
}

fn container(whole: Container) -> Container {
    Container {
        name: whole.name,
        image: whole.image,
        ..Container::default()
    }
}

fn container_status(whole: ContainerStatus) -> ContainerStatus {
    ContainerStatus {
        name: whole.name,
        ready: whole.ready,
        state: whole.state,
        ..ContainerStatus::default()
    }
}

/// The instance that a launcher pod is of, or an earlier one of the same name.
#[must_use]
pub fn instance(pod: &Pod) -> Option<Key> {
    let name = pod.metadata.labels.as_ref()?.get(NAME_LABEL)?;
    Some(Key::of(pod).named(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::vmi::hotplug::Attachment;
    use crate::vmi::is_over;
    use crate::vmi::pod_view::PodView;

    fn pod(change: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "p", "namespace": "shop", "uid": "p1", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {NAME_LABEL: "web", "app": "web"}, "annotations": {"a": "b"},
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "web", "uid": "u1", "controller": true}],
            },
            "spec": {
                "nodeName": "n1", "volumes": [{"name": "run", "emptyDir": {}}],
                "containers": [
                    {"name": "compute", "image": "node:1", "env": [{"name": "A", "value": "b"}]},
                    {"name": "guest-console-log", "image": "node:2"},
                ],
            },
            "status": {
                "phase": "Running", "reason": "r", "message": "m", "podIP": "10.0.0.1", "qosClass": "Burstable",
                "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}, {"type": GATE, "status": "True"}],
                "containerStatuses": [status(&json!({"running": {}}))],
            },
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    fn status(state: &Value) -> Value {
        json!({"name": "compute", "ready": true, "image": "node:1", "imageID": "i", "restartCount": 0, "state": state})
    }

    #[test]
    fn what_is_read_of_a_pod_is_the_same_of_what_is_kept() {
        let ended = json!([status(
            &json!({"terminated": {"exitCode": 3, "message": "why", "finishedAt": "2026-01-01T00:00:00Z"}})
        )]);
        let waiting = json!([status(
            &json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
        )]);
        let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}]);
        for change in [
            json!({}),
            json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z", "/metadata/deletionGracePeriodSeconds": 15}),
            json!({"/metadata/labels": {ATTACHMENT_OF: "web"}}),
            json!({"/status/phase": "Failed", "/status/containerStatuses": null}),
            json!({"/status/containerStatuses": ended}),
            json!({"/status/containerStatuses": waiting}),
            json!({"/status/conditions": unscheduled, "/spec/nodeName": null}),
            json!({"/status": {}}),
        ] {
            let whole = pod(&change);
            let mut kept = whole.clone();
            pare(&mut kept);
            assert_eq!(PodView::of(&kept), PodView::of(&whole), "{change}");
            assert_eq!(Attachment::of(&kept), Attachment::of(&whole), "{change}");
            assert_eq!(is_over(&kept), is_over(&whole), "{change}");
            assert_eq!(instance(&kept), instance(&whole));
            let (one, other) = (&kept.metadata, &whole.metadata);
            assert_eq!(one.owner_references, other.owner_references);
            assert_eq!(one.resource_version, other.resource_version);
            let label = |pod: &Pod| pod.metadata.labels.as_ref()?.get(ATTACHMENT_OF).cloned();
            assert_eq!(label(&kept), label(&whole));
        }
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let mut kept = pod(&json!({}));
        pare(&mut kept);
        let spec = kept.spec.unwrap();
        assert_eq!((spec.volumes, &spec.containers[0].env), (None, &None));
        assert_eq!(kept.metadata.annotations, None);
        assert_eq!(kept.status.unwrap().conditions.unwrap().len(), 2);
    }
}
