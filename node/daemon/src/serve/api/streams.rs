//! Raw streams: consoles, screens, ports.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::response::Response;
use catamaran_wire::Stream;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::http::STREAM;
use crate::machine::launcher;
use crate::machine::verbs;
use crate::serve::api::answer::Refusal;
use crate::serve::daemon::{Daemon, Streams};
use crate::serve::store::{Key, Kind};
use crate::serve::summary;

/// How to look at a console.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsoleQuery {
    #[serde(default)]
    replay: bool,
    #[serde(default)]
    read_only: bool,
}

/// Serial console.
pub(super) async fn console(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<ConsoleQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    attach(
        &daemon,
        &namespace,
        &name,
        Stream::Serial {
            replay: query.replay,
            read_only: query.read_only,
        },
        request,
    )
    .await
}

/// Screen.
pub(super) async fn vnc(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<ConsoleQuery>,
    request: Request,
) -> Result<Response, Refusal> {
    attach(
        &daemon,
        &namespace,
        &name,
        Stream::Vnc {
            read_only: query.read_only,
        },
        request,
    )
    .await
}

/// A port of a guest.
pub(super) async fn machine_port(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name, port)): Path<(String, String, u16)>,
    request: Request,
) -> Result<Response, Refusal> {
    let key = Key::new(Kind::VirtualMachineInstance, &namespace, &name);
    forward(&daemon, &key, port, request).await
}

/// A port of a pod.
pub(super) async fn pod_port(
    State(daemon): State<Arc<Daemon>>,
    Path((namespace, name, port)): Path<(String, String, u16)>,
    request: Request,
) -> Result<Response, Refusal> {
    forward(
        &daemon,
        &Key::new(Kind::Pod, &namespace, &name),
        port,
        request,
    )
    .await
}

async fn attach(
    daemon: &Arc<Daemon>,
    namespace: &str,
    name: &str,
    stream: Stream,
    request: Request,
) -> Result<Response, Refusal> {
    let run = verbs::running(daemon, namespace, name)?;
    let key = Key::new(Kind::VirtualMachineInstance, namespace, name);
    let looking = daemon.looks(&key, None, &stream);
    let (guest, first) = launcher::attach(&run, stream)
        .await
        .map_err(|error| Refusal::bad_request(catamaran_client::chain(&error)))?;
    splice(&daemon.streams, request, guest, first, looking)
}

async fn forward(
    daemon: &Arc<Daemon>,
    key: &Key,
    port: u16,
    request: Request,
) -> Result<Response, Refusal> {
    let stored = daemon
        .store
        .get(key)
        .ok_or_else(|| Refusal::not_found(format!("{key} not found")))?;
    let address: IpAddr = summary::addresses(&stored.object)
        .first()
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| Refusal::bad_request(format!("{key} has no address yet")))?;
    let target = TcpStream::connect((address, port))
        .await
        .map_err(|error| Refusal::bad_request(format!("port {port} of {key}: {error}")))?;
    splice(&daemon.streams, request, target, Vec::new(), ())
}

/// Answers `101`; once the client has switched, copies between it and `other`, which has said `first` already. `held` is kept as long.
pub(crate) fn splice<T>(
    streams: &Streams,
    request: Request,
    mut other: T,
    first: Vec<u8>,
    held: impl Send + 'static,
) -> Result<Response, Refusal>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let wanted = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|word| word == STREAM);
    if !wanted {
        return Err(Refusal::bad_request(format!(
            "this path is a stream: ask with `Upgrade: {STREAM}`"
        )));
    }
    let upgrade = hyper::upgrade::on(request);
    streams.spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut client = TokioIo::new(upgraded);
        if client.write_all(&first).await.is_ok() {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut other).await;
        }
        drop(held);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, STREAM)
        .body(Body::empty())
        .map_err(|error| Refusal::failed(error.to_string()))
}
