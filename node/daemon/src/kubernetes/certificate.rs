//! The daemon's serving key, and whom it lets in.
//!
//! The key is made here and never leaves the node; its certificate is signed by the installation's authority on a CertificateSigningRequest
//! that names this node. Both are kept on disk, so that a daemon that restarts writes nothing to the API server. Clients must show a
//! certificate of the same authority.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::kubernetes::world::World;

/// Our signer.
const SIGNER: &str = "catamaran.dev/node-serving";
/// ConfigMap with the authority's certificates.
const AUTHORITY: &str = "catamaran-ca";
/// Its key.
const AUTHORITY_KEY: &str = "ca.crt";
/// Between two looks while there is something to serve with.
const PERIOD: Duration = Duration::from_secs(300);
/// Between two looks while there is nothing.
const IMPATIENT: Duration = Duration::from_secs(2);
/// Longest wait for a signature, in [`IMPATIENT`]s.
const WAITS: usize = 60;

/// A key or certificate could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The API server said no.
    #[error("{what}")]
    Kube {
        /// What was asked.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Not there yet.
    #[error("{0}")]
    Missing(String),
    /// A key or certificate is wrong.
    #[error("{what}: {message}")]
    Crypto {
        /// Which.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// The key could not be kept.
    #[error("{path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CertificateError {
    fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |error| Self::Kube {
            what,
            source: Box::new(error),
        }
    }

    fn crypto<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Crypto {
            what,
            message: error.to_string(),
        }
    }
}

/// Key and certificate, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    key: String,
    certificate: String,
}

/// Keeps `publish` filled with something to serve with, for ever.
pub async fn run(world: Arc<World>, publish: watch::Sender<Option<Arc<ServerConfig>>>) {
    let mut loaded: Option<(String, Pair)> = None;
    loop {
        match look(&world, &mut loaded).await {
            Ok(Some(config)) => {
                tracing::info!("the serving certificate is loaded");
                publish.send_replace(Some(config));
            }
            Ok(None) => {}
            Err(error @ CertificateError::Missing(_)) => {
                tracing::debug!(error = %error, "consoles are not served yet");
            }
            Err(error) => {
                tracing::warn!(
                    error = catamaran_client::chain(&error),
                    "no serving certificate"
                );
            }
        }
        let pause = if loaded.is_some() { PERIOD } else { IMPATIENT };
        tokio::time::sleep(pause).await;
    }
}

async fn look(
    world: &World,
    loaded: &mut Option<(String, Pair)>,
) -> Result<Option<Arc<ServerConfig>>, CertificateError> {
    let authority = authority(world).await?;
    let folder = world.layout.host().join("tls");
    let pair = match stored(&folder).filter(|pair| good(&pair.certificate, &authority)) {
        Some(pair) => pair,
        None => {
            let pair = signed(world).await?;
            store(&folder, &pair)?;
            pair
        }
    };
    let wanted = (authority, pair);
    if loaded.as_ref() == Some(&wanted) {
        return Ok(None);
    }
    let config = config(&wanted.0, &wanted.1)?;
    *loaded = Some(wanted);
    Ok(Some(Arc::new(config)))
}

async fn authority(world: &World) -> Result<String, CertificateError> {
    let api: Api<ConfigMap> = Api::namespaced(world.client.0.clone(), &world.namespace);
    let map = api
        .get_opt(AUTHORITY)
        .await
        .map_err(CertificateError::kube(format!("ConfigMap {AUTHORITY}")))?;
    map.and_then(|map| map.data?.get(AUTHORITY_KEY).cloned())
        .ok_or_else(|| CertificateError::Missing(format!("ConfigMap {AUTHORITY} is not there yet")))
}

