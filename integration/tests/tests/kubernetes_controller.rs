//! What the controller makes of machines, and what it says when it can't.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, SYSTEM};
use catamaran_tests::{BOOT, SHORT, wait::Seen, wait_for};
use serde_json::{Value, json};

/// Longest that a guest takes to power off.
const POWER_OFF: Duration = Duration::from_secs(90);

fn machine(name: &str) -> Value {
    let mut machine = cluster::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 2.into();
    machine
}

fn with(name: &str, pointer: &str, value: Value) -> Result<Value> {
    let mut machine = machine(name);
    let field = machine.pointer_mut(pointer).context("no such field")?;
    *field = value;
    Ok(machine)
}

fn status(cluster: &Cluster, machine: &str, word: &str, deadline: Duration) -> Result<Value> {
    cluster.wait_field(
        &format!("vm/{machine}"),
        "/status/printableStatus",
        word,
        deadline,
    )
}

#[test]
fn a_machine_says_why_it_does_not_start_and_goes_all_the_same() -> Result<()> {
    cluster::run(1, |cluster| {
        let volume = "/spec/template/spec/volumes/0";
        let image = |policy: &str| json!({"name": "root", "containerDisk": {"image": "registry.lab:5000/none:1", "imagePullPolicy": policy}});
        let claim = json!({"name": "root", "persistentVolumeClaim": {"claimName": "nothere"}});
        let mut nowhere = machine("nowhere");
        nowhere["spec"]["template"]["spec"]["nodeSelector"] = json!({"moon": "full"});
        cluster.apply(&[
            &with("absent", volume, image("IfNotPresent"))?,
            &with("never", volume, image("Never"))?,
            &with("claimless", volume, claim)?,
            &nowhere,
        ])?;
        status(cluster, "never", "ErrImagePull", SHORT)?;
        status(cluster, "claimless", "ErrorPvcNotFound", SHORT)?;
        status(cluster, "nowhere", "ErrorUnschedulable", SHORT)?;
        let absent = status(cluster, "absent", "ImagePullBackOff", SHORT)?;
        let failure = absent["status"]["conditions"].as_array();
        let mut failure = failure.into_iter().flatten();
        ensure!(
            failure.any(|c| c["type"] == "Failure"
                && c["message"].as_str().is_some_and(|m| m.contains("none:1"))),
            "{}",
            absent["status"]
        );
        cluster.kubectl(["delete", "vm", "--all", "--wait=false"])?;
        for name in ["absent", "never", "claimless", "nowhere"] {
            cluster.wait_gone(&format!("vm/{name}"), SHORT)?;
        }
        Ok(())
    })
}

#[test]
fn a_stopped_machine_stays_down_and_an_evicted_one_starts_at_once() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[
            &with("manual", "/spec/runStrategy", "Manual".into())?,
            &machine("always"),
        ])?;
        status(cluster, "always", "Running", BOOT)?;
        status(cluster, "manual", "Stopped", SHORT)?;

        // Somebody else ends the pod: that is no failure of the guest, so nothing is backed off.
        let before = cluster.get("vmi/always")?;
        cluster.kubectl(["delete", "pod", "--selector", "app=always", "--wait=false"])?;
        wait_for("another instance runs", BOOT, || {
            let machine = cluster.get("vm/always")?;
            ensure!(
                machine["status"]["startFailure"].is_null(),
                "it was counted as a failure: {}",
                machine["status"]
            );
            let now = cluster.kubectl(["get", "vmi/always", "--ignore-not-found", "-o", "json"])?;
            let now: Value = serde_json::from_str(&now).unwrap_or_default();
            let other = now["metadata"]["uid"] != before["metadata"]["uid"];
            Ok(Seen::when(
                other && now["status"]["phase"] == "Running",
                now["status"].to_string(),
            ))
        })?;

        let stop = json!({"spec": {"runStrategy": "Halted"}}).to_string();
        cluster.kubectl(["patch", "vm/always", "--type=merge", "-p", &stop])?;
        status(cluster, "always", "Stopped", POWER_OFF)?;
        cluster.wait_gone("vmi/always", SHORT)
    })
}

