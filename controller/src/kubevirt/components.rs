//! How far the parts of the installation are: the controller's Deployment and the node daemons' DaemonSet. Pure.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};

/// A set of equal pods, as its controller has counted them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Kind and name.
    pub what: String,
    /// Whether the counts are those of its newest template.
    pub observed: bool,
    /// Pods that should be.
    pub desired: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Pods that are ready and have been for a while.
    pub available: i32,
}

impl From<&DaemonSet> for Component {
    fn from(set: &DaemonSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            what: named("DaemonSet", set.metadata.name.as_deref()),
            observed: status.observed_generation >= set.metadata.generation,
            desired: status.desired_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or(0),
            available: status.number_available.unwrap_or(0),
        }
    }
}

impl From<&Deployment> for Component {
    fn from(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let spec = deployment.spec.as_ref();
        Self {
            what: named("Deployment", deployment.metadata.name.as_deref()),
            observed: status.observed_generation >= deployment.metadata.generation,
            desired: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
        }
    }
}

fn named(kind: &str, name: Option<&str>) -> String {
    format!("{kind} {}", name.unwrap_or_default())
}

/// How far the whole is. The sentence names every part that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// All pods are of the newest version and available.
    Ready,
    /// Pods are being replaced.
    Progressing(String),
    /// All pods are of the newest version, and some are not available.
    Degraded(String),
    /// Something is not there at all.
    Absent(String),
}

/// The whole, from its parts. `absent`: parts that were looked for and not found.
#[must_use]
pub fn rollout(components: &[Component], absent: &[&str]) -> Rollout {
    if !absent.is_empty() {
        return Rollout::Absent(format!("{} not there", listed(absent)));
    }
    let moving: Vec<String> = components
        .iter()
        .filter(|component| !component.observed || component.updated < component.desired)
        .map(|component| {
            let Component { what, desired, .. } = component;
            let updated = if component.observed {
                component.updated
            } else {
                0
            };
            format!("{what}: {updated} of {desired} pods are of this version")
        })
        .collect();
    if !moving.is_empty() {
        return Rollout::Progressing(moving.join("; "));
    }
    let down: Vec<String> = components
        .iter()
        .filter(|component| component.available < component.desired)
        .map(|component| {
            let Component {
                what,
                desired,
                available,
                ..
            } = component;
            format!("{what}: {available} of {desired} pods are available")
        })
        .collect();
    if down.is_empty() {
        Rollout::Ready
    } else {
        Rollout::Degraded(down.join("; "))
    }
}

fn listed(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn daemons(generation: i64, observed: i64, counts: [i32; 3]) -> Component {
        let set: DaemonSet = serde_json::from_value(json!({
            "metadata": {"name": "catamaran-node", "generation": generation},
            "status": {
                "observedGeneration": observed, "desiredNumberScheduled": counts[0], "updatedNumberScheduled": counts[1],
                "numberAvailable": counts[2], "currentNumberScheduled": counts[0], "numberMisscheduled": 0, "numberReady": counts[2],
            },
        }))
        .unwrap();
        Component::from(&set)
    }

    fn controllers(replicas: i32, updated: i32, available: i32) -> Component {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "catamaran-controller", "generation": 1},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {"observedGeneration": 1, "updatedReplicas": updated, "availableReplicas": available},
        }))
        .unwrap();
        Component::from(&deployment)
    }

    #[test]
    fn an_installation_is_ready_when_all_pods_of_the_newest_version_are_available() {
        let say = |words: &str| words.to_owned();
        let set = "DaemonSet catamaran-node";
        let table = [
            (
                daemons(2, 2, [3, 3, 3]),
                controllers(2, 2, 2),
                Rollout::Ready,
            ),
            (
                daemons(2, 2, [0, 0, 0]),
                controllers(1, 1, 1),
                Rollout::Ready,
            ),
            (
                daemons(3, 2, [3, 3, 3]),
                controllers(2, 2, 2),
                Rollout::Progressing(format!("{set}: 0 of 3 pods are of this version")),
            ),
            (
                daemons(2, 2, [3, 1, 2]),
                controllers(2, 2, 2),
                Rollout::Progressing(format!("{set}: 1 of 3 pods are of this version")),
            ),
            (
                daemons(2, 2, [3, 3, 2]),
                controllers(2, 2, 2),
                Rollout::Degraded(format!("{set}: 2 of 3 pods are available")),
            ),
            (
                daemons(2, 2, [3, 3, 2]),
                controllers(2, 2, 1),
                Rollout::Degraded(format!(
                    "{set}: 2 of 3 pods are available; Deployment catamaran-controller: 1 of 2 pods are available"
                )),
            ),
            (
                daemons(2, 2, [3, 3, 2]),
                controllers(2, 1, 1),
                Rollout::Progressing(say(
                    "Deployment catamaran-controller: 1 of 2 pods are of this version",
                )),
            ),
        ];
        for (set, deployment, wanted) in table {
            assert_eq!(rollout(&[set, deployment], &[]), wanted);
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(
            rollout(&[controllers(2, 2, 2)], &["DaemonSet catamaran-node"]),
            Rollout::Absent("DaemonSet catamaran-node is not there".to_owned())
        );
    }
}
