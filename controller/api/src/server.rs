//! HTTPS: accepts, verifies the front proxy's certificate where one is shown, serves.

mod connection;

use std::sync::Arc;
use std::time::Duration;

use catamaran_baremetal::Readings;
use catamaran_console::{Console, Kubernetes, Peer, Settings, Site};
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::ApiConfig;
use crate::certificates::Keys;
use crate::console::SecretVault;
use crate::hosts;
use crate::identity::RequestHeader;
use crate::node::Nodes;

/// For requests that go on when the end comes; streams are cut.
const GRACE: Duration = Duration::from_secs(5);

/// What every request is given.
pub(crate) struct State {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) nodes: Nodes,
    pub(crate) readings: Arc<Readings>,
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
            readings: Arc::new(Readings::new(config.bmcs.clone())),
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
    tokio::join!(
        accept(config, &listener, &keys, &state),
        hosts::tidy(&state.readings, &config.shutdown),
    );
    state.tasks.close();
    let _ = timeout(GRACE, state.tasks.wait()).await;
}

async fn accept(
    config: &ApiConfig,
    listener: &TcpListener,
    keys: &watch::Receiver<Option<Arc<Keys>>>,
    state: &Arc<State>,
) {
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
                    connection::serve(&state, stream, Peer(from.ip()), &current, &shutdown).await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to come back.
                tracing::warn!(error = %error, "could not accept a client");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
