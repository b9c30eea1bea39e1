//! Certificates: made when they are missing, replaced long before they end, loaded by every replica.
//!
//! ```text
//!  Secret catamaran-ca ──┬──▶ ConfigMap catamaran-ca (bundle, for daemons)      Secret catamaran-api-tls (serving key, shared by replicas)
//!   authority + bundle   ├──▶ caBundle of APIServices and webhooks                    ▲
//!                        └──▶ signs ────────────────────────────────────────────────┴──▶ daemons' serving certificates, our client certificates
//! ```
//!
//! The leader writes, at once where something that must trust us has changed; every replica reads once a minute. When the authority is
//! replaced, old and new stand in the bundle together, and the bundle is published before anything is signed by the new one.

mod authority;
mod publish;
mod signer;
mod store;
mod trusting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ApiConfig;
use crate::answer::chain;
use crate::identity::RequestHeader;

pub(crate) use authority::{Authority, common_name, node_name};
pub(crate) use signer::run as signer;
pub(crate) use store::labels;

/// HTTP/2's name in a handshake.
pub(crate) const HTTP2: &[u8] = b"h2";
/// Between two looks.
const PERIOD: Duration = Duration::from_secs(60);
/// Between two looks while there is nothing to serve with.
const IMPATIENT: Duration = Duration::from_secs(1);
/// Age at which a replica makes itself a new client certificate.
const CLIENT_AGE: Duration = Duration::from_secs(30 * 86_400);

/// Certificates cannot be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A key or certificate cannot be made or read.
    #[error("{what}")]
    Crypto {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server said no.
    #[error("{what}")]
    Kube {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// Not there yet; the leader makes it.
    #[error("{0} is not there yet")]
    Missing(String),
}

impl CertificateError {
    pub(crate) fn crypto<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Crypto {
            what,
            source: error.into(),
        }
    }

    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |error| Self::Kube {
            what,
            source: Box::new(error),
        }
    }
}

/// What a replica serves and dials with.
pub(crate) struct Keys {
    /// For the API server's calls. A client certificate is asked for; webhooks and probes come without.
    pub(crate) server: Arc<ServerConfig>,
    /// The same for browsers, which may have all their requests on one connection.
    pub(crate) browsers: Arc<ServerConfig>,
    /// For calls to node daemons.
    pub(crate) client: Arc<ClientConfig>,
    /// Who may name callers.
    pub(crate) request_header: RequestHeader,
}

/// What keys are made from; unchanged material means unchanged keys.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Material {
    authority: store::AuthoritySecret,
    serving: store::Pair,
    request_header: RequestHeader,
}

/// What another server of the controller serves with, PEM.
#[derive(Clone)]
pub struct ServingCertificate {
    /// Its certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authorities that its clients have to trust.
    pub authorities: String,
}

