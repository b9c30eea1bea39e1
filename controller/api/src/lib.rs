//! The API part of the controller: the aggregated API `subresources.kubevirt.io`, admission, and the certificates of both.
//!
//! ```text
//!  kubectl, virtctl ──▶ API server ──(front proxy, TLS)──▶ serve ─▶ route ─▶ access (SubjectAccessReview) ─┬─▶ machines  (patches VM, VMI)
//!                           │                                                                              ├─▶ instances (node daemon, mTLS)
//!                           └──(webhooks, TLS)──▶ admission                                                ├─▶ streams   (websocket ↔ raw)
//!                                                                                                          └─▶ hosts     (a BMC, read only)
//!  browser ──(TLS)──▶ serve ─▶ the web console (a crate of its own, with the session's own token)
//! ```
//!
//! Every replica serves. The leader alone makes and rotates certificates and signs those of the node daemons. Nothing here is kept between
//! two requests but certificates, and for ten seconds what a BMC has said (sessions of the console are in a Secret and in its users' cookies): a replica can be killed at any time, and only the streams through it end.
//!
//! Architecture invariant: what a request means ([`route()`]) and which right it needs ([`Route::question`]) are pure functions over one
//! table; discovery and OpenAPI are made from the same table.

mod access;
mod admission;
mod answer;
mod certificates;
mod console;
mod discovery;
mod dispatch;
mod hosts;
mod identity;
mod instances;
mod machines;
mod node;
mod objects;
mod openapi;
mod route;
mod server;
mod splice;
mod streams;
mod volumes;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use catamaran_baremetal::Bmcs;
use catamaran_console::{Grafana, Kubernetes, Oidc};
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::Question;
pub use certificates::{CertificateError, ServingCertificate, serving_certificate};
pub use identity::User;
pub use route::{Method, Miss, Route, route};

/// API group of the aggregated API.
pub const GROUP: &str = "subresources.kubevirt.io";
/// Its versions, the preferred one first.
pub const VERSIONS: [&str; 2] = ["v1", "v1alpha3"];
/// Version of the peer whose API this is; its clients compare it with their own.
pub const PEER_VERSION: &str = "v1.9.0";

/// What the API part is given.
#[derive(Clone)]
pub struct ApiConfig {
    /// Speaks as the controller's service account.
    pub client: Client,
    /// Where the API server is, for the web console: its users come with tokens of their own.
    pub console: Kubernetes,
    /// Where its users may log in besides.
    pub oidc: Option<Arc<Oidc>>,
    /// The Grafana that the web console links to.
    pub grafana: Option<Grafana>,
    /// Where we are installed.
    pub namespace: String,
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// Port of the node daemons.
    pub node_port: u16,
    /// The connections to BMCs of this process.
    pub bmcs: Arc<Bmcs>,
    /// Whether this replica leads.
    pub leader: watch::Receiver<bool>,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// The API part cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Serves until it is told to end: certificates first, then requests. Without a reachable API server it waits, and says so in the log.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(config: ApiConfig) -> Result<(), ApiError> {
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .map_err(|source| ApiError::Listen {
            address: config.listen,
            source,
        })?;
    let (publish, keys) = watch::channel(None);
    let keeper = certificates::Keeper::new(&config, publish);
    tokio::join!(
        keeper.run(),
        certificates::signer(&config),
        server::run(&config, listener, keys),
    );
    Ok(())
}