#[test]
fn a_changed_machine_asks_for_a_restart_where_it_needs_one() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("web")])?;
        let running = status(cluster, "web", "Running", BOOT)?;
        let first = start_revision(cluster, &running)?;
        let patch = |template: Value| -> Result<i64> {
            let change = json!({"spec": {"template": {"spec": template}}}).to_string();
            cluster.kubectl(["patch", "vm/web", "--type=merge", "-p", &change])?;
            let generation = &cluster.get("vm/web")?["metadata"]["generation"];
            generation.as_i64().context("no generation")
        };
        let needs = |generation: i64, needed: bool| {
            wait_for(&format!("a restart is needed: {needed}"), SHORT, || {
                let machine = cluster.get("vm/web")?;
                let status = &machine["status"];
                let conditions = status["conditions"].as_array();
                let found = conditions
                    .into_iter()
                    .flatten()
                    .any(|c| c["type"] == "RestartRequired" && c["status"] == "True");
                let judged = status["desiredGeneration"] == generation;
                Ok(Seen::when(judged && found == needed, status.to_string()))
            })
        };

        // Hardware waits for a restart; what is changed back does not.
        let changed = patch(json!({"domain": {"cpu": {"cores": 2}}}))?;
        needs(changed, true)?;
        needs(patch(json!({"domain": {"cpu": null}}))?, false)?;

        // Where it may run is written into the instance, and the guest stays where it is.
        let before = cluster.boot_id("web")?;
        let placed = patch(json!({"nodeSelector": {"kubernetes.io/os": "linux"}}))?;
        let selector = "/spec/nodeSelector/kubernetes.io~1os";
        cluster.wait_field("vmi/web", selector, "linux", SHORT)?;
        needs(placed, false)?;
        let machine = cluster.get("vm/web")?;
        ensure!(
            machine["status"]["observedGeneration"] == placed,
            "{}",
            machine["status"]
        );
        ensure!(cluster.boot_id("web")? == before, "the guest was restarted");
        let instance = cluster.get("vmi/web")?;
        let name = &instance["status"]["virtualMachineRevisionName"];
        ensure!(*name == first, "{}", instance["status"]);

        // The next run is of another revision, and the one before goes.
        needs(patch(json!({"domain": {"cpu": {"cores": 2}}}))?, true)?;
        let again = cluster.run_again("web")?;
        let next = start_revision(cluster, &cluster.get("vm/web")?)?;
        ensure!(next != first, "still {first}: {}", again["status"]);
        cluster.wait_gone(&format!("controllerrevision/{first}"), SHORT)?;
        let generation = &cluster.get("vm/web")?["metadata"]["generation"];
        needs(generation.as_i64().context("no generation")?, false)?;

        // An earlier version kept less of a start: the next one from the same spec keeps all.
        let path = format!("controllerrevision/{next}");
        let mut less = cluster.get(&path)?;
        less["data"]["status"].take();
        for field in ["uid", "resourceVersion", "creationTimestamp"] {
            less["metadata"][field].take();
        }
        cluster.kubectl(["delete", &path])?;
        cluster.apply(&[&less])?;
        cluster.run_again("web")?;
        ensure!(
            start_revision(cluster, &cluster.get("vm/web")?)? == next,
            "another spec"
        );
        let kept = cluster.get(&path)?;
        ensure!(kept["data"]["status"].is_object(), "{kept}");
        cluster.kubectl(["delete", "vm/web"])?;
        cluster.wait_gone(&format!("controllerrevision/{next}"), SHORT)
    })
}

