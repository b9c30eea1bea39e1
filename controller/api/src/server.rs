//! HTTPS: accepts, verifies the front proxy's certificate where one is shown, serves.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use catamaran_console::{Console, Kubernetes, Peer, Settings, Site};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ApiConfig;
use crate::certificates::{HTTP2, Keys, common_name};
use crate::console::SecretVault;
use crate::dispatch;
use crate::identity::RequestHeader;
use crate::node::Nodes;

/// For a client's part of the TLS handshake, and for a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After so much silence a multiplexed connection is asked whether its client is still there.
const PING: Duration = Duration::from_secs(60);
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
    let (_, session) = stream.get_ref();
    let proxy = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(common_name);
    let multiplexed = session.alpn_protocol() == Some(HTTP2);
    let first = CancellationToken::new();
    let service = Answering {
        state: state.clone(),
        from,
        proxy: proxy.map(Into::into),
        first: first.clone(),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(HANDSHAKE);
    let builder = if multiplexed {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let silent = async {
        if timeout(IDLE, first.cancelled()).await.is_ok() {
            pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "client connection ended");
    }
}

async fn handshake(stream: TcpStream, keys: &Keys) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(keys.server.clone());
    timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Answers the requests of one connection.
struct Answering {
    state: Arc<State>,
    from: Peer,
    /// Name on the certificate that was shown.
    proxy: Option<Arc<str>>,
    /// Cancelled by the first request.
    first: CancellationToken,
}

impl Service<hyper::Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        self.first.cancel();
        let (state, from, proxy) = (self.state.clone(), self.from, self.proxy.clone());
        let mut request: Request = request.map(Body::new);
        name_host(&mut request);
        Box::pin(async move {
            Ok(if catamaran_console::owns(request.uri().path()) {
                request.extensions_mut().insert(from);
                // Whoever reaches this port; what a front proxy says of him does not matter here.
                state.console.answer(request).await
            } else {
                dispatch::answer(&state, proxy.as_deref(), request).await
            })
        })
    }
}

/// HTTP/2 names the host in the address (RFC 9113, 8.3.1); what looks at it reads the header.
fn name_host(request: &mut Request) {
    let authority = request.uri().authority().map(Authority::as_str);
    if request.version() == Version::HTTP_2
        && let Some(Ok(host)) = authority.map(HeaderValue::try_from)
    {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_multiplexed_request_is_that_of_its_address() {
        let host = |version| {
            let mut request = Request::builder()
                .uri("https://c.example:8443/console/")
                .version(version)
                .header(HOST, "other.example")
                .body(Body::empty())
                .unwrap();
            name_host(&mut request);
            request.headers()[HOST].clone()
        };
        assert_eq!(host(Version::HTTP_2), "c.example:8443");
        assert_eq!(host(Version::HTTP_11), "other.example");
    }
}