/// A new serving certificate of the installation's authority for a DNS name or address. Good for a year.
///
/// # Errors
/// [`CertificateError::Missing`] before the leader has made the authority.
pub async fn serving_certificate(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<ServingCertificate, CertificateError> {
    let stored = store::authority(client, namespace)
        .await?
        .ok_or_else(|| CertificateError::Missing(format!("Secret {}", store::AUTHORITY)))?;
    let pair = Authority::load(&stored.current)?.server(&[name.to_owned()])?;
    Ok(ServingCertificate {
        certificate: pair.certificate,
        key: pair.key,
        authorities: stored.bundle,
    })
}

/// Keeps certificates and publishes keys.
pub(crate) struct Keeper {
    client: Client,
    namespace: String,
    leader: watch::Receiver<bool>,
    shutdown: CancellationToken,
    publish: watch::Sender<Option<Arc<Keys>>>,
}

impl Keeper {
    pub(crate) fn new(config: &ApiConfig, publish: watch::Sender<Option<Arc<Keys>>>) -> Self {
        Self {
            client: config.client.clone(),
            namespace: config.namespace.clone(),
            leader: config.leader.clone(),
            shutdown: config.shutdown.clone(),
            publish,
        }
    }

    /// Until the end.
    pub(crate) async fn run(mut self) {
        let mut loaded: Option<(Material, Instant)> = None;
        let mut trusting = trusting::changes(&self.client);
        loop {
            let leads = *self.leader.borrow_and_update();
            if let Err(error) = self.look(leads, &mut loaded).await {
                match error {
                    CertificateError::Missing(_) => {
                        tracing::debug!(error = chain(&error), "waiting for certificates");
                    }
                    _ => tracing::warn!(error = chain(&error), "certificates are not kept"),
                }
            }
            let pause = if loaded.is_some() { PERIOD } else { IMPATIENT };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.leader.changed() => {}
                Some(()) = trusting.next(), if leads => {
                // Several come together; and whoever writes against us does not make us write without a pause.
                tokio::time::sleep(IMPATIENT).await;
                while trusting.next().now_or_never().flatten().is_some() {}
            }
            }
        }
    }

    async fn look(
        &self,
        leads: bool,
        loaded: &mut Option<(Material, Instant)>,
    ) -> Result<(), CertificateError> {
        if leads {
            publish::keep(&self.client, &self.namespace).await?;
            // API and webhooks do not wait for the console.
            if let Err(error) = crate::console::keep(&self.client, &self.namespace).await {
                tracing::warn!(error = chain(&error), "the web console has no key");
            }
        }
        let material = Material {
            authority: store::authority(&self.client, &self.namespace)
                .await?
                .ok_or_else(|| CertificateError::Missing(format!("Secret {}", store::AUTHORITY)))?,
            serving: store::serving(&self.client, &self.namespace)
                .await?
                .ok_or_else(|| CertificateError::Missing(format!("Secret {}", store::SERVING)))?,
            request_header: store::request_header(&self.client).await?,
        };
        let fresh = loaded
            .as_ref()
            .is_some_and(|(old, made)| *old == material && made.elapsed() < CLIENT_AGE);
        if !fresh {
            let keys = keys(&material)?;
            tracing::info!("certificates loaded");
            self.publish.send_replace(Some(Arc::new(keys)));
            *loaded = Some((material, Instant::now()));
        }
        Ok(())
    }
}

/// TLS configurations from PEM.
fn keys(material: &Material) -> Result<Keys, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut proxies = RootCertStore::empty();
    let roots = material
        .request_header
        .roots()
        .map_err(CertificateError::crypto("front-proxy authority"))?;
    proxies.add_parsable_certificates(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(proxies), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(CertificateError::crypto("front-proxy authority"))?;
    let (chain, key) = parse(&material.serving)?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::crypto("TLS versions"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(CertificateError::crypto("serving certificate"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut browsers = server.clone();
    browsers.alpn_protocols.insert(0, HTTP2.to_vec());

    let authority = Authority::load(&material.authority.current)?;
    let mut daemons = RootCertStore::empty();
    daemons.add_parsable_certificates(certificates(&material.authority.bundle)?);
    let (chain, key) = parse(&authority.client("catamaran-api")?)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::crypto("TLS versions"))?
        .with_root_certificates(daemons)
        .with_client_auth_cert(chain, key)
        .map_err(CertificateError::crypto("client certificate"))?;
    Ok(Keys {
        server: Arc::new(server),
        browsers: Arc::new(browsers),
        client: Arc::new(client),
        request_header: material.request_header.clone(),
    })
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(CertificateError::crypto("certificate"))
}

fn parse(
    pair: &store::Pair,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CertificateError> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(CertificateError::crypto("private key"))?;
    Ok((certificates(&pair.certificate)?, key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Authority, Material, keys, store};
    use crate::identity::RequestHeader;

    #[test]
    fn keys_are_made_from_what_the_authority_signs() {
        let authority = Authority::new().unwrap();
        let data = BTreeMap::from([(
            "requestheader-client-ca-file".to_owned(),
            authority.pair().certificate.clone(),
        )]);
        let material = Material {
            authority: store::AuthoritySecret {
                current: authority.pair().clone(),
                bundle: authority.pair().certificate.clone(),
                version: None,
            },
            serving: authority
                .server(&["catamaran-api.x.svc".to_owned()])
                .unwrap(),
            request_header: RequestHeader::read(&data).unwrap(),
        };
        keys(&material).unwrap();
    }
}
