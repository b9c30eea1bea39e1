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

impl Fate {
    /// Of a guest that was handed over to the node of that name.
    pub(super) fn on(name: &str, node: NodeState) -> Self {
        match node {
            NodeState::Gone => Self::Over {
                words: format!("Its node {name} was taken out of the cluster"),
            },
            NodeState::OutOfService => Self::Over {
                words: format!("Its node {name} is marked as out of service"),
            },
            NodeState::Answers => Self::Unknown {
                reason: "EndNotProved",
                words: format!(
                    "The launcher pod was removed before it had ended; the node daemon of {name} has to say that the guest has"
                ),
            },
            NodeState::Silent => Self::Unknown {
                reason: "NodeNotReady",
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
            (NodeState::Answers, Some("EndNotProved")),
            (NodeState::Silent, Some("NodeNotReady")),
            (NodeState::OutOfService, None),
            (NodeState::Gone, None),
        ] {
            let reason = match Fate::on("n1", node) {
                Fate::Over { .. } => None,
                Fate::Unknown { reason, .. } => Some(reason),
            };
            assert_eq!(reason, expected, "{node:?}");
        }
    }
}
