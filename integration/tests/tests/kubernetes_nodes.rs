//! Machines and the loss of their nodes.

use std::time::Duration;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use serde_json::Value;

/// What the control plane takes to notice that a node is away (its grace is 40 s), to start a controller elsewhere, and some.
const NOTICED: Duration = Duration::from_secs(180);

/// Waits until a machine runs and its pod is ready.
fn wait_ready(cluster: &Cluster, name: &str) -> Result<Value> {
    let instance = cluster.wait_field(&format!("vmi/{name}"), "/status/phase", "Running", BOOT)?;
    let pod = cluster.launcher_pod(name)?;
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    cluster.wait_condition(&format!("pod/{pod}"), "Ready", "True", SHORT)?;
    Ok(instance)
}

#[test]
fn a_drained_node_ends_and_its_machine_starts_elsewhere() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("mover")])?;
        let instance = cluster.wait_field("vmi/mover", "/status/phase", "Running", BOOT)?;
        let (node, old) = (cluster.node_of("mover")?, &instance["metadata"]["uid"]);
        let name = format!("node{node}");
        let drained = cluster.kubectl([
            "drain",
            &name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=150s",
        ]);
        let moved = drained.and_then(|_| cluster.wait_next("mover", old));
        cluster.kubectl(["uncordon", &name])?;
        moved?;
        ensure!(
            cluster.node_of("mover")? != node,
            "it is on the drained node again"
        );
        Ok(())
    })
}

#[test]
fn a_machine_on_a_node_without_power_starts_again_when_its_end_is_proved() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("victim")])?;
        let instance = wait_ready(cluster, "victim")?;
        let (node, old) = (cluster.node_of("victim")?, &instance["metadata"]["uid"]);
        cluster.node("off", node)?;
        let waited = cluster
            .wait_condition("vmi/victim", "Ready", "False", NOTICED)
            .and_then(|found| {
                // Nobody knows whether it still writes to its disk.
                ensure!(found["metadata"]["uid"] == *old, "a second one was started");
                cluster.launcher_pod("victim")
            });
        cluster.node("on", node)?;
        waited?;
        cluster.wait_condition(&format!("node/node{node}"), "Ready", "True", SHORT)?;
        cluster.wait_next("victim", old).map(drop)
    })
}

/// Waits until the machine says that nobody knows whether its guest still runs.
fn wait_unproved(cluster: &Cluster, instance: &str) -> Result<()> {
    wait_for("it waits for a proof", SHORT, || {
        let found = cluster.get(&format!("vmi/{instance}"))?;
        let conditions = found["status"]["conditions"].as_array();
        let words = conditions
            .into_iter()
            .flatten()
            .filter(|condition| condition["type"] == "Synchronized")
            .find_map(|condition| condition["message"].as_str());
        let told = words.is_some_and(|words| words.contains("out-of-service"));
        Ok(Seen::when(told, found["status"].to_string()))
    })
}

#[test]
fn a_pod_removed_by_force_from_a_node_that_is_cut_off_is_no_proof() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("island")])?;
        let instance = wait_ready(cluster, "island")?;
        let (node, old) = (cluster.node_of("island")?, &instance["metadata"]["uid"]);
        cluster.node("cut", node)?;
        let waited = cluster
            .wait_condition("vmi/island", "Ready", "False", NOTICED)
            .and_then(|_| {
                let pod = cluster.launcher_pod("island")?;
                let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
                cluster.kubectl(["delete", "pod", pod, "--force", "--grace-period=0"])?;
                wait_unproved(cluster, "island")?;
                // Nor is its deletion: what would be started next has the same disk.
                cluster.kubectl(["delete", "vmi", "island", "--wait=false"])?;
                wait_for("the deletion has begun", SHORT, || {
                    let found = cluster.get("vmi/island")?;
                    ensure!(found["metadata"]["uid"] == *old, "a second one was started");
                    let begun = found["metadata"]["deletionTimestamp"].is_string();
                    Ok(Seen::when(begun, found["metadata"].to_string()))
                })?;
                wait_unproved(cluster, "island")
            });
        cluster.node("heal", node)?;
        waited?;
        cluster.wait_condition(&format!("node/node{node}"), "Ready", "True", SHORT)?;
        cluster.wait_next("island", old).map(drop)
    })
}

#[test]
fn a_machine_starts_elsewhere_when_its_node_is_said_to_be_off() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("phoenix")])?;
        // The power goes before anybody has seen its pod ready.
        let instance = cluster.wait_field("vmi/phoenix", "/status/phase", "Running", BOOT)?;
        let (node, old) = (cluster.node_of("phoenix")?, &instance["metadata"]["uid"]);
        let (name, taint) = (format!("node{node}"), "node.kubernetes.io/out-of-service");
        cluster.node("off", node)?;
        let moved = cluster
            .wait_condition("vmi/phoenix", "Ready", "False", NOTICED)
            .and_then(|_| {
                let off = format!("{taint}=nodeshutdown:NoExecute");
                cluster.kubectl(["taint", "node", &name, &off])?;
                cluster.wait_next("phoenix", old)?;
                cluster.node_of("phoenix")
            });
        cluster.node("on", node)?;
        cluster.wait_condition(&format!("node/{name}"), "Ready", "True", SHORT)?;
        cluster.kubectl(["taint", "node", &name, &format!("{taint}-")])?;
        ensure!(moved? != node, "it is said to run on the node that is off");
        Ok(())
    })
}
