//! What a table shows of an object, computed where all objects are at hand.

use serde_json::{Value, json};

use crate::machine::status::restarts;
use crate::serve::store::{Key, Kind, Store};

/// The object with its `summary`; the content of Secrets is left out.
#[must_use]
pub fn with_summary(store: &Store, key: &Key, mut object: Value) -> Value {
    let summary = match key.kind {
        Kind::VirtualMachine => {
            let instance = store
                .get(&key.with_kind(Kind::VirtualMachineInstance))
                .map(|stored| stored.object)
                .unwrap_or_default();
            let mut summary = machine(
                &object["status"]["printableStatus"],
                &object["spec"]["template"]["spec"],
                &instance,
                &strategy(&object["spec"]),
            );
            summary["restarts"] = restarts::count(&object).into();
            if summary["reason"].is_null()
                && let Some(end) = restarts::last_end(&object)
            {
                summary["reason"] = format!("the last restart: {end}").into();
            }
            summary
        }
        Kind::VirtualMachineInstance => machine(
            &object["status"]["phase"].clone(),
            &object["spec"].clone(),
            &object,
            &Value::Null,
        ),
        Kind::Pod => pod(&object),
        Kind::Secret => {
            for field in ["data", "stringData"] {
                for (_, value) in object[field].as_object_mut().into_iter().flatten() {
                    *value = "<hidden>".into();
                }
            }
            json!({})
        }
        Kind::ConfigMap | Kind::PersistentVolumeClaim => json!({}),
    };
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        map.insert("summary".to_owned(), summary);
    }
    object
}

fn strategy(spec: &Value) -> Value {
    match (&spec["runStrategy"], &spec["running"]) {
        (Value::String(word), _) => word.clone().into(),
        (_, Value::Bool(true)) => "Always".into(),
        _ => "Halted".into(),
    }
}

fn machine(status: &Value, spec: &Value, instance: &Value, strategy: &Value) -> Value {
    let ips = addresses(instance);
    let domain = &spec["domain"];
    let count = |field: &str| domain["cpu"][field].as_u64().unwrap_or(1);
    let memory = [
        &domain["memory"]["guest"],
        &domain["resources"]["requests"]["memory"],
        &domain["resources"]["limits"]["memory"],
    ];
    let synchronized = condition(instance, "Synchronized", "message");
    json!({
        "status": status,
        "ready": condition(instance, "Ready", "status"),
        // An instance is not started again: a machine makes another.
        "restarts": 0,
        "ip": ips.first(),
        "ips": ips,
        "strategy": strategy,
        "cpus": count("sockets") * count("cores") * count("threads"),
        "memory": memory.iter().find(|value| !value.is_null()),
        // Of a run that is over: how it ended.
        "reason": if synchronized.is_null() { &instance["status"]["reason"] } else { &synchronized },
    })
}

fn pod(object: &Value) -> Value {
    let ips = addresses(object);
    let containers = object["status"]["containerStatuses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = containers
        .iter()
        .filter(|container| container["ready"] == true)
        .count();
    let restarts: u64 = containers
        .iter()
        .filter_map(|container| container["restartCount"].as_u64())
        .sum();
    let waiting = containers.iter().find_map(|container| {
        container["state"]["waiting"]["reason"]
            .as_str()
            .map(str::to_owned)
    });
    let message = containers.iter().find_map(|container| {
        container["state"]["waiting"]["message"]
            .as_str()
            .map(str::to_owned)
    });
    let total = object["spec"]["containers"].as_array().map_or(0, Vec::len);
    json!({
        "status": waiting.map_or_else(|| object["status"]["phase"].clone(), Value::from),
        "ready": format!("{ready}/{total}"),
        "restarts": restarts,
        "ip": ips.first(),
        "ips": ips,
        "reason": message.map_or_else(|| object["status"]["message"].clone(), Value::from),
    })
}

fn condition(object: &Value, kind: &str, field: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .map(|condition| condition[field].clone())
        .unwrap_or_default()
}

/// Addresses of an instance or pod.
#[must_use]
pub fn addresses(object: &Value) -> Vec<String> {
    let status = &object["status"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_machine = status["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|interface| interface["ipAddresses"].as_array().into_iter().flatten());
    let of_pod = status["podIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| &entry["ip"]);
    of_machine.chain(of_pod).filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_came_back_tells_how_often_and_why() -> Result<(), Box<dyn std::error::Error>>
    {
        let folder = tempfile::tempdir()?;
        let store = Store::open(folder.path())?;
        let key = Key::new(Kind::VirtualMachine, "default", "demo");
        let mut vm = json!({
            "metadata": {"namespace": "default", "name": "demo"},
            "status": {"printableStatus": "CrashLoopBackOff"},
        });
        let shown = |vm: &Value| with_summary(&store, &key, vm.clone())["summary"].clone();
        assert_eq!(
            (&shown(&vm)["restarts"], &shown(&vm)["reason"]),
            (&json!(0), &Value::Null)
        );
        restarts::note(&mut vm, "uid", "QEMU is gone");
        let summary = shown(&vm);
        assert_eq!(summary["restarts"], 1);
        assert_eq!(summary["reason"], "the last restart: QEMU is gone");
        // A run that is over and stays tells its own end.
        let instance =
            json!({"status": {"phase": "Failed", "reason": "The guest ended: Panicked"}});
        store.put(&key.with_kind(Kind::VirtualMachineInstance), instance)?;
        assert_eq!(shown(&vm)["reason"], "The guest ended: Panicked");
        Ok(())
    }
}
