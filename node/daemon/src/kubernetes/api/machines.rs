//! Verbs, pictures, kernel logs and streams.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use catamaran_console::Keyboard;
use catamaran_plan::pod::STATE_VOLUME;
use catamaran_wire::{Stream, Verb};
use kube::api::Patch;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::kubernetes::as_daemon;
use crate::kubernetes::frozen;
use crate::kubernetes::instance::Instance;
use crate::kubernetes::world::{World, not_here};
use crate::machine::launcher::{self, LauncherError};
use crate::serve::api::answer::{Refusal, picture};
use crate::serve::api::streams::splice;
use crate::serve::store::{Key, Kind};
use crate::viewers;

/// Header that names whoever looks at a stream: the API part knows.
const USER: &str = "catamaran-user";

/// Namespace and name.
pub(super) type Named = Path<(String, String)>;

/// The key of an instance.
pub(super) fn key(namespace: &str, name: &str) -> Key {
    Key::new(Kind::VirtualMachineInstance, namespace, name)
}

/// pause, unpause, softreboot, reset, freeze, unfreeze. Whether the state allows it was looked at by the API part; the launcher looks again.
pub(super) async fn verb(
    State(world): State<Arc<World>>,
    Path((namespace, name, verb)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let key = key(&namespace, &name);
    let request = match verb.as_str() {
        "pause" => Verb::Pause,
        "unpause" => Verb::Unpause,
        "softreboot" => Verb::SoftReboot,
        "reset" => Verb::Reset,
        "freeze" => {
            let limit = limit(&body)?;
            // It goes on when whoever asked has gone.
            let (answer, answered) = oneshot::channel();
            let shared = world.clone();
            world.streams.spawn(async move {
                let _ = answer.send(freeze(&shared, &key, limit).await);
            });
            let frozen = answered.await;
            frozen.map_err(|_| Refusal::failed("the daemon is ending".to_owned()))??;
            return Ok(StatusCode::OK.into_response());
        }
        "unfreeze" => {
            unfreeze(&world, &key).await?;
            return Ok(StatusCode::OK.into_response());
        }
        other => {
            return Err(Refusal::not_found(format!(
                "verb {other:?} is not known: allowed are pause, unpause, softreboot, reset, freeze and unfreeze"
            )));
        }
    };
    world.machines.ask(&key, request).await?;
    Ok(StatusCode::OK.into_response())
}

/// The mark comes first, so that whoever finds it ends it: a guest that froze after its daemon was killed, or after the agent was given up, too.
async fn freeze(world: &World, key: &Key, limit: Duration) -> Result<(), Refusal> {
    let entry = world.machines.entry(key)?;
    let uid = entry.instance.uid;
    // An agent that can't tell can't freeze, and would never be thawed.
    world.machines.ask(key, frozen::status()).await?;
    world.frozen.set(uid, Instant::now(), limit);
    let frozen = match mark(world, &entry.instance, Some(frozen::STATUS)).await {
        Ok(()) => world.machines.ask(key, frozen::freeze()).await.map(drop),
        Err(error) => Err(error),
    };
    if frozen.is_err() {
        world.frozen.end(uid, Instant::now());
    }
    frozen
}

async fn unfreeze(world: &World, key: &Key) -> Result<(), Refusal> {
    let entry = world.machines.entry(key)?;
    world.machines.ask(key, frozen::thaw()).await?;
    world.frozen.forget(entry.instance.uid);
    mark(world, &entry.instance, None).await
}

/// Writes into the status whether the guest's file systems are frozen.
async fn mark(world: &World, instance: &Instance, frozen: Option<&str>) -> Result<(), Refusal> {
    let patch = json!({
        "metadata": {"uid": instance.uid.to_string()},
        "status": {"fsFreezeStatus": frozen},
    });
    let params = as_daemon();
    let api = world.instances_in(&instance.key.namespace);
    api.patch(&instance.key.name, &params, &Patch::Merge(&patch))
        .await
        .map(drop)
        .map_err(|error| Refusal::failed(format!("writing status.fsFreezeStatus: {error}")))
}

/// `{"unfreezeTimeout": "5m0s"}`, in Go's notation, or nanoseconds; zero = never.
fn limit(body: &Bytes) -> Result<Duration, Refusal> {
    let wrong = |text: &dyn std::fmt::Display| {
        Refusal::bad_request(format!(
            "unfreezeTimeout: {text}; allowed are durations such as 5m0s, up to 24h, and 0s for none"
        ))
    };
    if body.is_empty() {
        return Ok(frozen::LIMIT);
    }
    let body: Value = serde_json::from_slice(body).map_err(|error| wrong(&error))?;
    let given = &body["unfreezeTimeout"];
    let limit = match given {
        Value::Null => Some(frozen::LIMIT),
        Value::Number(nanoseconds) => nanoseconds.as_u64().map(Duration::from_nanos),
        Value::String(text) => go_duration(text),
        _ => None,
    };
    limit
        .filter(|limit| *limit <= frozen::LONGEST)
        .ok_or_else(|| wrong(given))
}

fn go_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    Duration::try_from_secs_f64(total).ok()
}

