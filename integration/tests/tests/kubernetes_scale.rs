//! Many machines, and what they cost the API server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, TINY};
use catamaran_tests::{BOOT, SHORT, manifest, wait::Seen, wait_for};
use serde_json::{Value, json};

/// What a machine may cost from its creation until it runs, the revision of its start among it. Its pod costs five writes besides, like every pod: 13 in all.
const WRITES: usize = 8;
/// Our events of a start. The kubelet tells of every container besides.
const EVENTS: [&str; 2] = [
    "Normal virt-controller SuccessfulCreate VirtualMachine",
    "Normal virt-handler Started VirtualMachineInstance",
];
/// How long nothing may be written while nothing happens.
const IDLE: Duration = Duration::from_secs(30);
/// Machines and pods that run side by side.
const CROWD: usize = 10;

fn machine(name: &str) -> Value {
    let mut machine = cluster::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    // Nobody waits for these guests.
    spec["terminationGracePeriodSeconds"] = 0.into();
    machine
}

/// The machine as one of a crowd that is the same on both nodes. Else the scheduler may prefer the node that has the images.
fn spread(mut machine: Value) -> Value {
    let template = &mut machine["spec"]["template"];
    template["metadata"]["labels"]["crowd"] = "ten".into();
    template["spec"]["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"crowd": "ten"}},
    }]);
    machine
}

fn pod(name: &str) -> Value {
    let mut pod = manifest::pod(name, &["sleep", "86400"]);
    pod["spec"]["containers"][0]["image"] = TINY.into();
    pod
}

/// Our writes so far, events and the pod itself left out.
fn ours(cluster: &Cluster) -> Result<Vec<String>> {
    let mut found = cluster.writes()?;
    found.retain(|write| write.is_ours() && !write.is_event());
    Ok(found
        .iter()
        .filter(|write| (write.verb.as_str(), write.resource.as_str()) != ("create", "pods"))
        .map(|write| {
            format!(
                "{} {} {} {}",
                write.at, write.verb, write.resource, write.user
            )
        })
        .collect())
}

/// The events of the test's namespace: type, who wrote it, reason, what it is about.
fn events(cluster: &Cluster) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(&cluster.kubectl(["get", "events", "-o", "json"])?)?;
    let items = list["items"].as_array().context("no list")?;
    let told = items.iter().map(|event| {
        let word = |pointer: &str| {
            let word = event.pointer(pointer).and_then(Value::as_str);
            word.unwrap_or_default()
        };
        // Of the two fields for who wrote it, old writers fill the second.
        let by = Some(word("/reportingComponent")).filter(|by| !by.is_empty());
        format!(
            "{} {} {} {}",
            word("/type"),
            by.unwrap_or(word("/source/component")),
            word("/reason"),
            word("/involvedObject/kind"),
        )
    });
    Ok(told.collect())
}

#[test]
fn a_machine_costs_few_writes_and_events_until_it_runs_and_no_writes_while_it_does() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("thrifty")])?;
        cluster.wait_condition("vm/thrifty", "Ready", "True", BOOT)?;
        let pod = cluster.launcher_pod("thrifty")?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        cluster.wait_condition(&format!("pod/{name}"), "Ready", "True", SHORT)?;
        let started = ours(cluster)?;
        ensure!(started.len() <= WRITES, "{}", started.join("\n"));
        // Nothing waits until an event is written.
        wait_for("the events of a start are told", SHORT, || {
            let told = events(cluster)?;
            let by_us = told.iter().filter(|event| event.contains(" virt-"));
            let mut by_us: Vec<&str> = by_us.map(String::as_str).collect();
            by_us.sort_unstable();
            Ok(Seen::when(by_us == EVENTS, told.join("\n")))
        })?;

        let begin = Instant::now();
        wait_for("the time of idling is over", IDLE + SHORT, || {
            let written = ours(cluster)?;
            Ok(Seen::when(
                begin.elapsed() > IDLE || written.len() > started.len(),
                "it is not",
            ))
        })?;
        let written = ours(cluster)?;
        ensure!(
            written.len() == started.len(),
            "nothing happened, and this was written:\n{}",
            written[started.len()..].join("\n")
        );
        Ok(())
    })
}

#[test]
fn ten_machines_and_ten_pods_run_side_by_side_over_two_nodes() -> Result<()> {
    cluster::run(2, |cluster| {
        let names: Vec<String> = (0..CROWD).map(|number| format!("m{number}")).collect();
        for node in ["node/node1", "node/node2"] {
            let label = "/metadata/labels/kubevirt.io~1schedulable";
            cluster.wait_field(node, label, "true", BOOT)?;
        }
        let objects: Vec<Value> = names
            .iter()
            .flat_map(|name| [spread(machine(name)), pod(&format!("pod-{name}"))])
            .collect();
        cluster.apply(&objects.iter().collect::<Vec<_>>())?;
        let mut nodes = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for name in &names {
            let instance =
                cluster.wait_field(&format!("vmi/{name}"), "/status/phase", "Running", BOOT)?;
            let pod = cluster.wait_condition(&format!("pod/pod-{name}"), "Ready", "True", BOOT)?;
            nodes.insert(instance["status"]["nodeName"].to_string());
            addresses.insert(instance["status"]["interfaces"][0]["ipAddress"].to_string());
            addresses.insert(pod["status"]["podIP"].to_string());
        }
        ensure!(nodes.len() == 2, "all are on {nodes:?}");
        ensure!(addresses.len() == 2 * CROWD, "{addresses:?}");
        Ok(())
    })
}
