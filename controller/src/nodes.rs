//! Nodes whose daemon is silent get no more machines.
//!
//! A daemon writes the annotation `kubevirt.io/heartbeat` of its node every 90 s, and the label `kubevirt.io/schedulable=true` with it. When the
//! annotation has not changed for five minutes *on our own clock* (so that clocks need not agree), the leader turns the label to `false`, as
//! the peer does; launcher pods select on it. The daemon's next heartbeat turns it back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::client::Client;
use serde_json::json;

use crate::error::{Error, chain};
use crate::metrics::Metrics;
use crate::patch::INSTALLATION_MANAGER;

/// Says whether a node takes machines.
pub const SCHEDULABLE: &str = "kubevirt.io/schedulable";
/// When a daemon wrote last.
pub const HEARTBEAT: &str = "kubevirt.io/heartbeat";
/// Says whether a node has a KVM that works.
pub const KVM: &str = "catamaran.dev/kvm";
/// A daemon that has been silent for so long is lost. Three heartbeats fit in.
const SILENCE: Duration = Duration::from_secs(300);
/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(60);

/// A node as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its last heartbeat, as its daemon wrote it.
    pub heartbeat: Option<String>,
    /// Whether it takes machines.
    pub schedulable: bool,
    /// Whether its KVM works.
    pub kvm: bool,
}

/// The last heartbeat of each node, and when it was seen first.
#[derive(Debug, Default)]
pub struct Heartbeats(HashMap<String, (Option<String>, Instant)>);

impl Heartbeats {
    /// Takes in what was found; gives the names of the nodes that must not take machines any more.
    pub fn silent(&mut self, nodes: &[Found], now: Instant) -> Vec<String> {
        self.0
            .retain(|name, _| nodes.iter().any(|node| node.name == *name));
        let mut silent = Vec::new();
        for node in nodes {
            let (last, since) = self
                .0
                .entry(node.name.clone())
                .or_insert_with(|| (node.heartbeat.clone(), now));
            if *last != node.heartbeat {
                (*last, *since) = (node.heartbeat.clone(), now);
            }
            if node.schedulable && now.duration_since(*since) >= SILENCE {
                silent.push(node.name.clone());
            }
        }
        silent
    }
}

/// Looks at the nodes for ever.
pub async fn run(client: Client, metrics: &Metrics) {
    let mut heartbeats = Heartbeats::default();
    loop {
        if let Err(error) = look(&client, metrics, &mut heartbeats).await {
            tracing::warn!(
                error = chain(&error),
                "the nodes' heartbeats are not watched"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(
    client: &Client,
    metrics: &Metrics,
    heartbeats: &mut Heartbeats,
) -> Result<(), Error> {
    let api: Api<Node> = Api::all(client.clone());
    // The API server's own cache is good enough, and costs it nothing.
    let listed = api
        .list_metadata(&ListParams::default().labels(SCHEDULABLE).match_any())
        .await
        .map_err(Error::api("list the nodes"))?;
    let nodes: Vec<Found> = listed
        .items
        .iter()
        .map(|node| Found {
            name: node.name_any(),
            heartbeat: node.annotations().get(HEARTBEAT).cloned(),
            schedulable: node
                .labels()
                .get(SCHEDULABLE)
                .is_some_and(|is| is == "true"),
            kvm: node.labels().get(KVM).is_some_and(|is| is == "true"),
        })
        .collect();
    metrics.nodes(&nodes);
    let params = PatchParams {
        field_manager: Some(INSTALLATION_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"metadata": {"labels": {SCHEDULABLE: "false"}}}));
    for name in heartbeats.silent(&nodes, Instant::now()) {
        let answer = api.patch_metadata(&name, &params, &patch).await;
        answer.map_err(Error::api(format!("write node {name}")))?;
        tracing::warn!(node = name, silent_for = ?SILENCE, "the daemon of the node is silent: it gets no more machines");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, heartbeat: &str, schedulable: bool) -> Found {
        Found {
            name: name.to_owned(),
            heartbeat: Some(heartbeat.to_owned()),
            schedulable,
            kvm: false,
        }
    }

    #[test]
    fn a_node_whose_heartbeat_stands_still_is_silent() {
        let mut heartbeats = Heartbeats::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let both = |a: &str, b: &str| [node("a", a, true), node("b", b, true)];
        assert!(heartbeats.silent(&both("1", "1"), at(0)).is_empty());
        assert!(heartbeats.silent(&both("2", "1"), at(299)).is_empty());
        assert_eq!(heartbeats.silent(&both("2", "1"), at(300)), ["b"]);
        // It is said once, and it may come back.
        let told = [node("a", "3", true), node("b", "1", false)];
        assert!(heartbeats.silent(&told, at(360)).is_empty());
        assert!(heartbeats.silent(&both("3", "2"), at(420)).is_empty());
        assert!(heartbeats.silent(&both("4", "2"), at(719)).is_empty());
        assert_eq!(heartbeats.silent(&both("4", "2"), at(720)), ["b"]);
    }

    #[test]
    fn a_clock_that_is_wrong_makes_no_node_silent() {
        let mut heartbeats = Heartbeats::default();
        let start = Instant::now();
        let old = [node("a", "1970-01-01T00:00:00Z", true)];
        assert!(heartbeats.silent(&old, start).is_empty());
    }

    #[test]
    fn a_node_that_was_deleted_begins_anew() {
        let mut heartbeats = Heartbeats::default();
        let start = Instant::now();
        let nodes = [node("a", "1", true)];
        assert!(heartbeats.silent(&nodes, start).is_empty());
        assert!(heartbeats.silent(&[], start + SILENCE).is_empty());
        assert!(heartbeats.silent(&nodes, start + 2 * SILENCE).is_empty());
    }
}
