//! What became of a guest whose launcher pod is not there any more. Pure.
//!
//! A pod that its kubelet has ended goes after its containers. One that somebody removed by force, or that was collected from a node which does not
//! answer, says nothing: the guest may still write to its disks. Before anything is started on them, one of those who can know has to say that it
//! has ended: the daemon of its node, or, of a whole node, whoever took it out of the cluster or out of service.

use crate::node_states::{NodeState, OUT_OF_SERVICE};

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

/// Reason of a guest whose node is not ready, for whatever cause.
pub(super) const NOT_READY: &str = "NodeNotReady";

/// Words about a guest in a pod that still counts as running; `None` where its node answers and is ready.
pub(super) fn doubt(node: Option<NodeState>) -> Option<&'static str> {
    match node {
        Some(NodeState::Answers) => None,
        Some(NodeState::NotReady) => {
            Some("The node says that it is not ready; the guest may still run there")
        }
        Some(NodeState::Silent) => Some("The node does not answer; the guest may still run there"),
        Some(NodeState::OutOfService) => {
            Some("The node is marked as out of service; the guest is over when its pod has gone")
        }
        None => {
            Some("The cluster has no such node any more; the guest is over when its pod has gone")
        }
    }
}

impl Fate {
    /// Of a guest that was handed over to the node of that name; `None`: the cluster has no such node.
    pub(super) fn on(name: &str, node: Option<NodeState>) -> Self {
        let Some(node) = node else {
            return Self::Over {
                words: format!("Its node {name} was taken out of the cluster"),
            };
        };
        match node {
            NodeState::OutOfService => Self::Over {
                words: format!("Its node {name} is marked as out of service"),
            },
            NodeState::Answers => Self::Unknown {
                reason: "EndNotProved",
                words: format!(
                    "The launcher pod was removed before it had ended; the node daemon of {name} has to say that the guest has"
                ),
            },
            NodeState::NotReady => Self::Unknown {
                reason: NOT_READY,
                words: format!(
                    "The launcher pod was removed, and node {name}, which says that it is not ready, may still run the guest. It is started again when \
                     the node is ready, or is off for certain and you say so: kubectl taint node {name} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
                ),
            },
            NodeState::Silent => Self::Unknown {
                reason: NOT_READY,
                words: format!(
                    "The launcher pod was removed, and node {name}, which does not answer, may still run the guest. It is started again when the node \
                     is back, or is off for certain and you say so: kubectl taint node {name} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_a_node_away_says_that_nothing_runs_there() {
        for (node, expected) in [
            (Some(NodeState::Answers), Some("EndNotProved")),
            (Some(NodeState::NotReady), Some("NodeNotReady")),
            (Some(NodeState::Silent), Some("NodeNotReady")),
            (Some(NodeState::OutOfService), None),
            (None, None),
        ] {
            let reason = match Fate::on("n1", node) {
                Fate::Over { .. } => None,
                Fate::Unknown { reason, .. } => Some(reason),
            };
            assert_eq!(reason, expected, "{node:?}");
        }
    }

    #[test]
    fn a_node_that_says_that_it_is_not_ready_is_told_from_one_that_says_nothing() {
        for (node, words) in [
            (NodeState::NotReady, "says that it is not ready"),
            (NodeState::Silent, "does not answer"),
        ] {
            let Fate::Unknown { words: said, .. } = Fate::on("n1", Some(node)) else {
                panic!("{node:?} is over")
            };
            assert!(said.contains(words), "{said}");
            assert!(doubt(Some(node)).unwrap().contains(words));
        }
        assert_eq!(doubt(Some(NodeState::Answers)), None);
    }
}
