//! Verbs and answers about machines.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use catamaran_wire::Verb;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::verbs::{self, Options};
use crate::serve::api::answer::{Refusal, picture};
use crate::serve::api::pods::LogQuery;
use crate::serve::daemon::Daemon;
use crate::serve::serial_log;
use crate::serve::store::{Key, Kind};

/// start, stop, restart, pause, unpause, reset, soft-reboot.
pub(super) async fn verb(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name, verb)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let options: Options = if body.is_empty() {
        Options::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| Refusal::bad_request(format!("body: {error}")))?
    };
    let message = verbs::run(&daemon, &namespace, &name, &verb, &options).await?;
    Ok(Json(json!({"message": message})))
}

/// PNG of the screen.
pub(super) async fn screenshot(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let answer = verbs::ask(&daemon, &namespace, &name, Verb::Screenshot).await?;
    picture(&answer)
}

/// Which kernel log.
#[derive(Debug, Deserialize)]
pub(super) struct DmesgQuery {
    #[serde(default)]
    previous: bool,
    tail: Option<u64>,
}

/// The kernel log of the guest, or the stored tail of its last panic.
pub(super) async fn dmesg(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<DmesgQuery>,
) -> Result<Response, Refusal> {
    if query.previous {
        let key = Key::new(Kind::VirtualMachineInstance, &namespace, &name);
        let text = crate::machine::crash_log(&daemon.layout.machine(&key).state())
            .ok_or_else(|| Refusal::not_found(format!("no panic of {name} is on record")))?;
        return Ok(text.into_response());
    }
    let answer = verbs::ask(
        &daemon,
        &namespace,
        &name,
        Verb::Dmesg {
            tail_bytes: query.tail,
        },
    )
    .await?;
    Ok(crate::machine::kernel_log(&answer).into_response())
}

/// What the serial console said.
pub(super) async fn logs(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    let key = Key::new(Kind::VirtualMachineInstance, &namespace, &name);
    let file = serial_log::open(&daemon.layout.machine(&key).run()).map_err(|error| {
        Refusal::not_found(format!(
            "the serial console of {name} has said nothing yet ({error})"
        ))
    })?;
    Ok(Response::new(Body::from_stream(serial_log::stream(
        file,
        query.tail,
        query.follow,
    ))))
}
