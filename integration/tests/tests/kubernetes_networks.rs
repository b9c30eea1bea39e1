//! Networks of a machine besides that of its pod.

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, TINY};
use catamaran_tests::{BOOT, SHORT, manifest};
use serde_json::{Value, json};

/// The kind that Multus defines, as far as anybody here looks at it.
fn kind() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "network-attachment-definitions.k8s.cni.cncf.io"},
        "spec": {
            "group": "k8s.cni.cncf.io", "scope": "Namespaced",
            "names": {"plural": "network-attachment-definitions", "singular": "network-attachment-definition", "kind": "NetworkAttachmentDefinition"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {"config": {"type": "string"}}}},
            }}}],
        },
    })
}

/// A network of its own on each node.
fn blue() -> Value {
    let config = json!({
        "cniVersion": "1.0.0", "name": "blue", "type": "bridge", "bridge": "blue0", "capabilities": {"mac": true},
        "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses", "ranges": [[{"subnet": "192.168.177.0/24"}]]},
    });
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "blue"}, "spec": {"config": config.to_string()},
    })
}

/// Runs a test on nodes that look at the pods' networks.
fn with_networks(test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&kind()])?;
        let established = [
            "wait",
            "--for=condition=Established",
            "crd/network-attachment-definitions.k8s.cni.cncf.io",
        ];
        cluster.kubectl(established)?;
        switch(cluster, "on")?;
        let result = cluster.apply(&[&blue()]).and_then(|_| test(cluster));
        switch(cluster, "off")?;
        result
    })
}

fn switch(cluster: &Cluster, to: &str) -> Result<()> {
    let done = cluster.command(["networks", to]).status()?;
    ensure!(done.success(), "networks {to}: {done}");
    Ok(())
}

/// The second network is a bridge of one node.
fn one_node() -> Value {
    json!({"kubernetes.io/hostname": "node1"})
}

fn machine(name: &str) -> Value {
    let mut machine = cluster::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["domain"]["devices"]["interfaces"] =
        json!([{"name": "default", "masquerade": {}}, {"name": "second", "bridge": {}}]);
    spec["nodeSelector"] = one_node();
    spec["networks"] = json!([{"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "blue"}}]);
    machine
}

#[test]
fn a_guest_has_an_interface_in_a_second_network() -> Result<()> {
    with_networks(|cluster| {
        let mut client = manifest::pod("client", &["sleep", "86400"]);
        client["spec"]["containers"][0]["image"] = TINY.into();
        client["spec"]["nodeSelector"] = one_node();
        client["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "blue@net1"});
        cluster.apply(&[&machine("twofold"), &client])?;
        let instance = cluster.wait_field("vmi/twofold", "/status/phase", "Running", BOOT)?;
        cluster.wait_condition("pod/client", "Ready", "True", SHORT)?;

        let interfaces = instance["status"]["interfaces"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        ensure!(interfaces.len() == 2, "{interfaces:?}");
        let second = &interfaces[1];
        let inside = second["podInterfaceName"].as_str().unwrap_or_default();
        ensure!(
            inside.starts_with("pod") && second["name"] == "second",
            "{second}"
        );
        let mac = second["mac"].as_str().unwrap_or_default();
        let pod = cluster.launcher_pod("twofold")?;
        let said = &pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"];
        ensure!(
            said.as_str().is_some_and(|said| said.contains(mac)),
            "{said} lacks {mac}"
        );

        let (proxy, mut guest) = cluster.shell("twofold")?;
        let found = guest.shell(&format!("grep -l {mac} /sys/class/net/*/address"))?;
        let device = found.split('/').nth(4).unwrap_or_default().to_owned();
        guest.shell(&format!(
            "ip link set {device} up; ip addr add 192.168.177.200/24 dev {device}"
        ))?;
        // Both ways, and the pod network still works.
        cluster.in_pod("client", &["ping", "-c", "3", "-W", "5", "192.168.177.200"])?;
        let first = interfaces[0]["ipAddress"].as_str().unwrap_or_default();
        cluster.in_pod("client", &["wget", "-qO-", &format!("http://{first}/")])?;
        drop((guest, proxy));

        cluster.kubectl(["delete", "vm/twofold", "pod/client", "--wait"])?;
        cluster.wait_gone("vmi/twofold", BOOT)?;
        cluster.on_node(1, &["ip", "link", "del", "blue0"])?;
        Ok(())
    })
}

#[test]
fn a_machine_on_nodes_without_such_a_plugin_is_told_what_is_missing() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("alone")])?;
        let found = cluster.wait_condition("vmi/alone", "Synchronized", "False", BOOT)?;
        let conditions = found["status"]["conditions"].to_string();
        ensure!(
            conditions.contains("k8s.v1.cni.cncf.io/network-status")
                && conditions.contains("Multus"),
            "{conditions}"
        );
        Ok(())
    })
}
