//! Objects: list, print, describe, delete.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use catamaran_client::{Format, Table, age, segment, text};
use hyper::Method;
use serde_json::{Value, json};

use crate::args::{Delete, Get, Namespace, Object, Ps};
use crate::client::http::{Client, ClientError};
use crate::client::manifests;
use crate::client::names::{self, Named};
use crate::serve::store::Kind;
use crate::serve::time;

/// Path of an object.
#[must_use]
pub fn path(kind: Kind, namespace: &str, name: &str) -> String {
    format!(
        "/v1/objects/{}/{}/{}",
        kind.as_str(),
        segment(namespace),
        segment(name)
    )
}

/// The object that the user means: without a kind a virtual machine, else a pod of that name.
///
/// # Errors
/// When there is none.
pub async fn find(
    client: &Client,
    (kind, name): Named<'_>,
    namespace: &Namespace,
) -> Result<(Kind, Value), ClientError> {
    let candidates: &[Kind] = match &kind {
        Some(kind) => std::slice::from_ref(kind),
        None => &[
            Kind::VirtualMachine,
            Kind::VirtualMachineInstance,
            Kind::Pod,
        ],
    };
    let mut first_error = None;
    for kind in candidates {
        match client
            .json(Method::GET, &path(*kind, &namespace.namespace, name), None)
            .await
        {
            Ok(value) => return Ok((*kind, value)),
            Err(error @ ClientError::Refused { code: 404, .. }) => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_error.unwrap_or_else(|| ClientError::Usage(format!("{name:?} not found"))))
}

/// `ps`.
///
/// # Errors
/// When there is no daemon.
pub async fn ps(client: &Client, args: &Ps) -> Result<(), ClientError> {
    let mut all: Value = client.json(Method::GET, "/v1/objects", None).await?;
    let mut items: Vec<Value> = all["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    items.retain(|item| {
        args.namespace
            .as_deref()
            .is_none_or(|wanted| item["metadata"]["namespace"] == wanted)
    });
    let owned_instance = |item: &Value| {
        item["kind"] == "VirtualMachineInstance" && item["metadata"]["ownerReferences"].is_array()
    };
    items.retain(|item| {
        ["VirtualMachine", "VirtualMachineInstance", "Pod"]
            .contains(&item["kind"].as_str().unwrap_or_default())
            && !owned_instance(item)
    });
    let format = args.output.format.unwrap_or_default();
    if let Some(text) = format
        .print(&json!({"apiVersion": "v1", "kind": "List", "items": items}))
        .map_err(|error| ClientError::Usage(error.to_string()))?
    {
        return say(&text);
    }
    if format == Format::Name {
        return say(&items
            .iter()
            .map(|item| {
                format!(
                    "{}/{}\n",
                    item["kind"].as_str().unwrap_or_default().to_lowercase(),
                    text(&item["metadata"]["name"])
                )
            })
            .collect::<String>());
    }
    let mut heads = vec![
        "KIND",
        "NAMESPACE",
        "NAME",
        "STATUS",
        "READY",
        "RESTARTS",
        "IP",
        "AGE",
    ];
    if format == Format::Wide {
        heads.extend(["STRATEGY", "CPUS", "MEMORY", "REASON"]);
    }
    let mut table = Table::new(&heads);
    for item in &items {
        let summary = &item["summary"];
        let kind = match item["kind"].as_str() {
            Some("VirtualMachine") => "vm",
            Some("VirtualMachineInstance") => "vmi",
            _ => "pod",
        };
        let mut row = vec![
            kind.to_owned(),
            text(&item["metadata"]["namespace"]),
            text(&item["metadata"]["name"]),
            text(&summary["status"]),
            text(&summary["ready"]),
            text(&summary["restarts"]),
            text(&summary["ip"]),
            age_of(&item["metadata"]["creationTimestamp"]),
        ];
        if format == Format::Wide {
            row.extend(["strategy", "cpus", "memory", "reason"].map(|field| text(&summary[field])));
        }
        table.row(row);
    }
    if table.is_empty() {
        eprintln!("Nothing runs here.");
        return Ok(());
    }
    say(&table.to_string())
}

