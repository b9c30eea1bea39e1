//! Why a launcher pod does not run. Pure.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::answer::clause;
use super::facts::Facts;

/// What nodes offer that can run guests at full speed.
const KVM: &str = "devices.kubevirt.io/kvm";
/// Reasons of the kubelet for a volume that can't be mounted.
const MOUNT: [&str; 2] = ["FailedMount", "FailedAttachVolume"];
/// Reasons of a waiting container that mean its image.
const IMAGE: [&str; 5] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
];

/// What the pod waits for.
pub(super) fn waits(facts: &Facts) -> Option<String> {
    let Some(pod) = facts.pod() else {
        // Who may not read pods learns the rest from the conditions.
        let (_, words) = facts.said("PodScheduled", "False")?;
        return Some(unschedulable(facts, words));
    };
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let scheduled = conditions
        .into_iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = scheduled {
        let words = condition.message.as_deref().unwrap_or_default();
        return Some(unschedulable(facts, words));
    }
    if let Some(message) = image_failure(pod) {
        return Some(image(facts, clause(message)));
    }
    let running = status.is_some_and(|status| status.phase.as_deref() == Some("Running"));
    if running {
        return None;
    }
    let name = &facts.name;
    let of_pod = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(words) = facts.warning("Pod", of_pod, &MOUNT) {
        return Some(format!(
            "{name} does not start because a volume of its pod can't be mounted: {}.",
            clause(words)
        ));
    }
    if let Some(words) = facts.warning("Pod", of_pod, &["FailedCreatePodSandBox"]) {
        return Some(format!(
            "{name} does not start because {} can't set up its pod: {}.",
            facts.node_words(),
            clause(words)
        ));
    }
    let node = facts.node_name()?;
    Some(format!(
        "{name} is starting: its pod is being prepared on node {node}."
    ))
}

/// Message of a container that waits for an image.
fn image_failure(pod: &Pod) -> Option<&str> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        let known = IMAGE.contains(&reason);
        known.then(|| waiting.message.as_deref().unwrap_or(reason))
    })
}

/// An image can't be pulled: that of a disk, or that of the launcher.
pub(super) fn image(facts: &Facts, words: &str) -> String {
    let volumes = facts.vmi.there().map(|vmi| &vmi.spec.volumes);
    let disk = volumes.into_iter().flatten().find_map(|volume| {
        let image = &volume.container_disk.as_ref()?.image;
        words
            .contains(image.as_str())
            .then_some((image, &volume.name))
    });
    let name = &facts.name;
    match disk {
        Some((image, volume)) => format!(
            "{name} does not start because image {image:?} of its volume {volume:?} can't be pulled: {words}."
        ),
        None => format!("{name} does not start because an image can't be pulled: {words}."),
    }
}

/// No node takes the pod.
fn unschedulable(facts: &Facts, words: &str) -> String {
    let name = &facts.name;
    let words = clause(words);
    let begin = format!("{name} does not start because");
    if words.contains("PersistentVolumeClaims") || words.contains("persistentvolumeclaim") {
        return format!("{begin} {}.", claim(facts, words));
    }
    if words.contains(&format!("Insufficient {KVM}")) {
        return format!(
            "{begin} no node that could take it offers KVM ({words}); without KVM guests run only where the KubeVirt object says so (spec.configuration.developerConfiguration.useEmulation), and a machine that waits takes that up by `kubectl catamaran restart {name}`."
        );
    }
    if !facts.nodes.is_empty() && facts.nodes.iter().all(is_cordoned) {
        return format!("{begin} every node is cordoned ({words}).");
    }
    for (resource, what) in [("memory", "memory"), ("cpu", "processors")] {
        if words.contains(&format!("Insufficient {resource}")) {
            let asked = asked(facts, resource);
            let asked = asked.map(|asked| format!(" ({asked})")).unwrap_or_default();
            return format!(
                "{begin} no node has the {what} left that it asks for{asked}: {words}."
            );
        }
    }
    format!("{begin} no node takes it: {words}.")
}

/// What the pod asks for.
fn asked(facts: &Facts, resource: &str) -> Option<String> {
    let containers = &facts.pod()?.spec.as_ref()?.containers;
    containers.iter().find_map(|container| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        requests.get(resource).map(|quantity| quantity.0.clone())
    })
}

/// A claim that is not bound, with the storage's own words if there are any.
fn claim(facts: &Facts, words: &str) -> String {
    let wanted = |name: &str| {
        let volumes = facts.vmi.there().map(|vmi| &vmi.spec.volumes);
        volumes.into_iter().flatten().any(|volume| {
            let claim = volume.persistent_volume_claim.as_ref();
            let claim = claim.map(|claim| claim.claim_name.as_str());
            let data = volume.data_volume.as_ref().map(|data| data.name.as_str());
            claim == Some(name) || data == Some(name)
        })
    };
    let pending = facts.claims.iter().find_map(|claim| {
        let name = claim.metadata.name.as_deref().filter(|name| wanted(name))?;
        let phase = claim.status.as_ref()?.phase.as_deref()?;
        (phase != "Bound").then_some(name)
    });
    let Some(name) = pending else {
        return format!("a claim is not ready: {words}");
    };
    let reasons = ["ProvisioningFailed", "FailedBinding", "VolumeMismatch"];
    match facts.warning("PersistentVolumeClaim", name, &reasons) {
        Some(said) => format!("claim {name:?} is not bound to a volume: {}", clause(said)),
        None => format!("claim {name:?} is not bound to a volume"),
    }
}

/// The kubelet answers and is ready.
pub(super) fn is_ready(node: &Node) -> bool {
    ready(node) == Some("True")
}

/// The kubelet answers, and is not ready. Of one that is silent the control plane says Unknown, and taints it.
pub(super) fn says_not_ready(node: &Node) -> bool {
    let mut taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    let unreachable = taints.any(|taint| taint.key == "node.kubernetes.io/unreachable");
    ready(node) == Some("False") && !unreachable
}

fn ready(node: &Node) -> Option<&str> {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|c| c.type_ == "Ready");
    ready.map(|condition| condition.status.as_str())
}

fn is_cordoned(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    spec.is_some_and(|spec| spec.unschedulable == Some(true))
}
