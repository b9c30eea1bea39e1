//! One connection: its handshake, its protocol, its requests.

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
use axum::http::{HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use catamaran_console::Peer;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::State;
use crate::certificates::{HTTP2, Keys, common_name};
use crate::dispatch;

/// For a client's part of the TLS handshake, and for a request's head.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head on a connection that is kept open between requests.
const IDLE: Duration = Duration::from_secs(300);
/// Requests of one browser at once: more than the lists that its session may follow.
const STREAMS: u32 = 256;
const _: () = assert!(catamaran_console::WATCHES + 50 < STREAMS as usize);
/// After so much silence a browser is asked whether it is still there.
const PING: Duration = Duration::from_secs(60);
/// So long a multiplexed connection takes requests; after as much again it is cut. A browser makes another one without being told.
const AGE: Duration = Duration::from_secs(600);

/// Serves a connection until its end.
pub(super) async fn serve(
    state: &Arc<State>,
    stream: TcpStream,
    from: Peer,
    keys: &Keys,
    shutdown: &CancellationToken,
) {
    let stream = match timeout(HANDSHAKE, handshake(stream, keys)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("a client said nothing"),
    };
    let (_, session) = stream.get_ref();
    let proxy = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .and_then(common_name);
    let multiplexed = session.alpn_protocol() == Some(HTTP2);
    let service = Answering {
        state: state.clone(),
        from,
        proxy: proxy.map(Into::into),
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(HANDSHAKE);
    let builder = if multiplexed {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let old = async {
        if multiplexed {
            sleep(AGE).await;
        } else {
            pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = old => {
            connection.as_mut().graceful_shutdown();
            timeout(AGE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "client connection ended");
    }
}

async fn handshake(stream: TcpStream, keys: &Keys) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let config = if may_be_browser(begun.client_hello().server_name()) {
        &keys.browsers
    } else {
        &keys.server
    };
    begun.into_stream(config.clone()).await
}

/// The API server asks for us by the Service's name: it has a connection for each request that is under way, and so asks all replicas, and
/// none of them holds up what another one was asked. The kubelet asks whether we are ready by the pod's address, which is no name.
fn may_be_browser(name: Option<&str>) -> bool {
    name.is_some_and(|name| !name.ends_with(".svc"))
}

/// Answers the requests of one connection.
struct Answering {
    state: Arc<State>,
    from: Peer,
    /// Name on the certificate that was shown.
    proxy: Option<Arc<str>>,
}

impl Service<hyper::Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        let (state, from, proxy) = (self.state.clone(), self.from, self.proxy.clone());
        let mut request: Request = request.map(Body::new);
        name_host(&mut request);
        Box::pin(async move {
            Ok(if catamaran_console::owns(request.uri().path()) {
                request.extensions_mut().insert(from);
                // Whoever reaches this port; what a front proxy says of him does not matter here.
                state.console.answer(request).await
            } else if request.version() == Version::HTTP_2 {
                let words = "only the console is served over HTTP/2";
                (StatusCode::MISDIRECTED_REQUEST, words).into_response()
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

    #[test]
    fn the_api_server_and_the_kubelet_are_no_browsers() {
        assert!(!may_be_browser(Some("catamaran-api.catamaran-system.svc")));
        assert!(!may_be_browser(None));
        assert!(may_be_browser(Some("localhost")));
        assert!(may_be_browser(Some("console.example.org")));
    }
}
