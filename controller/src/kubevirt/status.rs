//! The status of an installation. Pure.

use catamaran_api::{KubeVirt, KubeVirtCondition, KubeVirtStatus};
use catamaran_controller_api::PEER_VERSION;
use catamaran_lifecycle::{Seconds, to_time};

/// The status to store: the controller runs, so the installation is deployed.
pub(super) fn next(object: &KubeVirt, image: &str, now: Seconds) -> KubeVirtStatus {
    let old = object.status.clone().unwrap_or_default();
    let mut status = KubeVirtStatus {
        default_architecture: Some("amd64".to_owned()),
        observed_deployment_id: Some(env!("CARGO_PKG_VERSION").to_owned()),
        observed_generation: object.metadata.generation,
        observed_kube_virt_registry: Some(registry(image)),
        observed_kube_virt_version: Some(PEER_VERSION.to_owned()),
        operator_version: Some(PEER_VERSION.to_owned()),
        phase: Some("Deployed".to_owned()),
        target_deployment_id: Some(env!("CARGO_PKG_VERSION").to_owned()),
        target_kube_virt_registry: Some(registry(image)),
        target_kube_virt_version: Some(PEER_VERSION.to_owned()),
        conditions: old.conditions,
    };
    for (type_, holds, reason, message) in [
        (
            "Available",
            true,
            "AllComponentsReady",
            "All components are ready.",
        ),
        (
            "Progressing",
            false,
            "AllComponentsReady",
            "All components are ready.",
        ),
        (
            "Degraded",
            false,
            "AllComponentsReady",
            "All components are ready.",
        ),
        (
            "Created",
            true,
            "AllResourcesCreated",
            "All resources were created.",
        ),
    ] {
        set(&mut status.conditions, type_, holds, reason, message, now);
    }
    status
}

fn set(
    conditions: &mut Vec<KubeVirtCondition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Seconds,
) {
    let status = if holds { "True" } else { "False" };
    let old = conditions.iter().position(|c| c.type_ == type_);
    let since = old
        .map(|at| &conditions[at])
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time.clone());
    let new = KubeVirtCondition {
        status: status.to_owned(),
        type_: type_.to_owned(),
        last_probe_time: None,
        last_transition_time: since.or_else(|| Some(to_time(now))),
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
    };
    match old {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
}

/// Where an image comes from: everything before its last part.
fn registry(image: &str) -> String {
    image
        .rsplit_once('/')
        .map_or("", |(registry, _)| registry)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_spec_is_observed_and_nothing_else_is_written_twice() {
        let mut object = KubeVirt::default();
        object.metadata.generation = Some(2);
        let first = next(&object, "registry:5000/a/node:1", 5);
        assert_eq!(first.phase.as_deref(), Some("Deployed"));
        assert_eq!(
            first.observed_kube_virt_registry.as_deref(),
            Some("registry:5000/a")
        );
        object.status = Some(first.clone());
        assert_eq!(next(&object, "registry:5000/a/node:1", 99), first);
        object.metadata.generation = Some(3);
        assert_eq!(
            next(&object, "registry:5000/a/node:1", 99).observed_generation,
            Some(3)
        );
    }
}
