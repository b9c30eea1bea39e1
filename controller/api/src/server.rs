//! HTTPS: accepts, verifies the front proxy's certificate where one is shown, serves.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use catamaran_console::{Console, Kubernetes, Peer, Settings, Site};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ApiConfig;
use crate::certificates::{Keys, common_name};
use crate::console::SecretVault;
use crate::dispatch;
use crate::identity::RequestHeader;
use crate::node::Nodes;

/// For a client's part of the TLS handshake, and for a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head on a connection that is kept open between requests.
const IDLE: Duration = Duration::from_secs(300);
/// For requests that go on when the end comes; streams are cut.
const GRACE: Duration = Duration::from_secs(5);

/// What every request is given.
pub(crate) struct State {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) nodes: Nodes,
    /// Streams and connections.
    pub(crate) tasks: TaskTracker,
    console: Arc<Console<Kubernetes, SecretVault>>,
    keys: watch::Receiver<Option<Arc<Keys>>>,
}

impl State {
    fn new(config: &ApiConfig, keys: watch::Receiver<Option<Arc<Keys>>>) -> Self {
        let tasks = TaskTracker::new();
        Self {
            client: config.client.clone(),
            namespace: config.namespace.clone(),
            nodes: Nodes::new(
                config.client.clone(),
                config.node_port,
                keys.clone(),
                tasks.clone(),
            ),
            console: Arc::new(Console::new(
                config.console.clone(),
                SecretVault::new(config.client.clone(), &config.namespace),
                Settings {
                    mode: "kubernetes",
                    login: &["token"],
                    oidc: config.oidc.clone(),
                    grafana: config.grafana.clone(),
                    site: Site::Https,
                    namespace: config.namespace.clone(),
                    tasks: tasks.clone(),
                },
            )),
            tasks,
            keys,
        }
    }

    /// Who may name callers.
    pub(crate) fn request_header(&self) -> Option<RequestHeader> {
        self.keys
            .borrow()
            .as_ref()
            .map(|keys| keys.request_header.clone())
    }
}

/// Serves until the end. Begins when there are keys.
pub(crate) async fn run(
    config: &ApiConfig,
    listener: TcpListener,
    mut keys: watch::Receiver<Option<Arc<Keys>>>,
) {
    tokio::select! {
        () = config.shutdown.cancelled() => return,
        ready = keys.wait_for(Option::is_some) => if ready.is_err() { return },
    }
    tracing::info!(address = %config.listen, "the API is served");
    let state = Arc::new(State::new(config, keys.clone()));
    loop {
        let accepted = tokio::select! {
            () = config.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some(current) = keys.borrow().clone() else {
            continue;
        };
        match accepted {
            Ok((stream, from)) => {
                let (state, shutdown) = (state.clone(), config.shutdown.clone());
                state.tasks.clone().spawn(async move {
                    connection(&state, stream, Peer(from.ip()), &current, &shutdown).await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(error = %error, "could not accept a client");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    state.tasks.close();
    let _ = timeout(GRACE, state.tasks.wait()).await;
}

async fn connection(
    state: &Arc<State>,
    stream: TcpStream,
    from: Peer,
    keys: &Keys,
    shutdown: &CancellationToken,
) {
    let stream = match handshake(stream, keys).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(error = %error, "TLS handshake failed");
            return;
        }
    };
    let proxy = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(common_name);
    serve(state, stream, from, proxy, shutdown).await;
}

async fn handshake(stream: TcpStream, keys: &Keys) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(keys.server.clone());
    timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn serve(
    state: &Arc<State>,
    stream: TlsStream<TcpStream>,
    from: Peer,
    proxy: Option<String>,
    shutdown: &CancellationToken,
) {
    let proxy = proxy.as_deref();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let state = state.clone();
        async move {
            let mut request: Request = request.map(Body::new);
            // The answer to a request is larger than a stack frame should be.
            let answer = if catamaran_console::owns(request.uri().path()) {
                request.extensions_mut().insert(from);
                // Whoever reaches this port; what a front proxy says of him does not matter here.
                Box::pin(state.console.answer(request)).await
            } else {
                Box::pin(dispatch::answer(&state, proxy, request)).await
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "client connection ended");
    }
}