/// A new key and its certificate.
async fn signed(world: &World) -> Result<Pair, CertificateError> {
    let key = KeyPair::generate().map_err(CertificateError::crypto("key"))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, world.node.as_str());
    let request = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(CertificateError::crypto("certificate signing request"))?;
    let api: Api<CertificateSigningRequest> = Api::all(world.client.0.clone());
    let object = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(format!("catamaran-node-{}-", world.node)),
            ..Default::default()
        },
        spec: CertificateSigningRequestSpec {
            signer_name: SIGNER.to_owned(),
            request: ByteString(request.into_bytes()),
            usages: Some(vec![
                "digital signature".to_owned(),
                "server auth".to_owned(),
            ]),
            ..Default::default()
        },
        ..Default::default()
    };
    let failed = || CertificateError::kube("CertificateSigningRequest");
    let made = api
        .create(&PostParams::default(), &object)
        .await
        .map_err(failed())?;
    let name = made.metadata.name.unwrap_or_default();
    for _ in 0..WAITS {
        tokio::time::sleep(IMPATIENT).await;
        let request = api.get_opt(&name).await.map_err(failed())?;
        let status = request
            .and_then(|request| request.status)
            .unwrap_or_default();
        if let Some(certificate) = status.certificate {
            return Ok(Pair {
                key: key.serialize_pem(),
                certificate: String::from_utf8_lossy(&certificate.0).into_owned(),
            });
        }
        let conditions = status.conditions.unwrap_or_default();
        if let Some(no) = conditions
            .iter()
            .find(|condition| ["Denied", "Failed"].contains(&condition.type_.as_str()))
        {
            return Err(CertificateError::Crypto {
                what: "the certificate was refused",
                message: no.message.clone().unwrap_or_default(),
            });
        }
    }
    Err(CertificateError::Missing(format!(
        "request {name} was not signed in time"
    )))
}

fn stored(folder: &Path) -> Option<Pair> {
    Some(Pair {
        key: fs::read_to_string(folder.join("tls.key")).ok()?,
        certificate: fs::read_to_string(folder.join("tls.crt")).ok()?,
    })
}

fn store(folder: &Path, pair: &Pair) -> Result<(), CertificateError> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| CertificateError::Io { path, source })
    };
    fs::create_dir_all(folder).map_err(|source| CertificateError::Io {
        path: folder.to_owned(),
        source,
    })?;
    // A pair that does not fit together is thrown away by the next look.
    write("tls.crt", "")?;
    write("tls.key", &pair.key)?;
    write("tls.crt", &pair.certificate)
}

/// Signed by one of these authorities, and with more than a third of its life left.
fn good(certificate: &str, authority: &str) -> bool {
    let Some(own) = certificates(certificate).into_iter().next() else {
        return false;
    };
    let Ok((_, own)) = X509Certificate::from_der(&own) else {
        return false;
    };
    let issued = certificates(authority).iter().any(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, theirs)| theirs.subject() == own.issuer())
    });
    let validity = own.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    let now = i64::try_from(crate::serve::time::seconds()).unwrap_or(i64::MAX);
    issued && validity.not_after.timestamp() - now > life / 3
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

fn config(authority: &str, pair: &Pair) -> Result<ServerConfig, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(authority));
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(CertificateError::crypto("authority"))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(CertificateError::crypto("key"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CertificateError::crypto("TLS versions"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&pair.certificate), key)
        .map_err(CertificateError::crypto("certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Common name of a client's certificate.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    names.next()?.as_str().ok().map(str::to_owned)
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{BasicConstraints, IsCa, Issuer};

    use super::*;

    /// An authority, and pairs that it has signed.
    pub(crate) struct Authority {
        pub(crate) pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        pub(crate) fn new(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = named(name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self {
                pem,
                issuer: Issuer::new(params, key),
            }
        }

        pub(crate) fn pair(&self, name: &str) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let mut params = named(name);
            params.subject_alt_names = vec![rcgen::SanType::DnsName(
                "n1.node.catamaran.dev".try_into().unwrap(),
            )];
            let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
            (key.serialize_pem(), certificate)
        }

        pub(crate) fn server(&self) -> ServerConfig {
            let (key, certificate) = self.pair("n1");
            config(&self.pem, &Pair { key, certificate }).unwrap()
        }
    }

    fn named(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    #[test]
    fn a_certificate_of_another_authority_is_not_kept() {
        let (ours, other) = (Authority::new("ca@1"), Authority::new("ca@2"));
        let (_, certificate) = ours.pair("n1");
        assert!(good(&certificate, &ours.pem));
        assert!(good(&certificate, &format!("{}{}", other.pem, ours.pem)));
        assert!(!good(&certificate, &other.pem));
        assert!(!good("", &ours.pem));
    }

    #[test]
    fn a_key_is_read_back_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let pair = Pair {
            key: "k".into(),
            certificate: "c".into(),
        };
        store(dir.path(), &pair).unwrap();
        assert_eq!(stored(dir.path()), Some(pair));
        let mode = fs::metadata(dir.path().join("tls.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
