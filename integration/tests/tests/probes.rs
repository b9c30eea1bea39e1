//! Probes of guests: by the network and by the guest agent.

use std::ffi::OsStr;
use std::time::Duration;

use anyhow::{Result, ensure};
use catamaran_tests::bench::Bench;
use catamaran_tests::manifest::{add_disk, machine};
use catamaran_tests::{BOOT, SHORT, run, wait::Seen, wait_for};
use serde_json::{Value, json};

/// The Debian guest boots many times as long as the minimal one.
const LONG_BOOT: Duration = Duration::from_secs(900);

/// Waits until `Ready` of an instance, or of a machine, has that status.
fn wait_ready(bench: &Bench, object: &str, wanted: &str, deadline: Duration) -> Result<Value> {
    wait_for(&format!("Ready of {object} is {wanted}"), deadline, || {
        let value = bench.get(object)?;
        let conditions = value["status"]["conditions"].as_array().cloned();
        let ready = conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition["type"] == "Ready")
            .unwrap_or_default();
        Ok(if ready["status"] == wanted {
            Seen::Yes(ready)
        } else {
            Seen::NotYet(value["status"].to_string())
        })
    })
}

/// Waits until a text stands in what `describe` says.
fn wait_described(bench: &Bench, object: &str, text: &str, deadline: Duration) -> Result<()> {
    wait_for(&format!("{text:?} of {object}"), deadline, || {
        let said = bench.catamaran(["describe", object])?;
        Ok(Seen::when(said.contains(text), said))
    })
}

/// A machine with probes and a grace period of no time.
fn probed(name: &str, probes: &Value) -> Value {
    let mut vm = machine(name);
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 0.into();
    for (field, probe) in probes.as_object().into_iter().flatten() {
        spec[field] = probe.clone();
    }
    vm
}

#[test]
fn a_guest_is_ready_as_long_as_its_readiness_probe_says_so() -> Result<()> {
    run(|bench| {
        let probe = json!({"httpGet": {"port": 80, "path": "/ready"}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2});
        bench.apply(&[&probed("probed", &json!({ "readinessProbe": probe }))])?;

        // It runs, but nobody has found it ready.
        bench.wait_field("vmi/probed", "/status/phase", "Running", SHORT)?;
        let ready = wait_ready(bench, "vmi/probed", "False", SHORT)?;
        ensure!(ready["reason"] == "ContainersNotReady", "{ready}");
        wait_described(bench, "vmi/probed", "Readiness probe failed: ", SHORT)?;
        let mut guest = bench.booted("probed")?;
        wait_ready(bench, "vm/probed", "False", SHORT)?;

        guest.shell("echo yes > /www/ready")?;
        wait_ready(bench, "vmi/probed", "True", SHORT)?;
        wait_ready(bench, "vm/probed", "True", SHORT)?;

        // Nobody asks a guest that is paused; it goes on as it was.
        bench.catamaran(["pause", "probed"])?;
        let ready = wait_ready(bench, "vmi/probed", "False", SHORT)?;
        ensure!(ready["reason"] == "GuestNotRunning", "{ready}");
        bench.catamaran(["unpause", "probed"])?;
        wait_ready(bench, "vmi/probed", "True", SHORT)?;

        guest.shell("rm /www/ready")?;
        wait_ready(bench, "vmi/probed", "False", SHORT)?;
        wait_described(
            bench,
            "vmi/probed",
            "Readiness probe failed: HTTP probe failed with statuscode: 404",
            SHORT,
        )?;

        // A new daemon asks anew.
        guest.shell("echo yes > /www/ready")?;
        wait_ready(bench, "vmi/probed", "True", SHORT)?;
        bench.kill_daemon()?;
        bench.start_daemon()?;
        wait_ready(bench, "vmi/probed", "True", SHORT)?;
        let mut guest = catamaran_tests::Console::open(bench, "probed", &[])?;
        guest.shell("rm /www/ready")?;
        wait_ready(bench, "vmi/probed", "False", SHORT)?;
        Ok(())
    })
}

#[test]
fn a_failed_liveness_probe_ends_the_guest() -> Result<()> {
    run(|bench| {
        // Nobody listens there, so the guest need not have booted.
        let probe = json!({"tcpSocket": {"port": 9}, "initialDelaySeconds": 2, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2});

        let vm = probed("bare", &json!({ "livenessProbe": probe }));
        let bare = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": "bare"},
            "spec": vm["spec"]["template"]["spec"],
        });
        bench.apply(&[&bare])?;
        bench.wait_field("vmi/bare", "/status/phase", "Running", SHORT)?;
        let failed = bench.wait_field("vmi/bare", "/status/phase", "Failed", SHORT)?;
        let reason = failed["status"]["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.starts_with("Liveness probe failed: dial tcp 10.88."),
            "{reason}"
        );
        wait_described(bench, "vmi/bare", "Unhealthy", SHORT)?;
        bench.catamaran(["delete", "vmi/bare"])?;
        bench.wait_gone("vmi/bare", SHORT)?;

        // A machine that is always to run gets a new instance.
        bench.apply(&[&probed("always", &json!({ "livenessProbe": probe }))])?;
        let first = bench.wait_field("vmi/always", "/status/phase", "Running", SHORT)?;
        wait_for("another instance runs", BOOT, || {
            let now = bench.get("vmi/always")?;
            let other = now["metadata"]["uid"] != first["metadata"]["uid"];
            Ok(Seen::when(
                other && now["status"]["phase"] == "Running",
                now["status"].to_string(),
            ))
        })?;
        Ok(())
    })
}

#[test]
#[ignore = "boots the Debian guest, which takes minutes when it is emulated: `cargo xtask test --long`"]
fn the_guest_agent_answers_probes() -> Result<()> {
    run(|bench| {
        let mut vm = probed(
            "agent",
            &json!({
                "readinessProbe": {"exec": {"command": ["/usr/bin/test", "-e", "/run/ready"]}, "periodSeconds": 2, "timeoutSeconds": 20, "failureThreshold": 1},
            }),
        );
        let spec = &mut vm["spec"]["template"]["spec"];
        spec["domain"]["memory"]["guest"] = "512Mi".into();
        spec["volumes"][0]["containerDisk"]["image"] = "catamaran.local/debian:dev".into();
        add_disk(
            &mut vm,
            "seed",
            &json!({"disk": {"bus": "virtio"}}),
            &json!({"cloudInitNoCloud": {"userData": "#cloud-config\nruncmd:\n  - touch /run/ready\n"}}),
        );
        // Another guest has no agent, and says so.
        let ping = json!({"guestAgentPing": {}, "periodSeconds": 1, "failureThreshold": 1});
        let without = probed("without", &json!({ "readinessProbe": ping }));
        bench.apply(&[&vm, &without])?;
        wait_described(bench, "vmi/without", "Readiness probe failed: ", SHORT)?;
        bench.catamaran([OsStr::new("delete"), OsStr::new("vm/without")])?;

        wait_ready(bench, "vmi/agent", "True", LONG_BOOT)?;
        Ok(())
    })
}
