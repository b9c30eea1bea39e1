//! Machines that name an instancetype and a preference.

use anyhow::{Context as _, Result, bail, ensure};
use catamaran_tests::cluster::{self, Cluster};
use catamaran_tests::{BOOT, SHORT};
use serde_json::{Value, json};

fn instancetype(kind: &str, name: &str, vcpus: u32, memory: &str) -> Value {
    json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {"cpu": {"guest": vcpus}, "memory": {"guest": memory}},
    })
}

fn preference(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "cpu": {"preferredCPUTopology": "cores"},
            "devices": {"preferredInterfaceModel": "e1000e", "preferredRng": {}},
        },
    })
}

/// A machine without processors and memory of its own.
fn machine(name: &str) -> Value {
    let mut machine = cluster::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 2.into();
    if let Value::Object(domain) = &mut spec["domain"] {
        domain.remove("memory");
    }
    machine
}

fn named(name: &str, instancetype: &Value, preference: &Value) -> Value {
    let mut machine = machine(name);
    machine["spec"]["instancetype"] = instancetype.clone();
    machine["spec"]["preference"] = preference.clone();
    machine
}

/// Applies what must be refused; gives the words of the refusal.
fn refused(cluster: &Cluster, object: &Value) -> Result<String> {
    match cluster.apply(&[object]) {
        Ok(_) => bail!("it was taken: {object}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn domain(cluster: &Cluster, instance: &str) -> Result<Value> {
    Ok(cluster.get(&format!("vmi/{instance}"))?["spec"]["domain"].clone())
}

#[test]
fn a_machine_boots_with_its_instancetype_and_keeps_it() -> Result<()> {
    cluster::run(1, |cluster| {
        let name = format!("small-{}", cluster.namespace());
        let _gone = cluster.gone_afterwards([
            format!("virtualmachineclusterinstancetype/{name}"),
            format!("virtualmachineclusterpreference/{name}"),
        ]);
        let small = instancetype("VirtualMachineClusterInstancetype", &name, 2, "160Mi");
        cluster.apply(&[
            &small,
            &preference("VirtualMachineClusterPreference", &name),
        ])?;
        let by_name = json!({"name": name});
        cluster.apply(&[&named("guest", &by_name, &by_name)])?;
        let ready = cluster.wait_field("vm/guest", "/status/printableStatus", "Running", BOOT)?;
        let found = domain(cluster, "guest")?;
        ensure!(
            found["memory"]["guest"] == "160Mi" && found["cpu"]["cores"] == 2,
            "{found}"
        );
        ensure!(
            found["devices"]["interfaces"][0]["model"] == "e1000e",
            "{found}"
        );
        let instance = cluster.get("vmi/guest")?;
        let current = &instance["status"]["currentCPUTopology"];
        ensure!(current["cores"] == 2, "{}", instance["status"]);
        let notes = &instance["metadata"]["annotations"];
        ensure!(
            notes["kubevirt.io/cluster-instancetype-name"] == name.as_str()
                && notes["kubevirt.io/cluster-preference-name"] == name.as_str(),
            "{notes}"
        );

        // What it was made with is kept, and goes with the machine.
        let kept = &ready["status"]["instancetypeRef"]["controllerRevisionRef"]["name"];
        let kept = kept.as_str().context("nothing is kept")?.to_owned();
        let revision = cluster.get(&format!("controllerrevision/{kept}"))?;
        ensure!(revision["data"]["spec"]["cpu"]["guest"] == 2, "{revision}");
        ensure!(
            revision["metadata"]["ownerReferences"][0]["name"] == "guest",
            "{revision}"
        );
        cluster.apply(&[&instancetype(
            "VirtualMachineClusterInstancetype",
            &name,
            1,
            "96Mi",
        )])?;
        cluster.kubectl(["delete", "vmi/guest"])?;
        cluster.wait_field("vm/guest", "/status/printableStatus", "Running", BOOT)?;
        let again = domain(cluster, "guest")?;
        ensure!(again["memory"]["guest"] == "160Mi", "{again}");
        let machine = cluster.get("vm/guest")?;
        let mut conditions = machine["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        ensure!(
            !conditions.any(|c| c["type"] == "RestartRequired"),
            "{}",
            machine["status"]
        );

        cluster.kubectl(["delete", "vm/guest"])?;
        cluster.wait_gone(&format!("controllerrevision/{kept}"), SHORT)
    })
}

#[test]
fn conflicts_and_names_that_are_not_there_are_refused_with_their_path() -> Result<()> {
    cluster::run(1, |cluster| {
        let kind = "VirtualMachineInstancetype";
        cluster.apply(&[&instancetype(kind, "own", 1, "128Mi")])?;
        let own = json!({"kind": kind, "name": "own"});
        let mut both = machine("both");
        both["spec"]["instancetype"] = own.clone();
        both["spec"]["template"]["spec"]["domain"]["cpu"] = json!({"sockets": 2});
        let words = refused(cluster, &both)?;
        ensure!(
            words.contains("spec.template.spec.domain.cpu.sockets")
                && words.contains("conflicts with selected instance type"),
            "{words}"
        );
        let mut nowhere = machine("nowhere");
        nowhere["spec"]["instancetype"] = json!({"name": "none"});
        let words = refused(cluster, &nowhere)?;
        ensure!(words.contains("spec.instancetype.name"), "{words}");
        let mut wrong = instancetype(kind, "wrong", 1, "128Mi");
        wrong["spec"]["cpus"] = 2.into();
        let words = refused(cluster, &wrong)?;
        ensure!(words.contains("spec.cpus"), "{words}");

        // A machine that was taken says what it waits for, and starts when it is there.
        let mut later = machine("later");
        later["spec"]["runStrategy"] = "Halted".into();
        later["spec"]["instancetype"] = own;
        cluster.apply(&[&later])?;
        cluster.wait_field("vm/later", "/status/instancetypeRef/name", "own", SHORT)?;
        let pointer = "/spec/template/spec/domain/memory/guest";
        let path = format!(
            "/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachines/later/expand-spec",
            cluster.namespace()
        );
        let expanded = cluster.raw(&path)?;
        ensure!(
            expanded.pointer(pointer) == Some(&json!("128Mi"))
                && expanded["spec"]["instancetype"].is_null(),
            "{expanded}"
        );
        Ok(())
    })
}

#[test]
fn a_claim_names_the_instancetype_of_the_machine_that_boots_from_it() -> Result<()> {
    cluster::run(1, |cluster| {
        let kind = "VirtualMachineInstancetype";
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "disk", "labels": {
                "instancetype.kubevirt.io/default-instancetype": "own",
                "instancetype.kubevirt.io/default-instancetype-kind": kind,
            }},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}},
        });
        cluster.apply(&[&instancetype(kind, "own", 1, "128Mi"), &claim])?;
        let mut inferring = machine("inferring");
        let spec = &mut inferring["spec"];
        spec["runStrategy"] = "Halted".into();
        spec["instancetype"] = json!({"inferFromVolume": "root"});
        spec["template"]["spec"]["volumes"][0] =
            json!({"name": "root", "persistentVolumeClaim": {"claimName": "disk"}});
        cluster.apply(&[&inferring])?;
        let taken =
            cluster.wait_field("vm/inferring", "/status/instancetypeRef/name", "own", SHORT)?;
        ensure!(
            taken["status"]["instancetypeRef"]["inferFromVolume"] == "root",
            "{}",
            taken["status"]
        );
        // A container disk has no claim that could name anything.
        let mut lost = machine("lost");
        lost["spec"]["instancetype"] = json!({"inferFromVolume": "root"});
        let words = refused(cluster, &lost)?;
        ensure!(
            words.contains("spec.instancetype.inferFromVolume"),
            "{words}"
        );
        Ok(())
    })
}
