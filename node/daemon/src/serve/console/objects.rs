//! The stored objects in the shapes of Kubernetes: lists and watches.
//!
//! The store has one counter for all its changes, which stands for the resource version. A watch begins where its list was made, or is told
//! to list again.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use catamaran_console::{Failure, Place};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// The key of one object of a kind that is stored here.
pub(super) fn key(place: &Place) -> Option<Key> {
    let kind = Kind::parse(place.kind.plural)?;
    let (namespace, name) = (place.namespace.as_ref()?, place.name.as_ref()?);
    Some(Key::new(kind, namespace.as_str(), name.as_str()))
}

/// One object.
pub(super) fn get(daemon: &Daemon, place: &Place) -> Result<Value, Failure> {
    let found = key(place).and_then(|key| daemon.store.get(&key));
    found.map(|stored| stored.object).ok_or_else(|| {
        let name = place.name.as_ref().map(ToString::to_string);
        let name = name.unwrap_or_default();
        Failure::new(404, format!("{} {name:?} not found", place.kind.plural))
    })
}

/// A list with the version that a watch begins at.
pub(super) fn list(daemon: &Daemon, place: &Place) -> Value {
    // Before the objects: a change between the two is told again.
    let version = *daemon.store.subscribe().borrow();
    let items: Vec<_> = objects(daemon, place).into_values().collect();
    json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string()}, "items": items,
    })
}

/// Objects of a collection by namespace and name.
fn objects(daemon: &Daemon, place: &Place) -> BTreeMap<(String, String), Value> {
    let wanted = |namespace: &str| {
        let only = place.namespace.as_ref();
        only.is_none_or(|only| only.as_str() == namespace)
    };
    match place.kind.plural {
        "namespaces" => namespaces(daemon),
        "events" => events(daemon, wanted),
        // Machines have no launcher pods here.
        "pods" => BTreeMap::new(),
        plural => match Kind::parse(plural) {
            Some(kind) => daemon
                .store
                .list(kind)
                .into_iter()
                .filter(|(key, _)| wanted(&key.namespace))
                .map(|(key, stored)| ((key.namespace, key.name), stored.object))
                .collect(),
            None => BTreeMap::new(),
        },
    }
}

fn namespaces(daemon: &Daemon) -> BTreeMap<(String, String), Value> {
    let keys = Kind::ALL
        .into_iter()
        .flat_map(|kind| daemon.store.list(kind));
    let mut names: BTreeSet<_> = keys.map(|(key, _)| key.namespace).collect();
    names.insert("default".to_owned());
    names
        .into_iter()
        .map(|name| {
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
            });
            ((String::new(), name), object)
        })
        .collect()
}

fn events(daemon: &Daemon, wanted: impl Fn(&str) -> bool) -> BTreeMap<(String, String), Value> {
    let mut found = BTreeMap::new();
    for kind in [Kind::VirtualMachine, Kind::VirtualMachineInstance] {
        for (key, _) in daemon.store.list(kind) {
            if !wanted(&key.namespace) {
                continue;
            }
            for (number, event) in daemon.events.of(&key).into_iter().enumerate() {
                let name = format!("{}.{}.{number}", key.name, kind.short());
                let object = json!({
                    "apiVersion": "v1", "kind": "Event",
                    "metadata": {"namespace": key.namespace, "name": name},
                    "involvedObject": {"kind": kind.as_str(), "namespace": key.namespace, "name": key.name},
                    "type": event.kind, "reason": event.reason, "message": event.message,
                    "count": event.count, "firstTimestamp": event.first, "lastTimestamp": event.last,
                });
                found.insert((key.namespace.clone(), name), object);
            }
        }
    }
    found
}

/// The changes of a collection, a line of JSON each.
pub(super) fn watch(daemon: Arc<Daemon>, place: Place, version: u64) -> Body {
    let mut changed = daemon.store.subscribe();
    let at = *changed.borrow_and_update();
    let known = objects(&daemon, &place);
    if at != version || *changed.borrow() != at {
        return Body::from(line("ERROR", &expired()));
    }
    let state = Watch {
        daemon,
        place,
        known,
        changed,
    };
    Body::from_stream(stream::unfold(state, async |mut state| {
        let lines = state.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), state))
    }))
}

struct Watch {
    daemon: Arc<Daemon>,
    place: Place,
    known: BTreeMap<(String, String), Value>,
    changed: watch::Receiver<u64>,
}

impl Watch {
    /// Lines of the next change; nothing when the store has ended.
    async fn next(&mut self) -> Option<String> {
        self.changed.changed().await.ok()?;
        let version = *self.changed.borrow_and_update();
        let now = objects(&self.daemon, &self.place);
        let lines = difference(&self.known, &now, version);
        self.known = now;
        Some(lines)
    }
}

/// What has changed, and the version that it has come to.
fn difference(
    before: &BTreeMap<(String, String), Value>,
    now: &BTreeMap<(String, String), Value>,
    version: u64,
) -> String {
    let mut lines = String::new();
    for (key, object) in now {
        match before.get(key) {
            None => lines.push_str(&line("ADDED", object)),
            Some(old) if old != object => lines.push_str(&line("MODIFIED", object)),
            Some(_) => {}
        }
    }
    for (_, object) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
        lines.push_str(&line("DELETED", object));
    }
    let bookmark = json!({"metadata": {"resourceVersion": version.to_string()}});
    lines.push_str(&line("BOOKMARK", &bookmark));
    lines
}

fn line(kind: &str, object: &Value) -> String {
    json!({"type": kind, "object": object}).to_string() + "\n"
}

/// As the API server says it: list again.
fn expired() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "something has changed since the list was made: list again",
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::difference;

    #[test]
    fn a_change_is_what_kubernetes_calls_it() {
        let objects = |list: &[(&str, u32)]| -> BTreeMap<(String, String), Value> {
            list.iter()
                .map(|(name, n)| {
                    let key = ("default".to_owned(), (*name).to_owned());
                    (key, json!({"metadata": {"name": name}, "n": n}))
                })
                .collect()
        };
        let lines = difference(
            &objects(&[("gone", 1), ("same", 1), ("other", 1)]),
            &objects(&[("same", 1), ("other", 2), ("new", 1)]),
            7,
        );
        let said: Vec<_> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|change| {
                let kind = change["type"].as_str().unwrap().to_owned();
                let name = change["object"]["metadata"]["name"].clone();
                (kind, name)
            })
            .collect();
        assert_eq!(
            said,
            [
                ("ADDED".to_owned(), json!("new")),
                ("MODIFIED".to_owned(), json!("other")),
                ("DELETED".to_owned(), json!("gone")),
                ("BOOKMARK".to_owned(), Value::Null),
            ]
        );
        assert!(lines.ends_with(
            "{\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}},\"type\":\"BOOKMARK\"}\n"
        ));
    }
}