/// `get`.
///
/// # Errors
/// When there is no such object.
pub async fn get(client: &Client, args: &Get) -> Result<(), ClientError> {
    let (kind, object) = find(client, args.object.named()?, &args.object.namespace).await?;
    match args.output.format.unwrap_or(Format::Yaml) {
        Format::Name => say(&format!(
            "{}/{}\n",
            kind.as_str().to_lowercase(),
            text(&object["metadata"]["name"])
        )),
        format => {
            let format = if matches!(format, Format::Json) {
                Format::Json
            } else {
                Format::Yaml
            };
            say(&format
                .print(&object)
                .map_err(|error| ClientError::Usage(error.to_string()))?
                .unwrap_or_default())
        }
    }
}

/// `describe`.
///
/// # Errors
/// When there is no such object.
pub async fn describe(client: &Client, args: &Object) -> Result<(), ClientError> {
    let (kind, object) = find(client, args.named()?, &args.namespace).await?;
    let (namespace, name) = (
        text(&object["metadata"]["namespace"]),
        text(&object["metadata"]["name"]),
    );
    let mut out = format!(
        "Name:       {name}\nNamespace:  {namespace}\nKind:       {}\n",
        kind.as_str()
    );
    for field in ["uid", "creationTimestamp"] {
        out.push_str(&format!(
            "{:<12}{}\n",
            format!("{}:", if field == "uid" { "UID" } else { "Created" }),
            text(&object["metadata"][field])
        ));
    }
    let mut shown = vec![object.clone()];
    if kind == Kind::VirtualMachine
        && let Ok(instance) = client
            .json::<Value>(
                Method::GET,
                &path(Kind::VirtualMachineInstance, &namespace, &name),
                None,
            )
            .await
    {
        shown.push(instance);
    }
    for object in &shown {
        let status = &object["status"];
        let own = &status["catamaran"];
        out.push_str(&format!("\n{}\n", text(&object["kind"])));
        for (label, field) in [
            ("Status", "printableStatus"),
            ("Phase", "phase"),
            ("Message", "message"),
            ("Reason", "reason"),
            ("Node", "nodeName"),
            ("Pod IP", "podIP"),
            ("Restarts", "restarts"),
            ("Last end", "lastEnd"),
        ] {
            let value = [&status[field], &own[field]]
                .into_iter()
                .find(|value| !value.is_null());
            if let Some(value) = value {
                out.push_str(&format!("  {:<12}{}\n", format!("{label}:"), text(value)));
            }
        }
        for interface in status["interfaces"].as_array().into_iter().flatten() {
            let addresses: Vec<_> = interface["ipAddresses"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect();
            out.push_str(&format!(
                "  Interface:  {} {} {}\n",
                text(&interface["name"]),
                text(&interface["mac"]),
                addresses.join(" ")
            ));
        }
        let mut conditions = Table::new(&["  CONDITION", "STATUS", "REASON", "MESSAGE"]);
        for condition in status["conditions"].as_array().into_iter().flatten() {
            conditions.row([
                format!("  {}", text(&condition["type"])),
                text(&condition["status"]),
                text(&condition["reason"]),
                text(&condition["message"]),
            ]);
        }
        if !conditions.is_empty() {
            out.push_str(&conditions.to_string());
        }
    }
    let events: Value = client
        .json(
            Method::GET,
            &format!(
                "/v1/events/{}/{}/{}",
                kind.as_str(),
                segment(&namespace),
                segment(&name)
            ),
            None,
        )
        .await?;
    let mut table = Table::new(&["  AGE", "TYPE", "REASON", "COUNT", "MESSAGE"]);
    for event in events["items"].as_array().into_iter().flatten() {
        table.row([
            format!("  {}", age_of(&event["last"])),
            text(&event["type"]),
            text(&event["reason"]),
            text(&event["count"]),
            text(&event["message"]),
        ]);
    }
    let since = text(&events["since"]);
    out.push_str(&format!("\nEvents since the daemon started at {since}"));
    if table.is_empty() {
        out.push_str(":  <none>\n");
    } else {
        out.push_str(&format!("\n{table}"));
    }
    say(&out)
}

/// `ip`.
///
/// # Errors
/// When there is no such object or it has no address yet.
pub async fn ip(client: &Client, args: &Object) -> Result<(), ClientError> {
    let (_, object) = find(client, args.named()?, &args.namespace).await?;
    let addresses: Vec<String> = object["summary"]["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect();
    if addresses.is_empty() {
        return Err(ClientError::Usage(format!(
            "{} has no address yet (status {})",
            text(&object["metadata"]["name"]),
            text(&object["summary"]["status"])
        )));
    }
    say(&(addresses.join("\n") + "\n"))
}

/// `delete`.
///
/// # Errors
/// When an object is not there or may not be deleted.
pub async fn delete(client: &Client, args: &Delete) -> Result<(), ClientError> {
    let mut wanted = Vec::new();
    for named in names::several(&args.names)? {
        let (kind, object) = find(client, named, &args.namespace).await?;
        wanted.push((
            kind,
            text(&object["metadata"]["namespace"]),
            text(&object["metadata"]["name"]),
        ));
    }
    for manifest in manifests::read(&args.files)? {
        let keys: Value = client
            .json(
                Method::POST,
                "/v1/keys",
                Some(&json!({"name": manifest.name, "text": manifest.text})),
            )
            .await?;
        for key in keys["items"].as_array().into_iter().flatten() {
            if let Some(kind) = key["kind"].as_str().and_then(Kind::parse) {
                wanted.push((kind, text(&key["namespace"]), text(&key["name"])));
            }
        }
    }
    let query = if args.volumes { "?volumes=true" } else { "" };
    for group in in_order(wanted) {
        for (kind, namespace, name) in &group {
            match client
                .json::<Value>(
                    Method::DELETE,
                    &format!("{}{query}", path(*kind, namespace, name)),
                    None,
                )
                .await
            {
                Ok(_) => say(&format!(
                    "{}/{name} deleted\n",
                    kind.as_str().to_lowercase()
                ))?,
                Err(ClientError::Refused { code: 404, .. }) if !args.files.is_empty() => {}
                Err(error) => return Err(error),
            }
        }
        if !args.no_wait {
            for (kind, namespace, name) in &group {
                gone(client, *kind, namespace, name).await?;
            }
        }
    }
    Ok(())
}

/// An object to delete: kind, namespace, name.
type Wanted = (Kind, String, String);

/// What runs, and what is deleted when that is gone: a claim under a machine is refused.
fn in_order(wanted: Vec<Wanted>) -> [Vec<Wanted>; 2] {
    let (runs, rests) = wanted.into_iter().partition(|(kind, ..)| kind.runs());
    [runs, rests]
}

/// Waits until an object is gone.
async fn gone(client: &Client, kind: Kind, namespace: &str, name: &str) -> Result<(), ClientError> {
    loop {
        match client
            .json::<Value>(Method::GET, &path(kind, namespace, name), None)
            .await
        {
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(ClientError::Refused { code: 404, .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Writes to standard output.
///
/// # Errors
/// When it can't be written.
pub fn say(text: &str) -> Result<(), ClientError> {
    catamaran_client::say(text).map_err(ClientError::io("standard output"))
}

fn age_of(timestamp: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    match timestamp.as_str().and_then(time::parse) {
        Some(then) => age(now.saturating_sub(then)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_deleted_before_what_it_runs_on() {
        let wanted = |kind: Kind| (kind, "default".to_owned(), "a".to_owned());
        let mut all = Kind::ALL.map(wanted);
        for _ in 0..2 {
            let [runs, rests] = in_order(all.to_vec());
            assert!(runs.contains(&wanted(Kind::VirtualMachine)));
            assert!(rests.contains(&wanted(Kind::PersistentVolumeClaim)));
            assert_eq!(runs.len() + rests.len(), all.len());
            all.reverse();
        }
    }
}
