//! Manifests of the tests, as JSON (which is YAML).

use serde_json::{Value, json};

/// The smallest machine that a test can talk to: a container disk and a masqueraded card. It gets a seed with [`with_user_data`].
#[must_use]
pub fn machine(name: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "runStrategy": "Always",
            "template": {"metadata": {"labels": {"app": name}}, "spec": {
                "terminationGracePeriodSeconds": 30,
                "domain": {
                    "memory": {"guest": "128Mi"},
                    "devices": {
                        "rng": {},
                        "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                        "interfaces": [{"name": "default", "masquerade": {}}],
                    },
                },
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [{"name": "root", "containerDisk": {"image": "catamaran.local/minimal:dev"}}],
            }},
        },
    })
}

/// Adds a disk and its volume, given as the rest of the volume (`{"emptyDisk": …}`) and the rest of the disk (`{"disk": {"bus": "virtio"}}`).
pub fn add_disk(machine: &mut Value, name: &str, disk: &Value, volume: &Value) {
    let spec = &mut machine["spec"]["template"]["spec"];
    push(&mut spec["domain"]["devices"]["disks"], named(name, disk));
    push(&mut spec["volumes"], named(name, volume));
}

/// The machine with a NoCloud seed.
#[must_use]
pub fn with_user_data(mut machine: Value, user_data: &str) -> Value {
    add_disk(
        &mut machine,
        "seed",
        &json!({"disk": {"bus": "virtio"}}),
        &json!({"cloudInitNoCloud": {"userData": user_data}}),
    );
    machine
}

/// A pod of one container with a command.
#[must_use]
pub fn pod(name: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "catamaran.local/tiny:dev", "command": command}],
        },
    })
}

/// Objects as one file.
#[must_use]
pub fn file(objects: &[&Value]) -> String {
    let texts: Vec<String> = objects.iter().map(|object| object.to_string()).collect();
    texts.join("\n---\n")
}

fn named(name: &str, rest: &Value) -> Value {
    let mut object = rest.clone();
    object["name"] = name.into();
    object
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
