//! Logs of pods.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use bytes::Bytes;
use catamaran_containers::{LogOptions, PodSpec};
use futures::StreamExt as _;
use serde::Deserialize;

use crate::serve::api::answer::Refusal;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// Which part of a log.
#[derive(Debug, Deserialize)]
pub(super) struct LogQuery {
    #[serde(default)]
    pub(super) follow: bool,
    #[serde(default)]
    pub(super) timestamps: bool,
    pub(super) tail: Option<usize>,
    pub(super) container: Option<String>,
}

/// Lines of a container's log.
pub(super) async fn logs(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    let key = Key::new(Kind::Pod, &namespace, &name);
    let stored = daemon
        .store
        .get(&key)
        .ok_or_else(|| Refusal::not_found(format!("{key} not found")))?;
    let pods = daemon
        .pods
        .as_ref()
        .map_err(|reason| Refusal::failed(reason.clone()))?;
    let (spec, _) =
        PodSpec::parse(&stored.object).map_err(|invalid| Refusal::failed(invalid.to_string()))?;
    let options = LogOptions {
        follow: query.follow,
        tail: query.tail,
        ..LogOptions::default()
    };
    let lines = pods
        .runtime
        .logs(&spec, query.container.as_deref(), options)
        .map_err(|error| Refusal::not_found(catamaran_client::chain(&error)))?;
    let bytes = lines.map(move |line| {
        line.map(|line| Bytes::from(line.render(query.timestamps) + "\n"))
            .map_err(|error| std::io::Error::other(catamaran_client::chain(&error)))
    });
    Ok(Response::new(Body::from_stream(bytes)))
}
