//! What a machine keeps from one pod to the next.

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster, machine};
use catamaran_tests::{BOOT, wait::Seen, wait_for};
use serde_json::{Value, json};

#[test]
fn a_machine_keeps_its_hardware_when_the_emulator_has_learned_another() -> Result<()> {
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("veteran")])?;
        let first = cluster.wait_field("vmi/veteran", "/status/phase", "Running", BOOT)?;
        cluster.wait_field("vm/veteran", "/status/printableStatus", "Running", BOOT)?;
        let newest = first["status"]["machine"]["type"].clone();
        let stored = cluster.get("vm/veteran")?["status"]["resolvedHardware"]
            .as_str()
            .context("the machine has no resolved hardware")?
            .to_owned();
        ensure!(
            stored.contains(newest.as_str().unwrap_or_default()),
            "{stored}"
        );

        // As if it had been started by an older one. The other node plans the next run.
        cluster.kubectl([
            "patch",
            "vm/veteran",
            "--type=merge",
            "--patch",
            r#"{"spec":{"runStrategy":"Halted"}}"#,
        ])?;
        cluster.wait_gone("vmi/veteran", BOOT)?;
        let mut hardware: Value = serde_json::from_str(&stored)?;
        hardware["machine"] = "pc-q35-8.0".into();
        let patch = json!({"status": {"resolvedHardware": hardware.to_string()}}).to_string();
        cluster.kubectl([
            "patch",
            "vm/veteran",
            "--subresource=status",
            "--type=merge",
            "--patch",
            &patch,
        ])?;
        let node = first["status"]["nodeName"].as_str().unwrap_or_default();
        cluster.kubectl(["cordon", node])?;
        let started = cluster
            .kubectl([
                "patch",
                "vm/veteran",
                "--type=merge",
                "--patch",
                r#"{"spec":{"runStrategy":"Always"}}"#,
            ])
            .and_then(|_| cluster.wait_field("vmi/veteran", "/status/phase", "Running", BOOT));
        cluster.kubectl(["uncordon", node])?;
        let second = started?;
        ensure!(second["status"]["nodeName"] != node, "{}", second["status"]);
        ensure!(
            second["status"]["machine"]["type"] == "pc-q35-8.0",
            "{}",
            second["status"]["machine"]
        );

        // Another spec is another machine.
        cluster.kubectl([
            "patch",
            "vm/veteran",
            "--type=merge",
            "--patch",
            r#"{"spec":{"template":{"spec":{"domain":{"cpu":{"cores":2}}}}}}"#,
        ])?;
        let third = cluster.run_again("veteran")?;
        ensure!(
            third["status"]["machine"]["type"] == newest,
            "{}",
            third["status"]["machine"]
        );
        Ok(())
    })
}

fn with_tpm(name: &str) -> Value {
    let mut machine = machine(name);
    machine["spec"]["template"]["spec"]["domain"]["devices"]["tpm"] = json!({"persistent": true});
    machine
}

/// A storage class without a provisioner, with one volume that uid 107 may write to.
fn storage(cluster: &Cluster) -> [Value; 2] {
    let name = format!("{}-state", cluster.namespace());
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": name}, "provisioner": "kubernetes.io/no-provisioner",
    });
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "64Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": format!("/tmp/catamaran-{name}"), "type": "Directory"},
        },
    });
    [class, volume]
}

fn set_class(cluster: &Cluster, class: &Value) -> Result<()> {
    let patch = json!({"spec": {"configuration": {"vmStateStorageClass": class}}}).to_string();
    let system = "--namespace=catamaran-system";
    cluster.kubectl([
        system,
        "patch",
        "kubevirt/catamaran",
        "--type=merge",
        "--patch",
        &patch,
    ])?;
    Ok(())
}

/// Runs a test on a cluster that has a place for the state of one machine.
fn with_place(test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    cluster::run(1, |cluster| {
        let [class, volume] = storage(cluster);
        let name = class["metadata"]["name"].as_str().unwrap_or_default();
        let folder = volume["spec"]["hostPath"]["path"]
            .as_str()
            .unwrap_or_default();
        cluster.on_node(1, &["install", "-d", "-m", "777", folder])?;
        cluster.apply(&[&class, &volume])?;
        set_class(cluster, &json!(name))?;
        let result = test(cluster);
        set_class(cluster, &Value::Null)?;
        result?;
        cluster.kubectl([
            "delete",
            &format!("pv/{name}"),
            &format!("storageclass/{name}"),
        ])?;
        cluster.on_node(1, &["rm", "-r", folder])?;
        Ok(())
    })
}