/// Name of the revision that the run of a machine was started from, which holds its spec.
fn start_revision(cluster: &Cluster, machine: &Value) -> Result<String> {
    let name = machine["metadata"]["name"].as_str().context("no name")?;
    let instance = cluster.get(&format!("vmi/{name}"))?;
    let revision = &instance["status"]["virtualMachineRevisionName"];
    let revision = revision.as_str().context("it names no revision")?;
    let generation = &instance["metadata"]["annotations"]["kubevirt.io/vm-generation"];
    let expected = format!(
        "revision-start-vm-{}-{}",
        machine["metadata"]["uid"].as_str().unwrap_or_default(),
        generation.as_str().unwrap_or_default()
    );
    ensure!(revision == expected, "{revision} is not {expected}");
    let kept = cluster.get(&format!("controllerrevision/{revision}"))?;
    let owner = &kept["metadata"]["ownerReferences"][0];
    ensure!(
        owner["uid"] == machine["metadata"]["uid"] && owner["controller"] == true,
        "{owner}"
    );
    let template = &kept["data"]["spec"]["template"]["spec"];
    ensure!(template["volumes"][0]["name"] == "root", "{kept}");
    Ok(revision.to_owned())
}

#[test]
fn a_set_keeps_its_number() -> Result<()> {
    cluster::run(1, |cluster| {
        let template = machine("web")["spec"]["template"].clone();
        let set = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceReplicaSet", "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        });
        cluster.apply(&[&set])?;
        let ready = |count: u64| {
            wait_for(&format!("{count} are ready"), BOOT, || {
                let set = cluster.get("vmirs/web")?;
                let status = &set["status"];
                let there = status["readyReplicas"] == count && status["replicas"] == count;
                Ok(Seen::when(there, status.to_string()))
            })
        };
        ready(2)?;
        let instances = cluster.list("vmi", "app=web")?;
        let first = instances[0]["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        cluster.kubectl(["delete", "vmi", first, "--wait=false"])?;
        wait_for("it is replaced", BOOT, || {
            let now = cluster.list("vmi", "app=web")?;
            let old = &instances[0]["metadata"]["uid"];
            let replaced = now.len() == 2 && now.iter().all(|vmi| vmi["metadata"]["uid"] != *old);
            Ok(Seen::when(replaced, format!("{} are there", now.len())))
        })?;
        ready(2)?;
        cluster.kubectl(["scale", "vmirs/web", "--replicas=1"])?;
        ready(1)?;
        cluster.kubectl(["delete", "vmirs/web"])?;
        wait_for("its instances are gone", POWER_OFF, || {
            let left = cluster.list("vmi", "app=web")?;
            Ok(Seen::when(
                left.is_empty(),
                format!("{} are there", left.len()),
            ))
        })
    })
}

#[test]
fn only_the_product_writes_an_instances_status_and_only_on_its_own_node() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("kept")])?;
        let kept = cluster.wait_field("vmi/kept", "/status/phase", "Running", BOOT)?;
        let node = kept["status"]["nodeName"].as_str().unwrap_or_default();
        let change = json!({"status": {"reason": "x"}}).to_string();
        let words = ["patch", "vmi/kept", "--type=merge", "-p", &change];
        let said = cluster.refused(words)?;
        ensure!(said.contains("written by Catamaran only"), "{said}");

        let daemon = format!("--as=system:serviceaccount:{SYSTEM}:catamaran-node");
        let on =
            |node: &str| format!("--as-user-extra=authentication.kubernetes.io/node-name={node}");
        let said = cluster.refused(words.iter().copied().chain([daemon.as_str(), &on("node9")]))?;
        ensure!(said.contains("its own node only"), "{said}");
        let spec = json!({"spec": {"hostname": "x"}}).to_string();
        let words = [
            "patch",
            "vmi/kept",
            "--type=merge",
            "-p",
            &spec,
            &daemon,
            &on(node),
        ];
        let said = cluster.refused(words)?;
        ensure!(said.contains("nothing else of it"), "{said}");

        let migration = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration",
            "metadata": {"name": "away"}, "spec": {"vmiName": "kept"},
        });
        let said = cluster.apply(&[&migration]);
        let said = said.err().context("a migration was accepted")?.to_string();
        ensure!(said.contains("does not carry out"), "{said}");
        cluster
            .kubectl(["get", "vmim,vmsnapshots,vmpools,vmexports"])
            .map(drop)
    })
}
