//! The deploy server as a part of the leader: its certificate, its records, and the label by which its Service finds it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_controller_api::{CertificateError, ServingCertificate, serving_certificate};
use catamaran_deploy_server::{DeployServer, Settings, Template, serve, server_config};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::client::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ledger::SecretLedger;
use crate::args::Args;
use crate::error::{Error, chain};

/// Label of the leader's pod.
const LEADS: &str = "catamaran.dev/leads";
/// Pause after what did not work.
const PAUSE: Duration = Duration::from_secs(1);
/// Age at which the certificate is replaced; agents and BMCs come again.
const CERTIFICATE_AGE: Duration = Duration::from_secs(30 * 86_400);

/// A deploy server that is not served yet.
pub(super) struct Deploying {
    pub(super) server: DeployServer,
    client: Client,
    namespace: String,
    pod: String,
    host: String,
    listen: SocketAddr,
    ledger: Arc<SecretLedger>,
}

impl Deploying {
    /// Waits for the authority and the records.
    ///
    /// # Errors
    /// There can't be one with these arguments; in words that follow "needs the deploy server, and".
    pub(super) async fn prepare(client: &Client, args: &Args) -> Result<Self, String> {
        let url = args.deploy_url.trim_end_matches('/');
        if url.is_empty() {
            return Err("the controller has no --deploy-url (deploy.url of the chart)".to_owned());
        }
        let host = host_of(url)?;
        let template = Template::open(&args.deploy_iso).map_err(|error| chain(&error))?;
        let authority = until("its certificate", async || {
            serving_certificate(client, &args.namespace, &host).await
        });
        let ca = authority.await.authorities;
        let ledger = until("its records", async || {
            SecretLedger::load(client, &args.namespace).await
        });
        let ledger = ledger.await;
        let settings = Settings {
            url: url.to_owned(),
            ca,
            template,
        };
        Ok(Self {
            server: DeployServer::new(settings, ledger.clone()),
            client: client.clone(),
            namespace: args.namespace.clone(),
            pod: args.name.clone(),
            host,
            listen: args.deploy_listen,
            ledger,
        })
    }

    /// Serves until it is dropped. `wake`: the host with this UID has something new.
    pub(super) async fn run(&self, wake: impl Fn(&str)) {
        tokio::join!(
            self.serve(),
            self.ledger.keep(),
            self.label(),
            self.tell(wake)
        );
    }

    async fn serve(&self) {
        loop {
            let served = async || {
                let certificate = self.certificate().await?;
                let config = server_config(&certificate.certificate, &certificate.key)?;
                let listener = TcpListener::bind(self.listen).await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((config, listener))
            };
            let (config, listener) = until("the deploy server", served).await;
            tracing::info!(url = self.server.base(), listen = %self.listen, "the deploy server serves");
            let stop = CancellationToken::new();
            // Connections end with it.
            let _end = stop.clone().drop_guard();
            let serving = serve(self.server.router(), listener, config, stop);
            let _ = tokio::time::timeout(CERTIFICATE_AGE, serving).await;
        }
    }

    async fn certificate(&self) -> Result<ServingCertificate, CertificateError> {
        serving_certificate(&self.client, &self.namespace, &self.host).await
    }

    /// The Service leads to this pod alone: what agents tell, no other replica knows.
    async fn label(&self) {
        until("the label of the leader's pod", async || {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
            let params = ListParams::default().labels(&format!("{LEADS}=true"));
            let labelled = api.list_metadata(&params).await;
            let labelled = labelled.map_err(Error::api("list the pods of the leader"))?;
            let others = labelled.items.iter().map(|pod| pod.name_any());
            let others: Vec<_> = others.filter(|name| *name != self.pod).collect();
            for (name, value) in others
                .iter()
                .map(|name| (name, json!(null)))
                .chain([(&self.pod, json!("true"))])
            {
                let patch = json!({"metadata": {"labels": {LEADS: value}}});
                let params = PatchParams::default();
                let patched = api
                    .patch_metadata(name, &params, &Patch::Merge(&patch))
                    .await;
                match patched.map_err(Error::api(format!("label the pod {name}"))) {
                    Err(error) if error.not_found() && *name != self.pod => {}
                    other => drop(other?),
                }
            }
            Ok::<_, Error>(())
        })
        .await;
    }

    /// Wakes hosts whose agents have told something that matters.
    async fn tell(&self, wake: impl Fn(&str)) {
        let mut changes = self.server.changes();
        let mut known = BTreeMap::new();
        loop {
            let now = self.server.milestones();
            for (host, far) in &now {
                if known.get(host) != Some(far) {
                    wake(host);
                }
            }
            known = now;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Tries until it works.
async fn until<T, E>(what: &str, work: impl AsyncFn() -> Result<T, E>) -> T
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        match work().await {
            Ok(done) => return done,
            Err(error) => {
                let error = error.into();
                tracing::warn!(error = chain(error.as_ref()), "{what} is waited for");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The name or address in a URL, which the certificate is made for.
fn host_of(url: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "its URL '{url}' (--deploy-url, deploy.url of the chart) is wrong: https://ADDRESS:PORT is allowed"
        )
    };
    let place = url.strip_prefix("https://").ok_or_else(wrong)?;
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = port.strip_prefix(':').unwrap_or("443");
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
    if !plain || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_a_url_is_found_and_other_urls_are_refused() {
        for (url, host) in [
            ("https://192.0.2.1:8444", "192.0.2.1"),
            ("https://deploy.example", "deploy.example"),
            ("https://[2001:db8::1]:8444", "2001:db8::1"),
        ] {
            assert_eq!(host_of(url).unwrap(), host);
        }
        for url in [
            "http://192.0.2.1:8444",
            "https://",
            "https://a/b",
            "https://a:x",
            "https://me@a",
            "https://[::1",
        ] {
            assert!(
                host_of(url).unwrap_err().contains("https://ADDRESS:PORT"),
                "{url}"
            );
        }
    }
}