/// Deletes a machine: the claim of its state, which is its own, goes with it.
fn delete_with_state(cluster: &Cluster, name: &str) -> Result<()> {
    let claim = format!("pvc/persistent-state-for-{name}");
    let metadata = &cluster.get(&claim)?["metadata"];
    ensure!(
        metadata["ownerReferences"][0]["kind"] == "VirtualMachine",
        "{metadata}"
    );
    cluster.kubectl(["delete", &format!("vm/{name}")])?;
    cluster.wait_gone(&claim, BOOT)
}

#[test]
fn the_state_of_a_tpm_is_there_in_the_next_pod_and_goes_with_the_machine() -> Result<()> {
    with_place(sealed)
}

fn sealed(cluster: &Cluster) -> Result<()> {
    cluster.apply(&[&with_tpm("sealed")])?;
    cluster.wait_field("vmi/sealed", "/status/phase", "Running", BOOT)?;
    // The TPM's own file is written anew at each boot. What it was manufactured with, and how many were, is not.
    let made = |cluster: &Cluster| -> Result<String> {
        let pod = cluster.launcher_pod("sealed")?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        let line = "ls /state/tpm/*.permall && ls -i /state/tpm-ca/signkey.pem && cat /state/tpm-ca/certserial";
        cluster.in_pod(pod, &["sh", "-c", line])
    };
    let first = made(cluster)?;
    ensure!(first.contains("permall"), "{first:?}");
    cluster.run_again("sealed")?;
    let second = made(cluster)?;
    ensure!(first == second, "{first:?} became {second:?}");
    delete_with_state(cluster, "sealed")
}

#[test]
#[ignore = "UEFI takes a minute when it is emulated: `cargo xtask test --long`"]
fn a_variable_of_uefi_is_there_in_the_next_pod_and_goes_with_the_machine() -> Result<()> {
    with_place(remembered)
}

fn remembered(cluster: &Cluster) -> Result<()> {
    let mut machine = machine("keeper");
    let domain = &mut machine["spec"]["template"]["spec"]["domain"];
    domain["memory"]["guest"] = "256Mi".into();
    domain["firmware"] = json!({"bootloader": {"efi": {"secureBoot": false, "persistent": true}}});
    cluster.apply(&[&machine])?;
    cluster.wait_field("vmi/keeper", "/status/phase", "Running", BOOT)?;
    let variable = "/sys/firmware/efi/efivars/Kept-3ea9e6ff-5f1c-4c63-9c1d-6d6b0d8b1e0c";
    let (proxy, mut guest) = cluster.shell("keeper")?;
    // Four bytes of attributes: it is kept, and can be read before and after the boot.
    guest.shell(&format!("printf '\\007\\000\\000\\000kept' > {variable}"))?;
    drop((guest, proxy));
    cluster.run_again("keeper")?;
    let (proxy, mut guest) = cluster.shell("keeper")?;
    let said = guest.shell(&format!("tail -c 4 {variable}; echo"))?;
    ensure!(said == "kept", "{said:?}");
    drop((guest, proxy));
    delete_with_state(cluster, "keeper")
}

#[test]
fn state_without_a_storage_class_is_refused_by_the_field_that_needs_it() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&with_tpm("homeless")])?;
        let found = cluster.wait_condition("vmi/homeless", "Synchronized", "False", BOOT)?;
        let conditions = found["status"]["conditions"].to_string();
        ensure!(
            conditions.contains("spec.domain.devices.tpm.persistent")
                && conditions.contains("vmStateStorageClass"),
            "{conditions}"
        );
        Ok(())
    })
}

#[test]
fn the_guests_serial_output_is_a_log_of_its_pod_and_ends_with_the_guest() -> Result<()> {
    cluster::run(1, |cluster| {
        cluster.apply(&[&machine("talker")])?;
        cluster.wait_field("vmi/talker", "/status/phase", "Running", BOOT)?;
        let pod = cluster.launcher_pod("talker")?;
        let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
        let mut follow = cluster
            .kubectl_command(["logs", pod, "--container=guest-console-log", "--follow"])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        wait_for("the guest has booted", BOOT, || {
            let said = cluster.kubectl(["logs", pod, "--container=guest-console-log"])?;
            Ok(Seen::when(said.contains("catamaran-guest ready: "), said))
        })?;
        cluster.kubectl([
            "patch",
            "vm/talker",
            "--type=merge",
            "--patch",
            r#"{"spec":{"runStrategy":"Halted"}}"#,
        ])?;
        let mut said = String::new();
        let mut output = follow.stdout.take().context("no pipe")?;
        std::io::Read::read_to_string(&mut output, &mut said)?;
        ensure!(follow.wait()?.success());
        ensure!(said.contains("catamaran-guest ready: talker "), "{said}");
        cluster.wait_gone(&format!("pod/{pod}"), BOOT)
    })
}
