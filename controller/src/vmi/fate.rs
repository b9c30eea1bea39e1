//! What became of a guest whose launcher pod is not there any more. Pure.
//!
//! A pod that its kubelet has ended goes after its containers. One that somebody removed by force, or that was collected from a node which does not
//! answer, says nothing: the guest may still write to its disks. Before anything is started on them, one of those who can know has to say that it
//! has ended: the daemon of its node, or, of a whole node, whoever took it out of the cluster or out of service.

use k8s_openapi::api::core::v1::Node;

/// By which somebody says that a node is off, as Kubernetes documents it.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is known of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It runs no more.
    Over {
        /// For people.
        words: String,
    },
    /// Nobody has said that it has ended.
    Unknown {
        /// For programs.
        reason: &'static str,
        /// For people: what it waits for, and what they can do.
        words: String,
    },
}

impl Fate {
    /// Of a guest that was handed over to the node of that name; `None`: the cluster has no such node.
    pub(super) fn on(name: &str, node: Option<&Node>) -> Self {
        let Some(node) = node else {
            return Self::Over {
                words: format!("Its node {name} was taken out of the cluster"),
            };
        };
        let mut taints = node
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten());
        if taints.any(|taint| taint.key == OUT_OF_SERVICE) {
            return Self::Over {
                words: format!("Its node {name} is marked as out of service"),
            };
        }
        let status = node.status.as_ref();
        let mut conditions = status
            .into_iter()
            .flat_map(|status| status.conditions.iter().flatten());
        if conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            return Self::Unknown {
                reason: "EndNotProved",
                words: format!(
                    "The launcher pod was removed before it had ended; the node daemon of {name} has to say that the guest has"
                ),
            };
        }
        Self::Unknown {
            reason: "NodeNotReady",
            words: format!(
                "The launcher pod was removed, and node {name}, which does not answer, may still run the guest. It is started again when the node is \
                 back, or is off for certain and you say so: kubectl taint node {name} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fate(spec: &Value, ready: &str) -> Fate {
        let node = json!({"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": [
            {"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready},
        ]}});
        Fate::on("n1", Some(&serde_json::from_value(node).unwrap()))
    }

    #[test]
    fn a_node_that_answers_or_not_proves_nothing() {
        for (ready, expected) in [
            ("True", "EndNotProved"),
            ("False", "NodeNotReady"),
            ("Unknown", "NodeNotReady"),
        ] {
            let fate = fate(&json!({}), ready);
            assert!(matches!(fate, Fate::Unknown { reason, .. } if reason == expected));
        }
    }

    #[test]
    fn a_node_that_somebody_took_away_runs_nothing() {
        let taint = json!({"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]});
        assert!(matches!(fate(&taint, "Unknown"), Fate::Over { .. }));
        assert!(matches!(Fate::on("n1", None), Fate::Over { .. }));
        let other =
            json!({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]});
        assert!(matches!(fate(&other, "Unknown"), Fate::Unknown { .. }));
    }
}
