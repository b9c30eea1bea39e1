//! Servers on the cluster's switch, managed by the installed controller: an image is written, a server becomes a node that is fenced, and goes.
//! They are emulated, and so is what runs on them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::servers::{ADDRESS, Firmware, NODE, NUMBER, Server};
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, SHORT, programs, wait::Seen, wait_for};
use serde_json::{Value, json};

const HOST: &str = "bmh/server";
/// For a boot of the deploy agent or of a whole Debian, and what it does.
const LONG: Duration = Duration::from_secs(900);
/// What the control plane takes to give a node up, the controller to fence it, and some.
const FENCED: Duration = Duration::from_secs(300);

fn patch(cluster: &Cluster, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    let words = ["patch", HOST, "--type=merge", "--patch", &patch];
    cluster.kubectl(words).map(drop)
}

/// A Secret with one entry.
fn secret(cluster: &Cluster, name: &str, key: &str, value: &str) -> Result<()> {
    cluster
        .apply(&[&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value},
        })])
        .map(drop)
}

/// What a run takes is in its output.
fn tell(begin: Instant, what: &str) {
    eprintln!("{what}: after {:.1} s", begin.elapsed().as_secs_f32());
}

fn until_state(cluster: &Cluster, server: &Server, state: &str) -> Result<Value> {
    let pointer = "/status/provisioning/state";
    let begin = Instant::now();
    let reached = cluster
        .wait_field(HOST, pointer, state, LONG)
        .with_context(|| server.report());
    tell(begin, state);
    reached
}

fn until_said(server: &Server, words: &str) -> Result<()> {
    wait_for(&format!("the server says '{words}'"), LONG, || {
        Ok(Seen::when(
            server.console().contains(words),
            server.report(),
        ))
    })
}

/// A server that is available, inspected by its deploy agent.
fn enrolled(cluster: &Cluster, firmware: Firmware) -> Result<Server> {
    cluster.deploy(&["CATAMARAN_FENCE_LOST_NODES=true"])?;
    let server = cluster.server(firmware)?;
    let network = cluster.server_network().to_string();
    secret(cluster, "network", "networkData", &network)?;
    let mode = match firmware {
        Firmware::Uefi => "UEFI",
        Firmware::Bios => "legacy",
    };
    let spec = json!({
        "online": false, "bootMode": mode, "inspectionMode": "agent", "preprovisioningNetworkDataName": "network",
        "rootDeviceHints": {"serialNumber": "root-disk"}, "networkData": {"name": "network"},
    });
    cluster.enrol("server", &server.bmc, spec)?;
    until_state(cluster, &server, "available")?;
    let data = cluster.get("hardwaredata/server")?;
    let storage = data["spec"]["hardware"]["storage"].as_array();
    let serials: Vec<_> = storage
        .into_iter()
        .flatten()
        .map(|disk| disk["serialNumber"].clone())
        .collect();
    ensure!(serials == ["other-disk", "root-disk"], "{data}");
    Ok(server)
}

/// Without an image again, and then without an object.
fn given_back(cluster: &Cluster, server: &Server) -> Result<()> {
    patch(cluster, &json!({"image": null, "online": false}))?;
    until_state(cluster, server, "available")?;
    ensure!(server.begin_of("root")? == [0; 512], "it was not cleaned");
    cluster.kubectl(["delete", HOST, "--wait=false"])?;
    cluster.wait_gone(HOST, BOOT)?;
    ensure!(!server.bmc.is_on(), "a deleted server is left on");
    Ok(())
}

#[test]
#[ignore = "boots servers under emulation, some minutes: `cargo xtask test --long`"]
fn a_server_is_inspected_written_used_anew_and_cleaned() -> Result<()> {
    cluster::run(1, |cluster| {
        let server = enrolled(cluster, Firmware::Bios)?;
        for (image, words) in [
            ("minimal", "written by the installed controller"),
            ("minimal-pc", "written once more"),
        ] {
            let script = format!("#!/bin/sh\necho '{words}' >/dev/ttyS0\n");
            secret(cluster, "seed", "userData", &script)?;
            let (url, checksum) =
                cluster.publish(&programs::guest(&format!("{image}/{image}.qcow2")))?;
            let image = json!({"url": url, "checksum": checksum, "format": "qcow2"});
            patch(
                cluster,
                &json!({"image": image, "online": true, "userData": {"name": "seed"}}),
            )?;
            until_said(&server, words)?;
            let written = until_state(cluster, &server, "provisioned")?;
            ensure!(
                written["status"]["provisioning"]["image"]["url"] == image["url"],
                "{written}"
            );
        }
        ensure!(
            server.begin_of("other")? == [0; 512],
            "the other disk was written"
        );
        given_back(cluster, &server)
    })
}

#[test]
#[ignore = "boots servers under emulation, some minutes: `cargo xtask test --long`"]
fn a_server_becomes_a_node_runs_a_machine_is_fenced_and_given_back() -> Result<()> {
    cluster::run(1, |cluster| {
        let server = enrolled(cluster, Firmware::Uefi)?;
        let (url, checksum) = cluster.server_image()?;
        let provider = format!("metal3://{}/server", cluster.namespace());
        let (user_data, _may_join) = cluster.joins(&provider)?;
        let _node = cluster.gone_afterwards([format!("node/{NODE}")]);
        secret(cluster, "seed", "userData", &user_data)?;
        let image = json!({"url": url, "checksum": checksum, "format": "qcow2"});
        patch(
            cluster,
            &json!({"image": image, "online": true, "userData": {"name": "seed"}}),
        )?;
        until_state(cluster, &server, "provisioned")?;
        is_a_node(cluster, &server, &provider)?;
        is_fenced(cluster, &server)?;

        cluster.kubectl(["delete", "node", NODE])?;
        cluster.kubectl(["annotate", HOST, "reboot.metal3.io/catamaran-fence-"])?;
        given_back(cluster, &server)
    })
}

