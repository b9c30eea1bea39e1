//! `list`: machines with their status, and the reason of what is not as it should be.

use std::collections::BTreeMap;

use catamaran_client::{Format, Table, age, say, text};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::List;
use crate::connection::{Connection, Seen};
use crate::error::Error;
use crate::target::objects;

/// Characters of a reason in a narrow table.
const REASON: usize = 60;

/// `list`.
pub(crate) async fn run(connection: &Connection, args: &List) -> Result<(), Error> {
    let namespace = (!args.all_namespaces).then(|| connection.namespace());
    let query = match &args.selector {
        Some(selector) => format!("?labelSelector={}", catamaran_client::segment(selector)),
        None => String::new(),
    };
    let path = |plural| objects("kubevirt.io/v1", namespace, plural) + &query;
    let machines = items(connection.get(&path("virtualmachines")).await?);
    // Labels of a machine need not be those of its instance: instances are looked up by name, among all.
    let all = objects("kubevirt.io/v1", namespace, "virtualmachineinstances");
    let instances = match connection.look(&all).await? {
        Seen::There(list) => items(list),
        Seen::Missing | Seen::Hidden => Vec::new(),
    };
    let bare = if args.selector.is_some() {
        match connection.look(&path("virtualmachineinstances")).await? {
            Seen::There(list) => items(list),
            Seen::Missing | Seen::Hidden => Vec::new(),
        }
    } else {
        instances.clone()
    };
    let bare = bare.into_iter().filter(|vmi| !is_owned(vmi));
    let shown: Vec<Value> = machines.into_iter().chain(bare).collect();
    let format = args.output.unwrap_or_default();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": shown});
    let said = match (format.print(&list)?, format) {
        (Some(said), _) => said,
        (None, Format::Name) => shown
            .iter()
            .map(|object| reference(object) + "\n")
            .collect(),
        (None, _) if shown.is_empty() => {
            match namespace {
                Some(namespace) => {
                    eprintln!("No virtual machines found in namespace {namespace}.");
                }
                None => eprintln!("No virtual machines found."),
            }
            return Ok(());
        }
        (None, _) => {
            let wide = format == Format::Wide;
            let now = Timestamp::now();
            table(&shown, &instances, args.all_namespaces, wide, now).to_string()
        }
    };
    say(&said).map_err(Error::io("standard output"))
}

/// Objects of a list, each with its kind, which lists leave out.
pub(crate) fn items(mut list: Value) -> Vec<Value> {
    let version = list["apiVersion"].clone();
    let kind = text(&list["kind"]);
    let kind = kind.strip_suffix("List").unwrap_or(&kind);
    let mut items = match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    for item in &mut items {
        if item["kind"].is_null() {
            item["apiVersion"] = version.clone();
            item["kind"] = kind.into();
        }
    }
    items
}

fn reference(object: &Value) -> String {
    let kind = text(&object["kind"]).to_lowercase();
    format!("{kind}.kubevirt.io/{}", text(&object["metadata"]["name"]))
}

