//! The node daemons, over mutual TLS: plain requests and raw streams.
//!
//! A daemon is dialled at its node's internal address and must show a certificate for that node's name, made by our signer, so that
//! nothing else on a node's network can stand in for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::core::Status;
use kube::{Api, Client};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::answer::{Refusal, chain};
use crate::certificates::{Keys, node_name};

/// Word of the `Upgrade` header for raw streams.
const STREAM: &str = "catamaran-stream";
/// Header that tells a daemon who looks at a stream.
const USER: &str = "catamaran-user";
/// Until a daemon is reached.
const CONNECT: Duration = Duration::from_secs(10);
/// Until a daemon begins to answer; a guest agent may take its time.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest refusal that is read, bytes.
const REFUSAL_BYTES: usize = 64 * 1024;

/// The daemons.
#[derive(Clone)]
pub(crate) struct Nodes {
    client: Client,
    port: u16,
    keys: watch::Receiver<Option<Arc<Keys>>>,
    tasks: TaskTracker,
}

impl Nodes {
    pub(crate) fn new(
        client: Client,
        port: u16,
        keys: watch::Receiver<Option<Arc<Keys>>>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            client,
            port,
            keys,
            tasks,
        }
    }

    /// A request whose answer goes to the caller as it comes; refusals are the daemon's.
    pub(crate) async fn ask(
        &self,
        node: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response, Refusal> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, node)
            .body(Full::new(body));
        let response = self.send(node, request).await?;
        let (parts, body) = accept(node, response).await?.into_parts();
        let mut answer = Response::new(Body::new(body));
        *answer.status_mut() = parts.status;
        if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
            answer.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        Ok(answer)
    }

    /// A raw stream, for a user.
    pub(crate) async fn stream(
        &self,
        node: &str,
        path: &str,
        user: &str,
    ) -> Result<TokioIo<Upgraded>, Refusal> {
        let user = HeaderValue::from_bytes(user.as_bytes()).map_err(|e| failed(node, &e))?;
        let request = Request::builder()
            .header(USER, user)
            .method(Method::GET)
            .uri(path)
            .header(HOST, node)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, STREAM)
            .body(Full::new(Bytes::new()));
        let response = self.send(node, request).await?;
        let response = accept(node, response).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::internal(format!(
                "the daemon of node {node} answered {} to a stream",
                response.status()
            )));
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|error| failed(node, &error))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn send(
        &self,
        node: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<hyper::Response<Incoming>, Refusal> {
        let request = request.map_err(|error| failed(node, &error))?;
        let mut sender = match timeout(CONNECT, self.connect(node)).await {
            Ok(connected) => connected?,
            Err(_) => {
                return Err(Refusal::internal(format!(
                    "dialing the daemon of node {node}: no answer within {} s",
                    CONNECT.as_secs()
                )));
            }
        };
        match timeout(ANSWER, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| failed(node, &error)),
            Err(_) => Err(Refusal::internal(format!(
                "the daemon of node {node} did not answer within {} s",
                ANSWER.as_secs()
            ))),
        }
    }

    async fn connect(&self, node: &str) -> Result<http1::SendRequest<Full<Bytes>>, Refusal> {
        let address = self.address(node).await?;
        let keys = self
            .keys
            .borrow()
            .clone()
            .ok_or_else(|| Refusal::internal("certificates are not made yet"))?;
        let name = ServerName::try_from(node_name(node)).map_err(|error| failed(node, &error))?;
        let stream = TcpStream::connect((address.as_str(), self.port))
            .await
            .map_err(|error| failed(node, &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| failed(node, &error))?;
        let stream = TlsConnector::from(keys.client.clone())
            .connect(name, stream)
            .await
            .map_err(|error| failed(node, &error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(node, &error))?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(error = %error, "connection to a daemon ended");
            }
        });
        Ok(sender)
    }

    /// Internal address of a node.
    async fn address(&self, node: &str) -> Result<String, Refusal> {
        let nodes = Api::<Node>::all(self.client.clone());
        let found = nodes.get_opt(node).await?;
        let addresses = found
            .and_then(|n| n.status)
            .and_then(|s| s.addresses)
            .unwrap_or_default();
        addresses
            .into_iter()
            .find(|a| a.type_ == "InternalIP")
            .map(|a| a.address)
            .ok_or_else(|| {
                Refusal::internal(format!("node {node} is not there, or has no InternalIP"))
            })
    }
}

fn failed(node: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::internal(format!(
        "dialing the daemon of node {node}: {}",
        chain(error)
    ))
}

/// The answer, or the refusal that it is.
async fn accept(
    node: &str,
    response: hyper::Response<Incoming>,
) -> Result<hyper::Response<Incoming>, Refusal> {
    let code = response.status();
    if !code.is_client_error() && !code.is_server_error() {
        return Ok(response);
    }
    let body = Limited::new(response.into_body(), REFUSAL_BYTES)
        .collect()
        .await
        .map_err(|error| failed(node, &io::Error::other(error)))?
        .to_bytes();
    Err(match serde_json::from_slice::<Status>(&body) {
        Ok(mut status) if !status.message.is_empty() => {
            status.code = code.as_u16();
            Refusal(status.boxed())
        }
        _ => Refusal::internal(format!("the daemon of node {node} answered {code}")),
    })
}
