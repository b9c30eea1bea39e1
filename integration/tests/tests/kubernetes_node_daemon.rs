//! What the daemon of a node does for its guests, and that they do not need it.

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, Cluster, TINY, machine};
use catamaran_tests::{BOOT, SHORT, manifest, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Waits until the daemon answers for an instance.
fn wait_daemon(cluster: &Cluster, instance: &str) -> Result<()> {
    let proxy = cluster.proxy()?;
    let path = cluster.subresource(instance, "dmesg");
    wait_for("the daemon answers", BOOT, || {
        let (code, answer) = proxy.request("GET", &path, "")?;
        Ok(Seen::when(code == 200, format!("{code} {answer}")))
    })
}

#[test]
fn a_guest_outlives_its_daemon_and_its_launcher() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("survivor")])?;
        cluster.wait_field("vmi/survivor", "/status/phase", "Running", BOOT)?;
        let boot = cluster.boot_id("survivor")?;
        let instance = cluster.get("vmi/survivor")?;
        let node = cluster.node_of("survivor")?;

        cluster.on_node(node, &["sh", "-c", "kill -9 $(pidof catamaran)"])?;
        wait_daemon(cluster, "survivor")?;
        ensure!(
            cluster.boot_id("survivor")? == boot,
            "the guest was booted again"
        );

        let pod = cluster.launcher_pod("survivor")?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        cluster.in_pod(pod, &["sh", "-c", "kill -9 $(pidof catamaran-launcher)"])?;
        wait_daemon(cluster, "survivor")?;
        ensure!(
            cluster.boot_id("survivor")? == boot,
            "the guest was booted again"
        );

        // Nobody had to say anything new.
        let after = cluster.get("vmi/survivor")?;
        ensure!(
            after["status"] == instance["status"],
            "{} became {}",
            instance["status"],
            after["status"]
        );
        Ok(())
    })
}

/// Asks for a verb of an instance.
fn put(cluster: &Cluster, instance: &str, verb: &str, body: &Value) -> Result<()> {
    let path = cluster.subresource(instance, verb);
    let (code, said) = cluster.proxy()?.request("PUT", &path, &body.to_string())?;
    ensure!(code == 200, "{verb}: {code} {said}");
    Ok(())
}

/// Waits until the status says of the guest's file systems that they are frozen, or nothing.
fn wait_frozen(cluster: &Cluster, instance: &str, frozen: bool) -> Result<()> {
    wait_for(&format!("frozen: {frozen}"), SHORT, || {
        let status = &cluster.get(&format!("vmi/{instance}"))?["status"];
        let wanted = frozen.then_some("frozen");
        Ok(Seen::when(
            status["fsFreezeStatus"].as_str() == wanted,
            status.to_string(),
        ))
    })
}

#[test]
fn a_frozen_guest_is_thawed_when_asked_or_when_its_time_is_up() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut guest = machine("saved");
        cluster.add_guest_agent(&mut guest)?;
        cluster.apply(&[&guest])?;
        cluster.wait_condition("vmi/saved", "AgentConnected", "True", BOOT)?;
        let said = |what: &str| -> Result<Value> {
            let info = cluster.raw(&cluster.subresource("saved", "guestosinfo"))?;
            Ok(info[what].clone())
        };

        put(
            cluster,
            "saved",
            "freeze",
            &json!({"unfreezeTimeout": "0s"}),
        )?;
        wait_frozen(cluster, "saved", true)?;
        ensure!(said("fsFreezeStatus")? == "frozen");
        put(cluster, "saved", "unfreeze", &Value::Null)?;
        wait_frozen(cluster, "saved", false)?;
        ensure!(said("fsFreezeStatus")? == "");

        put(
            cluster,
            "saved",
            "freeze",
            &json!({"unfreezeTimeout": "3s"}),
        )?;
        wait_frozen(cluster, "saved", false)?;
        ensure!(said("fsFreezeStatus")? == "");
        Ok(())
    })
}

#[test]
fn a_guest_with_the_pods_own_addresses_answers_in_both_families() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut bridged = machine("bridged");
        bridged["spec"]["template"]["spec"]["domain"]["devices"]["interfaces"] =
            json!([{"name": "default", "bridge": {}}]);
        let mut client = manifest::pod("client", &["sleep", "86400"]);
        client["spec"]["containers"][0]["image"] = TINY.into();
        cluster.apply(&[&bridged, &client])?;
        cluster.wait_field("vmi/bridged", "/status/phase", "Running", BOOT)?;
        cluster.wait_condition("pod/client", "Ready", "True", SHORT)?;
        let instance = cluster.get("vmi/bridged")?;
        let addresses = instance["status"]["interfaces"][0]["ipAddresses"].as_array();
        let addresses: Vec<&str> = addresses
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        ensure!(addresses.len() == 2, "{addresses:?}");
        for address in addresses {
            let host = if address.contains(':') {
                format!("[{address}]")
            } else {
                address.to_owned()
            };
            // It answers at an address a moment before it has written that into the page.
            wait_for(&format!("{address} in the guest's page"), BOOT, || {
                let words = ["wget", "-qO-", &format!("http://{host}/")];
                let page = cluster.in_pod("client", &words)?;
                Ok(Seen::when(page.contains(address), page))
            })?;
        }
        Ok(())
    })
}

#[test]
fn a_disk_that_is_none_is_told_and_does_not_start() -> Result<()> {
    cluster::run(1, |cluster| {
        let mut wrong = machine("wrong");
        wrong["spec"]["template"]["spec"]["volumes"][0]["containerDisk"]["image"] = TINY.into();
        cluster.apply(&[&wrong])?;
        let found = cluster.wait_condition("vmi/wrong", "Synchronized", "False", BOOT)?;
        let conditions = found["status"]["conditions"].as_array();
        let words = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Synchronized")
            .and_then(|condition| condition["message"].as_str())
            .unwrap_or_default();
        ensure!(
            words.starts_with("volume ") && words.contains("/disk"),
            "{words:?}"
        );
        let events =
            cluster.kubectl(["get", "events", "--field-selector", "reason=FailedCreate"])?;
        ensure!(events.contains("/disk"), "{events}");
        Ok(())
    })
}
