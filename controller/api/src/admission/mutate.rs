//! What is added to a new machine or instance: finalizers, phase Pending, the finalizer, and the defaults that clients read from an instance's spec. No I/O.

use catamaran_api::VirtualMachineInstanceSpec;
use catamaran_spec::defaults;
use k8s_openapi::jiff::{Timestamp, Unit};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::review::{Request, Verdict};

/// Of an instance: taken away by the controller when the run is proved dead.
const FINALIZER: &str = "foregroundDeleteVirtualMachine";
/// Of a machine: taken away by the controller when its instance is gone.
const MACHINE_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";

/// The changes of a new object.
pub(super) fn complete(request: &Request, now: Timestamp) -> Verdict {
    if request.operation != "CREATE" {
        return Verdict::allowed();
    }
    match request.kind.kind.as_str() {
        "VirtualMachineInstance" => instance(&request.object, now),
        "VirtualMachine" => Verdict::Changed(
            held(&request.object, MACHINE_FINALIZER)
                .into_iter()
                .collect(),
        ),
        _ => Verdict::allowed(),
    }
}

/// Adds a finalizer, unless it is there.
fn held(object: &Value, finalizer: &str) -> Option<Value> {
    match object["metadata"]["finalizers"].as_array() {
        Some(all) if all.iter().any(|there| there == finalizer) => None,
        Some(_) => Some(add("/metadata/finalizers/-", json!(finalizer))),
        None => Some(add("/metadata/finalizers", json!([finalizer]))),
    }
}

fn instance(object: &Value, now: Timestamp) -> Verdict {
    let now = now.round(Unit::Second).unwrap_or(now).to_string();
    let mut changes = Vec::new();
    // An instance of a machine is born Pending.
    if object["status"]["phase"] != "Pending" {
        changes.push(add(
            "/status",
            json!({
                "phase": "Pending",
                "phaseTransitionTimestamps": [{"phase": "Pending", "phaseTransitionTimestamp": now}],
            }),
        ));
    }
    changes.extend(held(object, FINALIZER));
    if object["spec"]["domain"].is_object() {
        spec(&object["spec"], &mut changes);
    }
    Verdict::Changed(changes)
}

fn spec(spec: &Value, changes: &mut Vec<Value>) {
    if spec["terminationGracePeriodSeconds"].is_null() {
        changes.push(add(
            "/spec/terminationGracePeriodSeconds",
            json!(defaults::GRACE_PERIOD_SECONDS),
        ));
    }
    let machine = &spec["domain"]["machine"];
    if machine.is_null() {
        changes.push(add(
            "/spec/domain/machine",
            json!({"type": defaults::MACHINE_TYPE}),
        ));
    } else if machine.is_object() && machine["type"].as_str().unwrap_or_default().is_empty() {
        changes.push(add(
            "/spec/domain/machine/type",
            json!(defaults::MACHINE_TYPE),
        ));
    }
    let devices = &spec["domain"]["devices"];
    let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    if !devices.is_object() {
        changes.push(add("/spec/domain/devices", json!({})));
    }
    let missing = missing_disks(spec);
    if !missing.is_empty() && !devices["disks"].is_array() {
        changes.push(add("/spec/domain/devices/disks", json!([])));
    }
    changes.extend(
        missing
            .into_iter()
            .map(|disk| add("/spec/domain/devices/disks/-", disk)),
    );
    if none(&devices["interfaces"])
        && none(&spec["networks"])
        && devices["autoattachPodInterface"] != false
    {
        let interface = json!([{"name": defaults::NETWORK_NAME, "bridge": {}}]);
        changes.push(add("/spec/domain/devices/interfaces", interface));
        changes.push(add(
            "/spec/networks",
            json!([{"name": defaults::NETWORK_NAME, "pod": {}}]),
        ));
    }
}

/// Disks of volumes that no disk names.
fn missing_disks(spec: &Value) -> Vec<Value> {
    // What can't be read is refused later, with its path.
    let Ok(mut spec) = VirtualMachineInstanceSpec::deserialize(spec) else {
        return Vec::new();
    };
    let there = spec.domain.devices.disks.len();
    defaults::add_missing_disks(&mut spec);
    let added = spec.domain.devices.disks.into_iter().skip(there);
    added.map(|disk| json!({"name": disk.name})).collect()
}

