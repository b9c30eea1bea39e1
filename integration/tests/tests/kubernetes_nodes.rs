//! Machines and the loss of their nodes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, MINIMAL};
use catamaran_tests::{BOOT, SHORT, manifest, wait::Seen, wait_for};
use serde_json::Value;

/// What the control plane takes to notice that a node is away (its grace is 40 s), to start a controller elsewhere, and some.
const NOTICED: Duration = Duration::from_secs(180);

fn machine(name: &str) -> Value {
    let mut machine = manifest::machine(name);
    machine["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] = MINIMAL.into();
    machine
}

/// Number of the node that an instance runs on.
fn node_of(cluster: &Cluster, instance: &str) -> Result<u8> {
    let instance = cluster.get(&format!("vmi/{instance}"))?;
    let name = instance["status"]["nodeName"].as_str().unwrap_or_default();
    name.trim_start_matches("node")
        .parse()
        .with_context(|| format!("no node in {}", instance["status"]))
}

/// Waits until an instance other than `old` runs.
fn wait_next(cluster: &Cluster, instance: &str, old: &Value) -> Result<Value> {
    wait_for("another instance runs", BOOT, || {
        let found = cluster.get(&format!("vmi/{instance}"))?;
        let next = found["metadata"]["uid"] != *old && found["status"]["phase"] == "Running";
        Ok(if next {
            Seen::Yes(found)
        } else {
            Seen::NotYet(found["status"].to_string())
        })
    })
}

#[test]
fn a_drained_node_ends_and_its_machine_starts_elsewhere() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("mover")])?;
        let instance = cluster.wait_field("vmi/mover", "/status/phase", "Running", BOOT)?;
        let (node, old) = (node_of(cluster, "mover")?, &instance["metadata"]["uid"]);
        let name = format!("node{node}");
        let drained = cluster.kubectl([
            "drain",
            &name,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=150s",
        ]);
        let moved = drained.and_then(|_| wait_next(cluster, "mover", old));
        cluster.kubectl(["uncordon", &name])?;
        moved?;
        ensure!(
            node_of(cluster, "mover")? != node,
            "it is on the drained node again"
        );
        Ok(())
    })
}

#[test]
fn a_machine_on_a_node_without_power_starts_again_when_its_end_is_proved() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("victim")])?;
        let instance = cluster.wait_field("vmi/victim", "/status/phase", "Running", BOOT)?;
        let (node, old) = (node_of(cluster, "victim")?, &instance["metadata"]["uid"]);
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
        wait_next(cluster, "victim", old).map(drop)
    })
}
