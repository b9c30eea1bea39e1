//! The status of an installation. Pure.

use catamaran_api::{KubeVirt, KubeVirtCondition, KubeVirtStatus};
use catamaran_controller_api::PEER_VERSION;
use catamaran_lifecycle::{Seconds, to_time};

use super::components::Rollout;

/// The phase of an installation that has been complete once.
const DEPLOYED: &str = "Deployed";

/// The status to store.
pub(super) fn next(
    object: &KubeVirt,
    image: &str,
    rollout: &Rollout,
    now: Seconds,
) -> KubeVirtStatus {
    let old = object.status.clone().unwrap_or_default();
    let complete = *rollout == Rollout::Ready;
    // A version that is wanted is observed when all of it runs.
    let observed = |new: &str, old: Option<String>| {
        if complete { Some(new.to_owned()) } else { old }
    };
    let version = env!("CARGO_PKG_VERSION");
    let been = old.phase.as_deref() == Some(DEPLOYED);
    let mut status = KubeVirtStatus {
        default_architecture: Some("amd64".to_owned()),
        observed_deployment_id: observed(version, old.observed_deployment_id),
        observed_generation: object.metadata.generation,
        observed_kube_virt_registry: observed(&registry(image), old.observed_kube_virt_registry),
        observed_kube_virt_version: observed(PEER_VERSION, old.observed_kube_virt_version),
        operator_version: Some(PEER_VERSION.to_owned()),
        phase: Some(
            if complete || been {
                DEPLOYED
            } else {
                "Deploying"
            }
            .to_owned(),
        ),
        target_deployment_id: Some(version.to_owned()),
        target_kube_virt_registry: Some(registry(image)),
        target_kube_virt_version: Some(PEER_VERSION.to_owned()),
        conditions: old.conditions,
    };
    let ([available, progressing, degraded, created], reason, message) = match rollout {
        Rollout::Ready => (
            [true, false, false, true],
            "AllComponentsReady",
            "All components are ready.",
        ),
        Rollout::Progressing(words) => (
            [false, true, false, true],
            "DeploymentInProgress",
            words.as_str(),
        ),
        // Pods that have never been available are still on their way.
        Rollout::Degraded(words) if !been => (
            [false, true, false, true],
            "DeploymentInProgress",
            words.as_str(),
        ),
        Rollout::Degraded(words) => (
            [false, false, true, true],
            "ComponentsNotReady",
            words.as_str(),
        ),
        Rollout::Absent(words) => (
            [false, false, true, false],
            "ComponentsMissing",
            words.as_str(),
        ),
    };
    let conditions = [
        ("Available", available),
        ("Progressing", progressing),
        ("Degraded", degraded),
    ];
    for (type_, holds) in conditions {
        set(&mut status.conditions, type_, holds, reason, message, now);
    }
    let (reason, message) = if created {
        ("AllResourcesCreated", "All resources were created.")
    } else {
        (reason, message)
    };
    set(
        &mut status.conditions,
        "Created",
        created,
        reason,
        message,
        now,
    );
    status
}

/// The status while another installation is in the way.
pub(super) fn refused(object: &KubeVirt, why: &str, now: Seconds) -> KubeVirtStatus {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    for (type_, holds) in [("Available", false), ("Degraded", true)] {
        set(
            &mut status.conditions,
            type_,
            holds,
            "AnotherInstallation",
            why,
            now,
        );
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

    const IMAGE: &str = "registry:5000/a/node:1";

    #[test]
    fn a_changed_spec_is_observed_and_nothing_else_is_written_twice() {
        let mut object = KubeVirt::default();
        object.metadata.generation = Some(2);
        let first = next(&object, IMAGE, &Rollout::Ready, 5);
        assert_eq!(first.phase.as_deref(), Some("Deployed"));
        assert_eq!(
            first.observed_kube_virt_registry.as_deref(),
            Some("registry:5000/a")
        );
        object.status = Some(first.clone());
        assert_eq!(next(&object, IMAGE, &Rollout::Ready, 99), first);
        object.metadata.generation = Some(3);
        assert_eq!(
            next(&object, IMAGE, &Rollout::Ready, 99).observed_generation,
            Some(3)
        );
    }

    /// The conditions as `Available Progressing Degraded Created`, the reason of the first, and the phase.
    fn row(status: &KubeVirtStatus) -> String {
        let words: Vec<&str> = status
            .conditions
            .iter()
            .map(|c| c.status.as_str())
            .collect();
        let reason = status.conditions[0].reason.as_deref();
        let phase = status.phase.as_deref();
        format!(
            "{} {} {}",
            words.join(" "),
            reason.unwrap_or_default(),
            phase.unwrap_or_default()
        )
    }

    #[test]
    fn conditions_follow_the_roll_out() {
        let fresh = KubeVirt::default();
        let complete = KubeVirt {
            status: Some(next(&fresh, IMAGE, &Rollout::Ready, 1)),
            ..KubeVirt::default()
        };
        let words = || "DaemonSet a: 1 of 2".to_owned();
        let table = [
            (
                &fresh,
                Rollout::Ready,
                "True False False True AllComponentsReady Deployed",
            ),
            (
                &fresh,
                Rollout::Progressing(words()),
                "False True False True DeploymentInProgress Deploying",
            ),
            (
                &fresh,
                Rollout::Degraded(words()),
                "False True False True DeploymentInProgress Deploying",
            ),
            (
                &fresh,
                Rollout::Absent(words()),
                "False False True False ComponentsMissing Deploying",
            ),
            (
                &complete,
                Rollout::Progressing(words()),
                "False True False True DeploymentInProgress Deployed",
            ),
            (
                &complete,
                Rollout::Degraded(words()),
                "False False True True ComponentsNotReady Deployed",
            ),
            (
                &complete,
                Rollout::Absent(words()),
                "False False True False ComponentsMissing Deployed",
            ),
        ];
        for (object, rollout, wanted) in table {
            assert_eq!(
                row(&next(object, IMAGE, &rollout, 9)),
                wanted,
                "{rollout:?}"
            );
        }
    }

    #[test]
    fn a_version_is_observed_when_all_of_it_runs() {
        let first = next(&KubeVirt::default(), "old/node:1", &Rollout::Ready, 1);
        let object = KubeVirt {
            status: Some(first),
            ..KubeVirt::default()
        };
        let moving = Rollout::Progressing("1 of 2".to_owned());
        let status = next(&object, "new/node:2", &moving, 2);
        assert_eq!(status.observed_kube_virt_registry.as_deref(), Some("old"));
        assert_eq!(status.target_kube_virt_registry.as_deref(), Some("new"));
    }

    #[test]
    fn another_installation_is_told() {
        let status = refused(&KubeVirt::default(), "pod kubevirt/virt-operator-1 runs", 3);
        assert_eq!(status.conditions[0].type_, "Available");
        assert_eq!(
            status.conditions[0].reason.as_deref(),
            Some("AnotherInstallation")
        );
        assert_eq!(status.phase, None);
    }
}
