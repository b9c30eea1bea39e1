//! The requests of agents and BMCs.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use catamaran_client::chain;
use catamaran_deploy_wire::{Hello, Inventory, Outcome, POLL_SECONDS, Progress, VERSION, Welcome};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::error::{Denied, DeployError};
use crate::files;
use crate::server::DeployServer;

/// Largest message of an agent: inventories of hosts with hundreds of disks.
const BODY_MAX: usize = 4 << 20;

impl DeployServer {
    /// All requests that it answers.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/deploy/v1/hosts/{host}/session", post(session))
            .route("/deploy/v1/hosts/{host}/inventory", post(inventory))
            .route("/deploy/v1/hosts/{host}/command", get(command))
            .route("/deploy/v1/hosts/{host}/progress", post(progress))
            .route("/deploy/v1/hosts/{host}/outcome", post(outcome))
            .route("/deploy/v1/hosts/{host}/config-drive/{id}", get(drive))
            .route("/deploy/v1/isos/{name}", get(iso))
            .route("/deploy/v1/images/{name}", get(image))
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(self.clone())
    }
}

type Answer = Result<Response<Body>, Denied>;

impl IntoResponse for Denied {
    fn into_response(self) -> Response<Body> {
        let status = match self {
            Self::Session => StatusCode::UNAUTHORIZED,
            _ => StatusCode::FORBIDDEN,
        };
        (status, self.to_string()).into_response()
    }
}

/// The bearer token of a request; empty without one.
fn key(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

async fn session(
    State(server): State<DeployServer>,
    Path(host): Path<String>,
    Json(hello): Json<Hello>,
) -> Answer {
    match server.hello(&host, &hello) {
        Ok(Ok(())) => {
            server.kept().await;
            tracing::info!(
                host,
                boot = hello.boot,
                agent = hello.agent,
                "a deploy agent is there"
            );
            Ok(Json(Welcome { version: VERSION }).into_response())
        }
        Ok(Err(denied)) => {
            tracing::warn!(host, "a deploy agent is not let in: {denied}");
            Err(denied)
        }
        Err(error) => Ok(unkept(&host, &error)),
    }
}

/// The agent tries again.
fn unkept(host: &str, error: &DeployError) -> Response<Body> {
    tracing::error!(host, error = chain(error), "the ledger fails");
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response()
}

async fn inventory(
    State(server): State<DeployServer>,
    Path(host): Path<String>,
    headers: HeaderMap,
    Json(inventory): Json<Inventory>,
) -> Answer {
    server.enter(&host, key(&headers), |host| {
        host.status.inventory = Some(inventory);
    })?;
    server.told();
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

/// Holds the request until there is a command, or long enough.
async fn command(
    State(server): State<DeployServer>,
    Path(host): Path<String>,
    Query(After { after }): Query<After>,
    headers: HeaderMap,
) -> Answer {
    let until = Instant::now() + Duration::from_secs(POLL_SECONDS);
    let mut changes = server.changes();
    loop {
        changes.mark_unchanged();
        let command = server.enter(&host, key(&headers), |host| host.command(after))?;
        if let Some(command) = command {
            return Ok(Json(command).into_response());
        }
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
}

async fn progress(
    State(server): State<DeployServer>,
    Path(host): Path<String>,
    headers: HeaderMap,
    Json(progress): Json<Progress>,
) -> Answer {
    let directive = server.enter(&host, key(&headers), |host| host.progress(progress))?;
    server.told();
    Ok(Json(directive).into_response())
}

async fn outcome(
    State(server): State<DeployServer>,
    Path(host): Path<String>,
    headers: HeaderMap,
    Json(outcome): Json<Outcome>,
) -> Answer {
    let id = outcome.id;
    match server.outcome(&host, key(&headers), outcome) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => tracing::info!(
            host,
            id,
            "an outcome of a command that does not stand any more"
        ),
        Ok(Err(denied)) => return Err(denied),
        Err(error) => return Ok(unkept(&host, &error)),
    }
    // Told once, it is not told again.
    server.kept().await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn drive(
    State(server): State<DeployServer>,
    Path((host, id)): Path<(String, u64)>,
    headers: HeaderMap,
) -> Answer {
    let drive = server.enter(&host, key(&headers), |host| {
        let command = host.status.command.as_ref();
        let stands = command.is_some_and(|command| command.id == id);
        host.config_drive.clone().filter(|_| stands)
    })?;
    Ok(match drive {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn iso(
    State(server): State<DeployServer>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(overlay) = server.iso(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let path = server.template().path();
    // The name is new with each token, so it is the version, too.
    file(files::answer(&method, &headers, path, Some(overlay), &name).await)
}

async fn image(
    State(server): State<DeployServer>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(published) = server.published(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let answer = files::answer(&method, &headers, &published.path, None, &published.version);
    file(answer.await)
}

fn file(answer: io::Result<Response<Body>>) -> Response<Body> {
    answer.unwrap_or_else(|error| {
        tracing::error!("a file can't be served: {error}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}
