//! The mock's own interface over HTTP: what a [`crate::Handle`] offers, for scripts.
//!
//! | Request | What it does |
//! |---|---|
//! | `GET /bmcs` | all BMCs: name, url, system, uuid, macs, power (as it really is), requests |
//! | `GET /bmcs/NAME` | one of them, with what it booted from, media, sessions, faults |
//! | `PATCH /bmcs/NAME` | changes: `availability` (`up`, `hung`, `gone`), `power` (`true`: somebody pressed the button), `lie`, `timing`, `password`, `health`, `latency_ms` |
//! | `GET /bmcs/NAME/requests` | the requests that are remembered, numbered |
//! | `POST /bmcs/NAME/faults` | adds a fault, such as `{"method": "POST", "path": "Reset", "times": 1, "effect": {"status": {"status": 503}}}` |
//! | `DELETE /bmcs/NAME/faults` | takes all faults away |
//! | `DELETE /bmcs/NAME/sessions` | ends all sessions |
//!
//! It asks for no credentials: let it listen on the loopback only.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::handle::Handle;
use crate::mock::Mock;
use crate::power::{Lie, Timing};
use crate::server::Availability;

/// The interface for a mock.
pub fn router(mock: Arc<Mock>) -> Router {
    Router::new()
        .route("/bmcs", get(list))
        .route("/bmcs/{name}", get(show).patch(change))
        .route("/bmcs/{name}/requests", get(requests))
        .route("/bmcs/{name}/faults", post(add_fault).delete(clear_faults))
        .route("/bmcs/{name}/sessions", delete(end_sessions))
        .with_state(mock)
}

/// There is no such BMC.
struct Missing(String);

impl IntoResponse for Missing {
    fn into_response(self) -> Response {
        let text = format!("there is no BMC '{}'", self.0);
        (StatusCode::NOT_FOUND, Json(json!({"error": text}))).into_response()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    availability: Option<Availability>,
    power: Option<bool>,
    lie: Option<Lie>,
    timing: Option<Timing>,
    password: Option<String>,
    health: Option<String>,
    latency_ms: Option<u64>,
}

fn find(mock: &Mock, name: &str) -> Result<Handle, Missing> {
    mock.bmc(name)
        .cloned()
        .ok_or_else(|| Missing(name.to_owned()))
}

fn summary(handle: &Handle) -> Value {
    let options = &handle.bmc.options;
    json!({
        "name": handle.name(), "url": handle.url(), "system": handle.system(), "uuid": options.uuid.to_string(),
        "serial": options.serial, "macs": options.macs, "power": handle.is_on(), "requests": handle.count(),
    })
}

async fn list(State(mock): State<Arc<Mock>>) -> Json<Value> {
    Json(mock.bmcs().iter().map(summary).collect())
}

async fn show(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Missing> {
    let handle = find(&mock, &name)?;
    let mut shown = summary(&handle);
    shown["boots"] = json!(handle.boots());
    shown["media"] = json!(handle.media());
    shown["sessions"] = json!({"open": handle.open_sessions(), "made": handle.made_sessions()});
    shown["most_in_flight"] = json!(handle.most_in_flight());
    shown["command_error"] = json!(handle.command_error());
    shown["availability"] = json!(*handle.bmc.availability.borrow());
    let state = handle.bmc.state();
    shown["faults"] = json!(state.faults);
    shown["lie"] = json!(state.lie);
    shown["timing"] = json!(state.timing);
    Ok(Json(shown))
}

async fn change(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
    Json(changes): Json<Changes>,
) -> Result<Json<Value>, Missing> {
    let handle = find(&mock, &name)?;
    let Changes {
        availability,
        power,
        lie,
        timing,
        password,
        health,
        latency_ms,
    } = changes;
    if let Some(availability) = availability {
        handle.availability(availability);
    }
    if let Some(power) = power {
        handle.press(power);
    }
    if let Some(lie) = lie {
        handle.lie(lie);
    }
    if let Some(timing) = timing {
        handle.timing(timing);
    }
    if let Some(password) = password {
        handle.password(&password);
    }
    if let Some(health) = health {
        handle.health(&health);
    }
    if let Some(latency_ms) = latency_ms {
        handle.bmc.state().latency_ms = latency_ms;
    }
    Ok(Json(summary(&handle)))
}

async fn requests(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Missing> {
    Ok(Json(json!(find(&mock, &name)?.records())))
}

async fn add_fault(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
    Json(fault): Json<Fault>,
) -> Result<StatusCode, Missing> {
    find(&mock, &name)?.fault(fault);
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Missing> {
    find(&mock, &name)?.clear_faults();
    Ok(StatusCode::NO_CONTENT)
}

async fn end_sessions(
    State(mock): State<Arc<Mock>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Missing> {
    find(&mock, &name)?.end_sessions();
    Ok(StatusCode::NO_CONTENT)
}