/// An instance of a machine is shown with its machine.
fn is_owned(instance: &Value) -> bool {
    let owners = instance["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    owners.any(|owner| owner["kind"] == "VirtualMachine")
}

fn key(object: &Value) -> (String, String) {
    let metadata = &object["metadata"];
    (text(&metadata["namespace"]), text(&metadata["name"]))
}

/// The table. Pure.
fn table(
    shown: &[Value],
    instances: &[Value],
    namespaces: bool,
    wide: bool,
    now: Timestamp,
) -> Table {
    let by_name: BTreeMap<_, _> = instances.iter().map(|vmi| (key(vmi), vmi)).collect();
    let mut heads = Vec::new();
    if namespaces {
        heads.push("NAMESPACE");
    }
    heads.extend(["NAME", "STATUS", "READY", "IP", "AGE"]);
    if wide {
        heads.extend(["NODE", "CPUS", "MEMORY", "STRATEGY"]);
    }
    heads.push("REASON");
    let mut table = Table::new(&heads);
    for object in shown {
        let is_machine = object["kind"] == "VirtualMachine";
        let nothing = Value::Null;
        let instance = if is_machine {
            by_name.get(&key(object)).copied().unwrap_or(&nothing)
        } else {
            object
        };
        let (namespace, name) = key(object);
        let status = if is_machine {
            &object["status"]["printableStatus"]
        } else {
            &object["status"]["phase"]
        };
        let mut row = Vec::new();
        if namespaces {
            row.push(namespace);
        }
        row.push(if is_machine {
            name
        } else {
            format!("vmi/{name}")
        });
        row.extend([
            text(status),
            condition(object, "Ready").map_or_else(String::new, |ready| text(&ready["status"])),
            text(&instance["status"]["interfaces"][0]["ipAddress"]),
            age_of(&object["metadata"]["creationTimestamp"], now),
        ]);
        if wide {
            let spec = if is_machine {
                &object["spec"]["template"]["spec"]
            } else {
                &object["spec"]
            };
            row.extend([
                text(&instance["status"]["nodeName"]),
                processors(&spec["domain"]["cpu"]),
                text(&spec["domain"]["memory"]["guest"]),
                strategy(&object["spec"]),
            ]);
        }
        let reason = reason(object).unwrap_or_default();
        row.push(if wide { reason } else { short(&reason) });
        table.row(row);
    }
    table
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// What is not as it should be, if anything is: the most telling condition.
fn reason(object: &Value) -> Option<String> {
    let telling = [
        ("Failure", "True"),
        ("Synchronized", "False"),
        ("PodScheduled", "False"),
        ("Paused", "True"),
        ("RestartRequired", "True"),
    ];
    let found = telling.into_iter().find_map(|(kind, status)| {
        condition(object, kind).filter(|condition| condition["status"] == status)
    });
    if let Some(condition) = found {
        let message = text(&condition["message"]);
        let reason = text(&condition["reason"]);
        return Some(if message.is_empty() { reason } else { message });
    }
    let status = object["status"]["printableStatus"].as_str()?;
    if status == "Running" {
        let ready = condition(object, "Ready")?;
        return (ready["status"] != "True").then(|| text(&ready["message"]));
    }
    let failures = &object["status"]["startFailure"];
    let again = text(&failures["retryAfterTimestamp"]);
    (status == "CrashLoopBackOff").then(|| {
        let count = text(&failures["consecutiveFailCount"]);
        format!("failed {count} times in a row; tried again at {again}")
    })
}

/// A reason that fits into a narrow table.
pub(crate) fn short(reason: &str) -> String {
    if reason.chars().count() <= REASON {
        return reason.to_owned();
    }
    let cut: String = reason.chars().take(REASON - 1).collect();
    format!("{}…", cut.trim_end())
}

fn processors(cpu: &Value) -> String {
    let parts = ["sockets", "cores", "threads"].map(|part| cpu[part].as_u64());
    if parts.iter().all(Option::is_none) {
        return String::new();
    }
    let count: u64 = parts.into_iter().map(|part| part.unwrap_or(1)).product();
    count.to_string()
}

fn strategy(spec: &Value) -> String {
    match (spec["runStrategy"].as_str(), spec["running"].as_bool()) {
        (Some(word), _) => word.to_owned(),
        (None, Some(true)) => "Always".to_owned(),
        (None, Some(false)) => "Halted".to_owned(),
        (None, None) => String::new(),
    }
}

/// The age of what began then; nothing where that is not known.
pub(crate) fn age_of(timestamp: &Value, now: Timestamp) -> String {
    let then = timestamp.as_str().and_then(|text| text.parse().ok());
    then.map_or_else(String::new, |then: Timestamp| {
        let seconds = now.as_second() - then.as_second();
        age(u64::try_from(seconds).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, status: &Value) -> Value {
        json!({
            "kind": "VirtualMachine",
            "metadata": {"namespace": "shop", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {
                "cpu": {"cores": 2, "sockets": 2}, "memory": {"guest": "2Gi"}}}}},
            "status": status,
        })
    }

    fn world() -> (Vec<Value>, Vec<Value>) {
        let instance = json!({
            "kind": "VirtualMachineInstance",
            "metadata": {"namespace": "shop", "name": "web"},
            "status": {"phase": "Running", "nodeName": "n1", "interfaces": [{"ipAddress": "10.0.0.7"}]},
        });
        let bare = json!({
            "kind": "VirtualMachineInstance",
            "metadata": {"namespace": "shop", "name": "once", "creationTimestamp": "2026-01-01T00:04:50Z"},
            "spec": {"domain": {}},
            "status": {"phase": "Scheduling"},
        });
        let shown = vec![
            machine(
                "web",
                &json!({"printableStatus": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]}),
            ),
            machine(
                "db",
                &json!({"printableStatus": "ErrImagePull", "conditions": [
                {"type": "Ready", "status": "False", "message": "Guest VM is not reported as running"},
                {"type": "Synchronized", "status": "False", "reason": "ErrImagePull",
                 "message": "failed to pull image \"registry.example/none:1\": not found, and the registry has said so"}]}),
            ),
            machine(
                "loop",
                &json!({"printableStatus": "CrashLoopBackOff", "startFailure":
                {"consecutiveFailCount": 3, "retryAfterTimestamp": "2026-01-01T00:06:00Z"}}),
            ),
            bare.clone(),
        ];
        (shown, vec![instance, bare])
    }

    fn now() -> Timestamp {
        "2026-01-01T00:05:00Z".parse().unwrap()
    }

    #[test]
    fn a_table_says_why() {
        let (shown, instances) = world();
        let table = table(&shown, &instances, false, false, now());
        assert_eq!(table.to_string(), include_str!("../tests/golden/list.txt"));
    }

    #[test]
    fn a_wide_table_says_all() {
        let (shown, instances) = world();
        let table = table(&shown, &instances, true, true, now());
        assert_eq!(
            table.to_string(),
            include_str!("../tests/golden/list-wide.txt")
        );
    }

    #[test]
    fn instances_of_machines_are_not_shown_twice() {
        let owned = json!({"metadata": {"ownerReferences": [{"kind": "VirtualMachine"}]}});
        let of_a_set = json!({"metadata": {"ownerReferences": [{"kind": "VirtualMachineInstanceReplicaSet"}]}});
        assert!(is_owned(&owned));
        assert!(!is_owned(&of_a_set));
    }

    #[test]
    fn items_of_a_list_get_their_kind() {
        let list =
            json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineList", "items": [{}]});
        assert_eq!(items(list)[0]["kind"], "VirtualMachine");
    }
}
