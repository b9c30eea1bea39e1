//! The node object: a label that says whether guests can be scheduled here, and the heartbeat behind it.

use std::sync::Arc;
use std::time::Duration;

use catamaran_plan::Accelerator;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::Patch;
use serde_json::{Value, json};

use crate::kubernetes::as_daemon;
use crate::kubernetes::world::World;
use crate::serve::time;

/// Between two heartbeats. The peer's node controller counts a node as dead after five minutes.
const BEAT: Duration = Duration::from_secs(90);
/// Pause after a heartbeat that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs for ever.
pub async fn run(world: Arc<World>) {
    let api: Api<Node> = Api::all(world.client.0.clone());
    let params = as_daemon();
    loop {
        let patch = patch(&world.host.facts.accelerator, &time::now());
        let pause = match api
            .patch_metadata(&world.node, &params, &Patch::Merge(&patch))
            .await
        {
            Ok(_) => BEAT,
            Err(error) => {
                tracing::warn!(error = %error, "the node's heartbeat is not written");
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn patch(accelerator: &Accelerator, now: &str) -> Value {
    let kvm = *accelerator == Accelerator::Kvm;
    json!({
        "metadata": {
            "labels": {
                "kubevirt.io/schedulable": "true",
                "catamaran.dev/kvm": if kvm { "true" } else { "false" },
            },
            "annotations": {"kubevirt.io/heartbeat": now},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_whether_it_has_kvm() {
        let patch = patch(&Accelerator::Tcg, "2026-01-01T00:00:00Z");
        assert_eq!(patch["metadata"]["labels"]["catamaran.dev/kvm"], "false");
        assert_eq!(
            patch["metadata"]["labels"]["kubevirt.io/schedulable"],
            "true"
        );
    }
}
