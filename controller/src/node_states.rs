//! Whether nodes answer, as the control plane knows it: the one look at a `Node` that decisions about its guests take.
//!
//! A pod says too little: the control plane marks the pods of a silent node as not ready, but leaves one alone that has not become ready yet.

use std::collections::HashMap;
use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::client::Client;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

use crate::error::chain;

/// By which somebody says that a node is off, as Kubernetes documents it.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// By which the control plane says that a node's kubelet is silent.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// What is known of a node that the cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Its kubelet answers and is ready.
    Answers,
    /// Its kubelet answers, and says that it is not ready.
    NotReady,
    /// Nobody knows what runs there.
    Silent,
    /// Somebody says that it is off.
    OutOfService,
}

impl NodeState {
    /// Of a node as the API server has it.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let tainted = |key: &str| {
            let spec = node.spec.iter();
            let mut taints = spec.flat_map(|spec| spec.taints.iter().flatten());
            taints.any(|taint| taint.key == key)
        };
        if tainted(OUT_OF_SERVICE) {
            return Self::OutOfService;
        }
        let status = node.status.iter();
        let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        match ready.map(|condition| condition.status.as_str()) {
            _ if tainted(UNREACHABLE) => Self::Silent,
            Some("True") => Self::Answers,
            Some("False") => Self::NotReady,
            // The control plane itself writes Unknown.
            _ => Self::Silent,
        }
    }
}

/// The states of all nodes. Nothing else of a node is kept.
#[derive(Debug)]
pub struct NodeStates(watch::Sender<Option<HashMap<String, NodeState>>>);

impl Default for NodeStates {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl NodeStates {
    /// State of one node; `None`: the cluster has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<NodeState> {
        self.0.borrow().as_ref()?.get(name).copied()
    }

    /// Until the nodes have been listed once.
    pub async fn filled(&self) {
        // The sender is here, so that it can't be closed.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    /// Takes a change, `None` being that the node is gone; whether it is one.
    fn set(&self, name: &str, state: Option<NodeState>) -> bool {
        self.0.send_if_modified(|states| {
            let states = states.get_or_insert_default();
            let before = match state {
                Some(state) => states.insert(name.to_owned(), state),
                None => states.remove(name),
            };
            before != state
        })
    }

    /// Takes a whole list; gives the names whose state has changed.
    fn replace(&self, listed: HashMap<String, NodeState>) -> Vec<String> {
        let before = self.0.send_replace(Some(listed)).unwrap_or_default();
        let after = self.0.borrow().clone().unwrap_or_default();
        let names = before.keys().chain(after.keys());
        let mut changed: Vec<String> = names
            .filter(|name| before.get(*name) != after.get(*name))
            .cloned()
            .collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// Follows the nodes for ever. `changed`: the name of a node whose state is another one now.
pub async fn follow(client: Client, states: &NodeStates, changed: impl Fn(&str)) {
    let api: Api<Node> = Api::all(client);
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut events = pin!(events);
    let mut listed = HashMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(node)) => {
                listed.insert(node.name_any(), NodeState::of(&node));
            }
            Ok(Event::InitDone) => {
                for name in states.replace(std::mem::take(&mut listed)) {
                    changed(&name);
                }
            }
            Ok(Event::Apply(node)) => {
                let name = node.name_any();
                if states.set(&name, Some(NodeState::of(&node))) {
                    changed(&name);
                }
            }
            Ok(Event::Delete(node)) => {
                let name = node.name_any();
                if states.set(&name, None) {
                    changed(&name);
                }
            }
            Err(error) => {
                tracing::warn!(kind = "Node", error = chain(&error), "watch interrupted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: Option<&str>, taints: &[&str]) -> Node {
        let taints: Vec<_> = taints
            .iter()
            .map(|key| json!({"key": key, "effect": "NoExecute"}))
            .collect();
        let ready = ready.map(|status| json!({"type": "Ready", "status": status}));
        let pressure = json!({"type": "MemoryPressure", "status": "True"});
        let conditions: Vec<_> = [Some(pressure), ready].into_iter().flatten().collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n1"}, "spec": {"taints": taints}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_answers_when_its_kubelet_is_ready_and_nobody_says_otherwise() {
        for (ready, taints, expected) in [
            (Some("True"), &[][..], NodeState::Answers),
            (
                Some("True"),
                &["node.kubernetes.io/unschedulable"],
                NodeState::Answers,
            ),
            (Some("True"), &[UNREACHABLE], NodeState::Silent),
            (Some("Unknown"), &[], NodeState::Silent),
            (Some("Unknown"), &[UNREACHABLE], NodeState::Silent),
            (Some("False"), &[], NodeState::NotReady),
            (Some("False"), &[UNREACHABLE], NodeState::Silent),
            (None, &[], NodeState::Silent),
            (
                Some("Unknown"),
                &[UNREACHABLE, OUT_OF_SERVICE],
                NodeState::OutOfService,
            ),
            (Some("True"), &[OUT_OF_SERVICE], NodeState::OutOfService),
        ] {
            let found = NodeState::of(&node(ready, taints));
            assert_eq!(found, expected, "{ready:?} {taints:?}");
        }
    }

    #[test]
    fn only_changes_are_told() {
        let states = NodeStates::default();
        assert_eq!(states.get("a"), None);
        assert!(states.set("a", Some(NodeState::Answers)));
        assert!(
            !states.set("a", Some(NodeState::Answers)),
            "a mere heartbeat"
        );
        assert!(states.set("a", Some(NodeState::Silent)));
        assert_eq!(states.get("a"), Some(NodeState::Silent));
        let listed = HashMap::from([
            ("a".to_owned(), NodeState::Silent),
            ("b".to_owned(), NodeState::Answers),
        ]);
        assert_eq!(states.replace(listed), ["b"]);
        assert_eq!(states.replace(HashMap::new()), ["a", "b"]);
        assert!(!states.set("a", None), "it went unseen");
    }
}