fn add(path: &str, value: Value) -> Value {
    let mut change = json!({"op": "add", "path": path});
    change["value"] = value;
    change
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::super::review::{Kind, Request, Verdict};
    use super::complete;

    fn changes(object: Value) -> Vec<(String, Value)> {
        let request = Request {
            kind: Kind {
                kind: "VirtualMachineInstance".to_owned(),
            },
            operation: "CREATE".to_owned(),
            object,
            ..Request::default()
        };
        let Verdict::Changed(changes) = complete(&request, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        changes
            .into_iter()
            .map(|c| (c["path"].as_str().unwrap().to_owned(), c["value"].clone()))
            .collect()
    }

    #[test]
    fn a_new_machine_is_held() {
        let request = Request {
            kind: Kind {
                kind: "VirtualMachine".to_owned(),
            },
            operation: "CREATE".to_owned(),
            object: json!({"metadata": {}, "spec": {}}),
            ..Request::default()
        };
        let Verdict::Changed(changes) = complete(&request, Timestamp::UNIX_EPOCH) else {
            panic!()
        };
        assert_eq!(
            changes,
            [
                json!({"op": "add", "path": "/metadata/finalizers", "value": ["kubevirt.io/virtualMachineControllerFinalize"]})
            ]
        );
    }

    #[test]
    fn an_instance_of_a_machine_keeps_the_status_that_it_is_born_with() {
        let found = changes(json!({
            "metadata": {"finalizers": ["foregroundDeleteVirtualMachine"]},
            "spec": {"domain": {}}, "status": {"phase": "Pending", "conditions": []},
        }));
        assert!(found.iter().all(|(path, _)| path != "/status"), "{found:?}");
    }

    #[test]
    fn a_new_instance_is_pending_and_held() {
        let found = changes(json!({
            "metadata": {"finalizers": ["kubevirt.io/virtualMachineControllerFinalize"]},
            "spec": {"domain": {}}, "status": {"phase": "Running"},
        }));
        assert_eq!(found[0].0, "/status");
        assert_eq!(found[0].1["phase"], "Pending");
        assert_eq!(
            found[0].1["phaseTransitionTimestamps"][0]["phaseTransitionTimestamp"],
            "1970-01-01T00:00:00Z"
        );
        let finalizer = (
            "/metadata/finalizers/-".to_owned(),
            json!("foregroundDeleteVirtualMachine"),
        );
        assert!(found.contains(&finalizer));
    }

    #[test]
    fn defaults_are_written_where_nothing_is_said() {
        let found = changes(json!({"metadata": {}, "spec": {"domain": {}}}));
        let value = |path: &str| {
            found
                .iter()
                .find(|(p, _)| p == path)
                .map(|(_, v)| v.clone())
        };
        assert_eq!(
            value("/metadata/finalizers"),
            Some(json!(["foregroundDeleteVirtualMachine"]))
        );
        assert_eq!(
            value("/spec/terminationGracePeriodSeconds"),
            Some(json!(30))
        );
        assert_eq!(value("/spec/domain/machine"), Some(json!({"type": "q35"})));
        assert_eq!(value("/spec/domain/devices"), Some(json!({})));
        assert_eq!(
            value("/spec/domain/devices/interfaces"),
            Some(json!([{"name": "default", "bridge": {}}]))
        );
    }

    #[test]
    fn volumes_get_their_disks() {
        let disks = |devices: Value| {
            let found = changes(json!({
                "metadata": {},
                "spec": {"domain": {"devices": devices}, "volumes": [{"name": "a", "emptyDisk": {"capacity": "1Gi"}}]},
            }));
            let found = found.into_iter();
            found
                .filter(|(path, _)| path.starts_with("/spec/domain/devices/disks"))
                .map(|(_, value)| value)
                .collect::<Vec<_>>()
        };
        assert_eq!(disks(json!({})), [json!([]), json!({"name": "a"})]);
        assert_eq!(disks(json!({"disks": []})), [json!({"name": "a"})]);
        assert!(disks(json!({"disks": [{"name": "a"}]})).is_empty());
    }

    #[test]
    fn what_is_said_stays() {
        let found = changes(json!({
            "metadata": {"finalizers": ["foregroundDeleteVirtualMachine"]},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "domain": {"machine": {"type": "pc-q35-10.0"}, "devices": {"autoattachPodInterface": false}},
            },
        }));
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