/// The server is a node that is ready, and what the host's object says of it is what the node's says.
fn is_a_node(cluster: &Cluster, server: &Server, provider: &str) -> Result<()> {
    let name = format!("node/{NODE}");
    let begin = Instant::now();
    let node = cluster
        .wait_condition(&name, "Ready", "True", LONG)
        .with_context(|| server.report())?;
    tell(begin, "a node that is ready");
    let host = cluster.get(HOST)?;
    ensure!(node["spec"]["providerID"] == provider, "{node}");
    let uuid = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
    let (of_host, of_node) = (
        uuid(&host["status"]["provisioning"]["ID"]),
        uuid(&node["status"]["nodeInfo"]["systemUUID"]),
    );
    ensure!(
        of_host.is_some() && of_host == of_node,
        "{of_host:?} {of_node:?}"
    );
    let addresses = node["status"]["addresses"].to_string();
    ensure!(addresses.contains(ADDRESS), "{addresses}");
    Ok(())
}

/// What a node has where the machine may run: demanded, not preferred, so that its first start is on the server, and given to another node before
/// that is lost.
const MAY_RUN: &str = "tests.catamaran.dev/may-run";

fn may_run(cluster: &Cluster, node: &str) -> Result<()> {
    // Of this run: what an earlier one left means nothing.
    let label = format!("{MAY_RUN}={}", cluster.namespace());
    let words = ["label", "--overwrite", "node", node, &label];
    cluster.kubectl(words).map(drop)
}

/// A machine that runs on it. Its guest is emulated by what is emulated itself: the test does not wait until that has booted.
fn runs_a_machine(cluster: &Cluster, server: &Server) -> Result<Value> {
    let begin = Instant::now();
    // The product comes by itself, and says so where machines may be.
    let (name, takes) = (
        format!("node/{NODE}"),
        "/metadata/labels/kubevirt.io~1schedulable",
    );
    cluster
        .wait_field(&name, takes, "true", LONG)
        .with_context(|| server.report())?;
    tell(begin, "the node takes machines");
    may_run(cluster, NODE)?;
    let mut mirror = machine("mirror");
    mirror["spec"]["template"]["spec"]["nodeSelector"] = json!({MAY_RUN: cluster.namespace()});
    cluster.apply(&[&mirror])?;
    let instance = cluster
        .wait_field("vmi/mirror", "/status/phase", "Running", LONG)
        .with_context(|| server.report())?;
    ensure!(
        instance["status"]["nodeName"] == NODE,
        "{}",
        instance["status"]
    );
    tell(begin, "the machine runs");
    Ok(instance)
}

/// Lost, its power is cut, which its node and its host tell; and only then its machine is started elsewhere.
fn is_fenced(cluster: &Cluster, server: &Server) -> Result<()> {
    let lost = runs_a_machine(cluster, server)?;
    may_run(cluster, "node1")?;
    cluster.node("cut", NUMBER)?;
    let begin = Instant::now();

    let mut early = false;
    let moved = wait_for("the machine runs on the other node", FENCED, || {
        let found = cluster.get("vmi/mirror")?;
        let next = found["metadata"]["uid"] != lost["metadata"]["uid"];
        early |= next && (server.bmc.is_on() || server.is_running());
        let runs = next && found["status"]["phase"] == "Running";
        Ok(if runs {
            Seen::Yes(found)
        } else {
            Seen::NotYet(found["status"].to_string())
        })
    })?;
    tell(begin, "the machine runs on the other node");
    ensure!(!early, "the machine was started while the server ran");
    ensure!(
        moved["status"]["nodeName"] == "node1",
        "{}",
        moved["status"]
    );

    let node = cluster.get(&format!("node/{NODE}"))?;
    let by = &node["metadata"]["annotations"]["catamaran.dev/fenced-by"];
    ensure!(by == &format!("{}/server", cluster.namespace()), "{by}");
    let taints = node["spec"]["taints"].to_string();
    ensure!(taints.contains("out-of-service"), "{taints}");
    let host = cluster.wait_condition(HOST, "Fenced", "True", SHORT)?;
    ensure!(host["status"]["poweredOn"] == false, "{host}");
    let proof = &host["metadata"]["annotations"]["catamaran.dev/fenced"];
    let proof: Value = serde_json::from_str(proof.as_str().context("no proof is recorded")?)?;
    let how = proof["how"].as_str().unwrap_or_default();
    ensure!(
        how.contains("read Off") && proof["byHand"] == false,
        "{proof}"
    );
    // RFC 3339 in UTC both, to the second.
    let begun = &moved["metadata"]["creationTimestamp"];
    ensure!(
        matches!((proof["at"].as_str(), begun.as_str()), (Some(at), Some(begun)) if at <= begun),
        "proved at {}, and the machine was started at {begun}",
        proof["at"]
    );
    cluster.shell("mirror")?;
    cluster.kubectl(["delete", "vm/mirror"])?;
    cluster
        .kubectl(["label", "node", "node1", &format!("{MAY_RUN}-")])
        .map(drop)
}
