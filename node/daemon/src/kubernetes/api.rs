//! HTTPS for the aggregated API: verbs, questions and streams of this node's instances.
//!
//! Only the API part of the controller gets in, by its certificate; who may do what was decided there. Metrics are on another port, without TLS.

pub(crate) mod agent;
mod machines;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::kubernetes::certificate::common_name;
use crate::kubernetes::world::World;
use crate::serve::api::answer;
use crate::serve::api::answer::Refusal;
use crate::serve::metrics::{self, Found};

/// Common name of the one client.
const CLIENT: &str = "catamaran-api";
/// Longest handshake.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

fn router(world: Arc<World>) -> Router {
    let path = |rest: &str| {
        format!("/v1/namespaces/{{namespace}}/virtualmachineinstances/{{name}}/{rest}")
    };
    Router::new()
        .route(&path("console"), get(machines::console))
        .route(&path("vnc"), get(machines::vnc))
        .route(&path("vnc/screenshot"), get(machines::screenshot))
        .route(&path("dmesg"), get(machines::dmesg))
        .route(&path("guestosinfo"), get(agent::info))
        .route(&path("userlist"), get(agent::users))
        .route(&path("filesystemlist"), get(agent::filesystems))
        .route(&path("usage"), get(machines::usage))
        .route(&path("viewers"), get(machines::viewers))
        .route(&path("viewers/{viewer}"), put(machines::keyboard))
        .route(&path("{verb}"), put(machines::verb))
        .fallback(answer::no_route)
        .with_state(world)
}

/// Serves for ever, as soon as there is a certificate.
pub async fn serve(
    world: Arc<World>,
    listener: TcpListener,
    certificates: watch::Receiver<Option<Arc<ServerConfig>>>,
) {
    let router = router(world.clone());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let config = certificates.borrow().clone();
                if let Some(config) = config {
                    world
                        .streams
                        .spawn(connection(router.clone(), stream, config));
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a client");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(router: Router, stream: TcpStream, config: Arc<ServerConfig>) {
    let _ = stream.set_nodelay(true);
    let accepted = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(error = %error, "a client was not let in"),
        Err(_) => return tracing::debug!("a client said nothing"),
    };
    let (_, session) = stream.get_ref();
    let name = session
        .peer_certificates()
        .and_then(|chain| common_name(chain.first()?));
    if name.as_deref() != Some(CLIENT) {
        return tracing::warn!(name, "a client with a good certificate is not {CLIENT}");
    }
    let service = TowerToHyperService::new(router);
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(error, "a client's connection ended");
    }
}

/// Serves the metrics for ever.
pub async fn serve_metrics(world: Arc<World>, address: SocketAddr) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(world);
    let served = async { axum::serve(TcpListener::bind(address).await?, router).await };
    if let Err(error) = served.await {
        tracing::error!(%address, error = %error, "metrics are not served");
    }
}

async fn scrape(State(world): State<Arc<World>>) -> Response {
    let mut found = Found::default();
    for (key, entry) in world.machines.all() {
        found.instances.push((key.clone(), entry.instance.phase()));
        if let Some(launcher) = entry.launcher.filter(|launcher| launcher.connected()) {
            found.launchers.push((key, launcher));
        }
    }
    match metrics::render(&world.node, found).await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => Refusal::failed(error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::kubernetes::certificate::tests::Authority;

    async fn ask(authority: &Authority, client: &Authority, name: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(authority.server());
        let router = Router::new().route("/", get(|| async { "in" }));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            connection(router, stream, config).await;
        });
        let (key, certificate) = client.pair(name);
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(authority.pem.as_bytes()).filter_map(Result::ok),
        );
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .filter_map(Result::ok)
            .collect();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                chain,
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let server = ServerName::try_from("n1.node.catamaran.dev").unwrap();
        let Ok(mut stream) = TlsConnector::from(Arc::new(config))
            .connect(server, stream)
            .await
        else {
            return String::new();
        };
        let _ = stream
            .write_all(b"GET / HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n")
            .await;
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    }

    #[tokio::test]
    async fn only_the_api_part_gets_in() {
        let (ours, other) = (Authority::new("ca@1"), Authority::new("ca@1"));
        assert!(ask(&ours, &ours, CLIENT).await.ends_with("in"));
        assert!(!ask(&ours, &ours, "n2").await.contains("in"));
        // The same name, another key.
        assert!(!ask(&ours, &other, CLIENT).await.contains("in"));
    }
}
