//! A machine on Kubernetes, from its manifest to its end.

use std::time::Duration;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, TINY};
use catamaran_tests::{BOOT, SHORT, manifest, wait::Seen, wait_for};
use serde_json::{Value, json};

/// The machine of the examples, with a disk that the cluster's registry has.
fn machine(name: &str) -> Value {
    let user_data =
        "#cloud-config\nhostname: demo\nruncmd:\n  - echo \"hello from cloud-init\" > /dev/ttyS0\n";
    manifest::with_user_data(cluster::machine(name), user_data)
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}

/// A pod that stays, to run programs in.
fn busybox(name: &str) -> Value {
    let mut pod = manifest::pod(name, &["sleep", "86400"]);
    pod["spec"]["containers"][0]["image"] = TINY.into();
    pod
}

#[test]
fn a_machine_runs_in_a_pod_answers_through_a_service_and_leaves_nothing() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("demo"), &service("demo"), &busybox("client")])?;

        // Created, scheduled, running.
        cluster.wait_field("vmi/demo", "/status/phase", "Running", BOOT)?;
        cluster.wait_field("vm/demo", "/status/printableStatus", "Running", SHORT)?;
        cluster.wait_condition("vmi/demo", "Ready", "True", SHORT)?;
        let pod = cluster.launcher_pod("demo")?;
        let instance = cluster.get("vmi/demo")?;
        ensure!(instance["status"]["nodeName"] == pod["spec"]["nodeName"]);
        ensure!(
            instance["status"]["interfaces"][0]["ipAddress"] == pod["status"]["podIP"],
            "{} is not the pod's {}",
            instance["status"]["interfaces"],
            pod["status"]["podIP"]
        );

        // Its page comes through a Service.
        cluster.wait_condition("pod/client", "Ready", "True", SHORT)?;
        let page = wait_for("the guest's page through the service", BOOT, || {
            cluster
                .in_pod("client", &["wget", "-qO-", "http://demo/"])
                .map(Seen::Yes)
        })?;
        ensure!(page.starts_with("catamaran-guest demo\n"), "{page:?}");

        // Its serial console comes through the API server.
        let (_proxy, mut guest) = cluster.console("demo")?;
        guest.type_in("\n")?;
        guest.wait_for(":/root# ", SHORT)?;
        ensure!(guest.shell("hostname")? == "demo");
        drop(guest);

        // Nothing is left: neither object nor pod, and `run` looks at the nodes.
        cluster.kubectl(["delete", "vm/demo", "--wait=false"])?;
        for object in ["vm/demo", "vmi/demo"] {
            cluster.wait_gone(object, Duration::from_secs(90))?;
        }
        wait_for("the launcher pod is gone", SHORT, || {
            let pods = cluster.list("pod", "kubevirt.io=virt-launcher")?;
            Ok(Seen::when(
                pods.is_empty(),
                format!("{} are there", pods.len()),
            ))
        })
    })
}
