//! Objects: apply, list, get, delete; events; the host; down.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::serve::api::answer::Refusal;
use crate::serve::daemon::{Daemon, Shutdown};
use crate::serve::store::{Key, Kind};
use crate::serve::{host, manifest, summary};

/// Manifests to apply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Apply {
    manifests: Vec<Manifest>,
    #[serde(default)]
    dry_run: bool,
}

/// One text.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    name: String,
    text: String,
}

/// Checks all and applies all, or nothing.
pub(super) async fn apply(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<Apply>,
) -> Result<Json<Value>, Refusal> {
    let texts: Vec<(String, Option<PathBuf>, String)> = request
        .manifests
        .into_iter()
        .map(|m| (m.name, None, m.text))
        .collect();
    let documents = manifest::parse(&texts).map_err(|problems| Refusal::invalid(&problems))?;
    let warnings: Vec<String> = documents
        .iter()
        .flat_map(|document| document.warnings.clone())
        .collect();
    let results = if request.dry_run {
        documents.iter().map(|document| json!({"kind": document.key.kind, "namespace": document.key.namespace, "name": document.key.name, "outcome": "checked"})).collect()
    } else {
        daemon.apply(&documents)?
    };
    Ok(Json(json!({"results": results, "warnings": warnings})))
}

/// Which objects a manifest names.
pub(super) async fn keys(Json(request): Json<Manifest>) -> Result<Json<Value>, Refusal> {
    let documents = manifest::read(&request.name, None, &request.text)
        .map_err(|problems| Refusal::invalid(&problems))?;
    let items: Vec<_> = documents.iter().map(|document| &document.key).collect();
    Ok(Json(json!({"items": items})))
}

/// All objects, each with a summary for tables. Secrets are listed without their content.
pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Json<Value> {
    let mut items = Vec::new();
    for kind in Kind::ALL {
        for (key, stored) in daemon.store.list(kind) {
            items.push(summary::with_summary(&daemon.store, &key, stored.object));
        }
    }
    Json(json!({"items": items}))
}

/// One object.
pub(super) async fn get(
    State(daemon): State<Arc<Daemon>>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    let key = key(&kind, &namespace, &name)?;
    let stored = daemon
        .store
        .get(&key)
        .ok_or_else(|| Refusal::not_found(format!("{key} not found")))?;
    Ok(Json(summary::with_summary(
        &daemon.store,
        &key,
        stored.object,
    )))
}

/// What to delete besides the object.
#[derive(Debug, Deserialize)]
pub(super) struct DeleteQuery {
    #[serde(default)]
    volumes: bool,
}

/// Asks for deletion; whoever runs the object removes it when it is down.
pub(super) async fn delete(
    State(daemon): State<Arc<Daemon>>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<Value>, Refusal> {
    let key = key(&kind, &namespace, &name)?;
    daemon.delete(&key, query.volumes)?;
    Ok(Json(json!({"deleted": key})))
}

/// Events of an object, those of a VM's instance among them.
pub(super) async fn events(
    State(daemon): State<Arc<Daemon>>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
) -> Result<Json<Value>, Refusal> {
    let key = key(&kind, &namespace, &name)?;
    let mut items = daemon.events.of(&key);
    if key.kind == Kind::VirtualMachine {
        items.extend(
            daemon
                .events
                .of(&key.with_kind(Kind::VirtualMachineInstance)),
        );
        items.sort_by(|a, b| a.last.cmp(&b.last));
    }
    Ok(Json(
        json!({"items": items, "since": daemon.events.since()}),
    ))
}

/// What this machine can do.
pub(super) async fn host(State(daemon): State<Arc<Daemon>>) -> Json<Value> {
    Json(host::report(Some(&daemon.host)))
}

/// How to go down.
#[derive(Debug, Deserialize)]
pub(super) struct DownRequest {
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    volumes: bool,
}

/// Stops everything and ends the daemon; the answer says what goes on, line by line, and ends with the daemon.
pub(super) async fn down(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<DownRequest>,
) -> Response {
    let lines = daemon.shut_down(Shutdown {
        delete: request.delete,
        volumes: request.volumes,
    });
    let stream =
        futures::StreamExt::map(tokio_stream::wrappers::ReceiverStream::new(lines), |line| {
            Ok::<_, std::convert::Infallible>(line + "\n")
        });
    Response::new(Body::from_stream(stream))
}

/// A key from the parts of a path.
pub(super) fn key(kind: &str, namespace: &str, name: &str) -> Result<Key, Refusal> {
    let kind = Kind::parse(kind)
        .ok_or_else(|| Refusal::not_found(format!("kind {kind:?} is not known here")))?;
    Ok(Key::new(kind, namespace, name))
}
