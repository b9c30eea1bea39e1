//! A node that is lost and is a server of ours: its power is cut, that is proved, and its machines start elsewhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};

/// What the control plane takes to give a node up (its grace is 40 s), the controller to fence it (30 s more), and some: another replica may have to
/// take over first.
const FENCED: Duration = Duration::from_secs(240);

/// Waits until an instance other than `old` runs, on another node than that.
fn wait_elsewhere(cluster: &Cluster, old: &Value, node: u8) -> Result<()> {
    wait_for("the machine runs on the other node", FENCED, || {
        let found = cluster.get("vmi/mirror").unwrap_or_default();
        let next = found["metadata"]["uid"] != *old && found["status"]["phase"] == "Running";
        let elsewhere = found["status"]["nodeName"] != format!("node{node}");
        Ok(Seen::when(next && elsewhere, found["status"].to_string()))
    })
}

#[test]
#[ignore = "waits for a node to be given up, and takes some minutes: `cargo xtask test --long`"]
fn the_power_of_a_node_that_is_cut_off_is_cut_before_its_machine_starts_elsewhere() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.set_controllers(&["CATAMARAN_FENCE_LOST_NODES=true"])?;
        // The new replicas answer before the API server trusts their certificate.
        wait_for("a machine is taken", SHORT, || {
            let taken = cluster.apply(&[&machine("mirror")]);
            Ok(Seen::when(taken.is_ok(), format!("{taken:?}")))
        })?;
        let instance = cluster.wait_field("vmi/mirror", "/status/phase", "Running", BOOT)?;
        let (node, old) = (cluster.node_of("mirror")?, &instance["metadata"]["uid"]);
        let (name, host) = (format!("node/node{node}"), "bmh/server");
        let bmc = cluster.bmc_of(node)?;
        let spec = json!({"online": true, "externallyProvisioned": true});
        cluster.enrol("server", &bmc, spec)?;
        let state = "externally provisioned";
        cluster.wait_field(host, "/status/provisioning/state", state, BOOT)?;

        // The guest goes on, and nobody can ask it.
        cluster.node("cut", node)?;
        let moved = wait_elsewhere(cluster, old, node);
        let was_on = bmc.is_on();
        let fenced = cluster.get(&name);

        // Whoever has seen to the node ends the hold-off.
        let hold = "reboot.metal3.io/catamaran-fence-";
        let released = cluster.kubectl(["annotate", host, hold]);
        let back = wait_for("the server is on again", BOOT, || {
            Ok(Seen::when(
                bmc.is_on(),
                format!("{:?}", bmc.command_error()),
            ))
        });
        cluster.node("on", node)?;
        cluster.node("heal", node)?;
        moved?;
        ensure!(!was_on, "the machine was started while the node had power");
        let by = &fenced?["metadata"]["annotations"]["catamaran.dev/fenced-by"];
        ensure!(by == &format!("{}/server", cluster.namespace()), "{by}");
        released?;
        back?;
        cluster.wait_condition(&name, "Ready", "True", BOOT)?;
        wait_for("the node takes machines again", SHORT, || {
            let taints = cluster.get(&name)?["spec"]["taints"].clone();
            Ok(Seen::when(taints.is_null(), taints.to_string()))
        })?;
        cluster.kubectl(["delete", "vm/mirror"])?;
        // Its deletion would turn the server off.
        cluster.kubectl([
            "annotate",
            host,
            "baremetalhost.metal3.io/detached=",
            "--overwrite",
        ])?;
        cluster.kubectl(["delete", host, "--wait=false"])?;
        cluster.wait_gone(host, BOOT)?;
        ensure!(bmc.is_on(), "a detached server was turned off");
        cluster.set_controllers(&["CATAMARAN_FENCE_LOST_NODES=false"])
    })
}