/// PNG of the screen.
pub(super) async fn screenshot(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Response, Refusal> {
    let answer = world
        .machines
        .ask(&key(&namespace, &name), Verb::Screenshot)
        .await?;
    picture(&answer)
}

/// How much of a kernel log.
#[derive(Debug, Deserialize)]
pub(super) struct DmesgQuery {
    #[serde(default)]
    previous: bool,
    tail: Option<u64>,
}

/// The kernel log of the guest, read from its memory, or the stored tail of its last panic.
pub(super) async fn dmesg(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
    Query(query): Query<DmesgQuery>,
) -> Result<Response, Refusal> {
    let key = key(&namespace, &name);
    if query.previous {
        let entry = world.machines.get(&key).ok_or_else(|| not_here(&key))?;
        // Both are volumes of the pod, side by side.
        let state = entry.run.map(|run| run.with_file_name(STATE_VOLUME));
        let text = state.and_then(|state| crate::machine::crash_log(&state));
        return text
            .map(IntoResponse::into_response)
            .ok_or_else(|| Refusal::not_found(format!("no panic of {name} is on record")));
    }
    let verb = Verb::Dmesg {
        tail_bytes: query.tail,
    };
    let answer = world.machines.ask(&key, verb).await?;
    Ok(crate::machine::kernel_log(&answer).into_response())
}

/// How to look at a stream.
#[derive(Debug, Deserialize)]
pub(super) struct StreamQuery {
    #[serde(default)]
    replay: bool,
    #[serde(default)]
    readonly: bool,
    /// Names this use: it is served once.
    once: Option<String>,
}

/// Serial console.
pub(super) async fn console(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
    Query(query): Query<StreamQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    let stream = Stream::Serial {
        replay: query.replay,
        read_only: query.readonly,
    };
    let once = query.once.as_deref();
    attach(&world, &key(&namespace, &name), stream, once, request).await
}

/// Screen.
pub(super) async fn vnc(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
    Query(query): Query<StreamQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    let stream = Stream::Vnc {
        read_only: query.readonly,
    };
    let once = query.once.as_deref();
    attach(&world, &key(&namespace, &name), stream, once, request).await
}

async fn attach(
    world: &Arc<World>,
    key: &Key,
    stream: Stream,
    once: Option<&str>,
    request: Request,
) -> Result<Response, Refusal> {
    if once.is_some_and(|once| !world.once.take(once, Instant::now())) {
        return Err(Refusal::code(410, "this ticket was used before"));
    }
    let entry = world.machines.get(key).ok_or_else(|| not_here(key))?;
    let user = request.headers().get(USER).map(HeaderValue::as_bytes);
    let user = String::from_utf8_lossy(user.unwrap_or_default()).into_owned();
    let (word, read_only) = viewers::seen(&stream);
    let machine = entry.instance.uid.to_string();
    let looking = world.viewers.enter(&machine, once, &user, word, read_only);
    let run = entry
        .run
        .ok_or_else(|| Refusal::bad_request("VMI is not running"))?;
    let (guest, first) = launcher::attach(&run, stream)
        .await
        .map_err(|error| match error {
            // Clients of the peer try again on 400.
            LauncherError::Refused(refused) => Refusal::bad_request(refused.message),
            other => Refusal::bad_request(catamaran_client::chain(&other)),
        })?;
    splice(&world.streams, request, guest, first, looking)
}

/// What an instance used in the last quarter of an hour.
pub(super) async fn usage(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Response, Refusal> {
    let entry = world.machines.entry(&key(&namespace, &name))?;
    let usage = world
        .usage
        .of(&entry.instance.uid.to_string(), tokio::time::Instant::now());
    Ok(axum::Json(usage).into_response())
}

/// Who looks at an instance.
pub(super) async fn viewers(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Response, Refusal> {
    let entry = world.machines.entry(&key(&namespace, &name))?;
    let viewers = world.viewers.of(&entry.instance.uid.to_string());
    Ok(axum::Json(viewers).into_response())
}

/// What is said of a viewer and the keyboard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    keyboard: Keyboard,
}

/// Asks for the keyboard, or gives it.
pub(super) async fn keyboard(
    State(world): State<Arc<World>>,
    Path((namespace, name, viewer)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let entry = world.machines.entry(&key(&namespace, &name))?;
    let said: Said = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!("keyboard: {error}; allowed are asked, given, none"))
    })?;
    let machine = entry.instance.uid.to_string();
    if !world.viewers.say(&machine, &viewer, said.keyboard) {
        return Err(Refusal::not_found(format!(
            "viewer {viewer:?} does not look at {name}"
        )));
    }
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(go_duration("5m0s"), Some(Duration::from_secs(300)));
        assert_eq!(
            go_duration("1h2m3.5s"),
            Some(Duration::from_millis(3_723_500))
        );
        assert_eq!(go_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(go_duration("soon"), None);
    }

    #[test]
    fn an_absent_limit_is_five_minutes() {
        let limit = |text: &str| limit(&Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!(limit("").unwrap(), frozen::LIMIT);
        assert_eq!(limit("{}").unwrap(), frozen::LIMIT);
        assert_eq!(limit(r#"{"unfreezeTimeout": 0}"#).unwrap(), Duration::ZERO);
        for wrong in [r#""x""#, r#""25h""#, r#""9999999999999999h""#, "-1", "[]"] {
            let said = limit(&format!(r#"{{"unfreezeTimeout": {wrong}}}"#));
            assert!(said.is_err(), "{wrong}");
        }
    }
}
