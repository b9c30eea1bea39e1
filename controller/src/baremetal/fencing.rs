//! Nodes that do not answer and are hosts of ours: their power is cut and that is proved, so that their machines are started elsewhere.
//!
//! ```text
//!   Ready: Unknown for long, machines on it ──▶ fence its host ──▶ proved ──▶ taint out-of-service: machines and volumes are let go
//!                                                   │ not proved: an event, tried again          │ the node is back
//!                                                   ▼                                            ▼
//!                                              it may run: nothing is let go                taint taken away
//! ```
//!
//! The host stays off until a person ends the hold-off: what made the node silent may be there still.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use catamaran_api::VirtualMachineInstance;
use catamaran_baremetal::{NodeIdentity, NotFenced, Shell};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::client::Client;
use serde_json::json;

use super::cluster::Cluster;
use crate::error::{Error, chain};
use crate::node_states::OUT_OF_SERVICE;
use crate::patch::INSTALLATION_MANAGER;

/// Name of the host that a node's machines were let go for: the taint is ours.
const FENCED_BY: &str = "catamaran.dev/fenced-by";
/// Label of instances: the node that they are on.
const NODE_NAME: &str = "kubevirt.io/nodeName";
/// How long a node is lost, on our own clock, before its power is cut.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two tries to fence a node.
const AGAIN: Duration = Duration::from_secs(60);
/// Tries to write a node that others write at the same time.
const TRIES: u32 = 5;
/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(10);

type Agents = catamaran_baremetal::Agents<Cluster>;

/// When the power of each lost node may be cut.
#[derive(Debug, Default)]
struct Lost(HashMap<String, Instant>);

impl Lost {
    /// The nodes whose time has come.
    fn due<'a>(&mut self, nodes: &'a [Node], now: Instant) -> Vec<&'a Node> {
        let lost = |node: &&Node| ready(node) == Some("Unknown") && !is_out_of_service(node);
        self.0.retain(|name, _| {
            nodes
                .iter()
                .filter(lost)
                .any(|node| node.name_any() == *name)
        });
        let mut due = Vec::new();
        for node in nodes.iter().filter(lost) {
            let at = self.0.entry(node.name_any()).or_insert(now + PATIENCE);
            if *at <= now {
                *at = now + AGAIN;
                due.push(node);
            }
        }
        due
    }
}

fn ready(node: &Node) -> Option<&str> {
    let mut conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    Some(&ready.status)
}

fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Looks at the nodes for ever.
pub(super) async fn run(client: &Client, shell: &Shell<Cluster, Agents>) {
    let mut lost = Lost::default();
    loop {
        if let Err(error) = look(client, shell, &mut lost).await {
            tracing::warn!(error = chain(&error), "lost nodes are not looked for");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(
    client: &Client,
    shell: &Shell<Cluster, Agents>,
    lost: &mut Lost,
) -> Result<(), Error> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&ListParams::default().match_any()).await;
    let nodes = nodes.map_err(Error::api("list the nodes"))?.items;
    let due = lost.due(&nodes, Instant::now());
    for result in join_all(due.iter().map(|node| fence(client, shell, node))).await {
        result?;
    }
    let back =
        |node: &&Node| ready(node) == Some("True") && node.annotations().contains_key(FENCED_BY);
    for node in nodes.iter().filter(back) {
        write(&api, &node.name_any(), None).await?;
        tracing::info!(node = node.name_any(), "a fenced node is back in service");
    }
    Ok(())
}

/// A node without machines is left alone: nobody waits for a proof.
async fn fence(client: &Client, shell: &Shell<Cluster, Agents>, node: &Node) -> Result<(), Error> {
    let name = node.name_any();
    let instances: Api<VirtualMachineInstance> = Api::all(client.clone());
    let on = ListParams::default()
        .labels(&format!("{NODE_NAME}={name}"))
        .limit(1);
    let machines = instances.list_metadata(&on).await;
    let machines = machines.map_err(Error::api(format!("list the machines of node {name}")))?;
    if machines.items.is_empty() {
        return Ok(());
    }
    match Box::pin(shell.fence_node(&NodeIdentity::of(node))).await {
        Ok((host, proof)) => {
            write(&Api::all(client.clone()), &name, Some(&host.to_string())).await?;
            tracing::warn!(node = name, %host, how = proof.how, "a lost node was fenced: its machines are let go");
        }
        Err(NotFenced::Unlinked(why)) => {
            tracing::debug!(node = name, %why, "a lost node is not fenced");
        }
        Err(error) => {
            tracing::warn!(
                node = name,
                error = chain(&error),
                "a lost node is not fenced"
            );
        }
    }
    Ok(())
}

/// Says of a node by which host it was fenced, or that it is back. Its taints are one list, which others write, too.
async fn write(api: &Api<Node>, name: &str, fenced_by: Option<&str>) -> Result<(), Error> {
    let params = PatchParams {
        field_manager: Some(INSTALLATION_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let failed = || Error::api(format!("write node {name}"));
    let mut tries = 0;
    loop {
        tries += 1;
        let node = api.get(name).await.map_err(failed())?;
        let patch = Patch::Merge(change(&node, fenced_by));
        match api.patch(name, &params, &patch).await {
            Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES => {}
            written => return written.map(drop).map_err(failed()),
        }
    }
}

/// What is to be changed of a node, in this version of it.
fn change(node: &Node, fenced_by: Option<&str>) -> serde_json::Value {
    let taints = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten());
    let mut taints: Vec<_> = taints
        .filter(|taint| taint.key != OUT_OF_SERVICE)
        .map(|taint| json!(taint))
        .collect();
    if fenced_by.is_some() {
        taints.push(json!({"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}));
    }
    json!({
        "metadata": {
            "resourceVersion": node.metadata.resource_version,
            "annotations": {FENCED_BY: fenced_by},
        },
        "spec": {"taints": taints},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, ready: &str, taints: &serde_json::Value) -> Node {
        let conditions = json!([{"type": "Ready", "status": ready}]);
        serde_json::from_value(json!({
            "metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn the_taints_of_others_stay() {
        let unreachable =
            |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect});
        let others = json!([unreachable("NoSchedule"), unreachable("NoExecute")]);
        let lost = node("a", "Unknown", &others);
        let fenced = change(&lost, Some("metal/rack1"));
        let taints = fenced["spec"]["taints"].clone();
        assert_eq!(taints.as_array().map(Vec::len), Some(3));
        assert_eq!(taints[2]["key"], OUT_OF_SERVICE);
        assert_eq!(fenced["metadata"]["annotations"][FENCED_BY], "metal/rack1");
        let back = change(&node("a", "True", &taints), None);
        assert_eq!(back["spec"]["taints"], others);
        assert!(back["metadata"]["annotations"][FENCED_BY].is_null());
    }

    #[test]
    fn a_node_is_fenced_when_it_was_lost_for_long_and_again_later() {
        let (mut lost, start) = (Lost::default(), Instant::now());
        let nodes = [
            node("a", "Unknown", &json!([])),
            node("b", "True", &json!([])),
            node("c", "False", &json!([])),
        ];
        let mut due = |after: Duration| {
            let due = lost.due(&nodes, start + after);
            due.iter().map(|node| node.name_any()).collect::<Vec<_>>()
        };
        assert!(due(Duration::ZERO).is_empty());
        assert_eq!(due(PATIENCE), ["a"]);
        assert!(due(PATIENCE * 2).is_empty());
        assert_eq!(due(PATIENCE + AGAIN), ["a"]);
    }

    #[test]
    fn a_node_that_was_back_in_between_begins_anew() {
        let (mut lost, start) = (Lost::default(), Instant::now());
        let gone = [node("a", "Unknown", &json!([]))];
        assert!(lost.due(&gone, start).is_empty());
        assert!(lost.due(&[node("a", "True", &json!([]))], start).is_empty());
        assert!(lost.due(&gone, start + PATIENCE).is_empty());
    }

    #[test]
    fn a_node_that_is_out_of_service_already_is_left_alone() {
        let (mut lost, start) = (Lost::default(), Instant::now());
        let taint = json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]);
        let out = [node("a", "Unknown", &taint)];
        assert!(lost.due(&out, start).is_empty());
        assert!(lost.due(&out, start + PATIENCE).is_empty());
    }
}
