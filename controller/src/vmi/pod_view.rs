//! What a launcher pod says about its run. Pure.

use catamaran_lifecycle::{Seconds, from_time};
use catamaran_plan::pod::CONTAINER;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};

/// Readiness gate: the guest runs and is not paused.
pub(super) const GATE: &str = "kubevirt.io/virtual-machine-unpaused";

/// Reasons of a waiting container that mean its image, or that of a disk, can't be had.
const IMAGE_FAILURES: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
];

/// A launcher pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodView {
    /// UID.
    pub(super) uid: String,
    /// Node that it was given to.
    pub(super) node: Option<String>,
    /// It has an address.
    pub(super) has_address: bool,
    /// When it was made.
    pub(super) created: Seconds,
    /// It has been asked to go, and has so many seconds from then.
    pub(super) deleting: Option<i64>,
    /// Quality of service.
    pub(super) qos: Option<String>,
    /// Image of the launcher.
    pub(super) image: Option<String>,
    /// What it does.
    pub(super) state: PodState,
    /// No node takes it: the scheduler's words.
    pub(super) unschedulable: Option<String>,
    /// (reason, message) of an image that can't be had.
    pub(super) image_failure: Option<(String, String)>,
    /// Status of [`GATE`].
    pub(super) gate: Option<bool>,
    /// The container is ready: its readiness probe passes.
    pub(super) ready: bool,
}

/// What a launcher pod does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PodState {
    /// Not there yet.
    Waiting,
    /// The launcher runs.
    Running,
    /// Nothing of it runs any more.
    Ended {
        /// The guest ended well.
        well: bool,
        /// For people.
        words: String,
        /// When, if the kubelet has said so.
        at: Option<Seconds>,
    },
}

impl PodView {
    /// Of a pod as the API server has it.
    pub(super) fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let spec = pod.spec.as_ref();
        let containers = status.container_statuses.iter().flatten();
        let compute = containers
            .clone()
            .find(|container| container.name == CONTAINER);
        let condition = |type_: &str| -> Option<&PodCondition> {
            let mut conditions = status.conditions.iter().flatten();
            conditions.find(|condition| condition.type_ == type_)
        };
        let scheduled = condition("PodScheduled").filter(|c| c.status == "False");
        let image_failure = containers.clone().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.clone()?;
            let known = IMAGE_FAILURES.contains(&reason.as_str());
            known.then(|| (reason, waiting.message.clone().unwrap_or_default()))
        });
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()),
            has_address: status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty()),
            created: pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, from_time),
            deleting: pod
                .metadata
                .deletion_timestamp
                .as_ref()
                .map(|_| pod.metadata.deletion_grace_period_seconds.unwrap_or(0)),
            qos: status.qos_class.clone(),
            image: spec
                .and_then(|spec| spec.containers.iter().find(|c| c.name == CONTAINER))
                .and_then(|container| container.image.clone()),
            state: state(&status.phase, &status.reason, &status.message, compute),
            unschedulable: scheduled
                .filter(|c| c.reason.as_deref() == Some("Unschedulable"))
                .map(|c| c.message.clone().unwrap_or_default()),
            image_failure,
            gate: condition(GATE).map(|c| c.status == "True"),
            ready: compute.is_some_and(|compute| compute.ready),
        }
    }
}

/// The kubelet's word on the container is the proof; a final phase alone counts only where no container was ever seen running.
fn state(
    phase: &Option<String>,
    reason: &Option<String>,
    message: &Option<String>,
    compute: Option<&ContainerStatus>,
) -> PodState {
    let state = compute.and_then(|compute| compute.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let said = [&ended.message, message, &ended.reason, reason];
        let words = said
            .into_iter()
            .flatten()
            .find(|words| !words.is_empty() && *words != "Completed" && *words != "Error")
            .cloned();
        return PodState::Ended {
            well: ended.exit_code == 0,
            words: words.unwrap_or_else(|| match ended.exit_code {
                0 => "The guest has shut down".to_owned(),
                code => format!("The launcher ended with code {code}"),
            }),
            at: ended.finished_at.as_ref().map(from_time),
        };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return PodState::Running;
    }
    match phase.as_deref() {
        Some(word @ ("Failed" | "Succeeded")) => PodState::Ended {
            well: word == "Succeeded",
            words: [message, reason]
                .into_iter()
                .flatten()
                .find(|words| !words.is_empty())
                .cloned()
                .unwrap_or_else(|| "The launcher pod has ended".to_owned()),
            at: None,
        },
        _ => PodState::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view(status: &serde_json::Value) -> PodView {
        PodView::of(
            &serde_json::from_value(json!({
                "metadata": {"name": "p", "uid": "p1", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "n1", "containers": [{"name": "compute", "image": "node:1"}]},
                "status": status,
            }))
            .unwrap(),
        )
    }

    fn compute(state: &serde_json::Value) -> serde_json::Value {
        json!([{"name": "compute", "ready": false, "image": "node:1", "imageID": "", "restartCount": 0, "state": state}])
    }

    #[test]
    fn a_pod_runs_when_its_launcher_does() {
        let pod = view(
            &json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": compute(&json!({"running": {}}))}),
        );
        assert_eq!(pod.state, PodState::Running);
        assert!(pod.has_address);
        assert_eq!(view(&json!({"phase": "Pending"})).state, PodState::Waiting);
    }

    #[test]
    fn only_the_kubelet_proves_the_end_of_a_launcher() {
        // The pod collector says Failed for a node that is gone; the launcher may still run there.
        let lost = view(
            &json!({"phase": "Failed", "containerStatuses": compute(&json!({"running": {}}))}),
        );
        assert_eq!(lost.state, PodState::Running);
        let ended = view(
            &json!({"phase": "Running", "containerStatuses": compute(&json!({"terminated": {"exitCode": 10, "reason": "Error"}}))}),
        );
        assert_eq!(
            ended.state,
            PodState::Ended {
                well: false,
                words: "The launcher ended with code 10".to_owned(),
                at: None
            }
        );
        let evicted = view(
            &json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}),
        );
        assert!(
            matches!(evicted.state, PodState::Ended { words, .. } if words.contains("low on memory"))
        );
    }

    #[test]
    fn images_that_cannot_be_had_are_told_from_other_waits() {
        let waiting = |reason: &str| {
            view(
                &json!({"phase": "Pending", "containerStatuses": compute(&json!({"waiting": {"reason": reason, "message": "m"}}))}),
            )
        };
        assert_eq!(
            waiting("ErrImageNeverPull").image_failure,
            Some(("ErrImageNeverPull".to_owned(), "m".to_owned()))
        );
        assert_eq!(waiting("ContainerCreating").image_failure, None);
    }

    #[test]
    fn the_scheduler_is_quoted() {
        let pod = view(&json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"},
            {"type": GATE, "status": "True"},
        ]}));
        assert_eq!(
            pod.unschedulable.as_deref(),
            Some("0/2 nodes are available")
        );
        assert_eq!(pod.gate, Some(true));
    }
}
