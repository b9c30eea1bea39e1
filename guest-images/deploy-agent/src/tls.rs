//! HTTPS clients: only the given CA is trusted, no proxy, no redirect followed.

use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Connections that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate in it.
    #[error("the CA is no PEM certificate")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A certificate, but no CA's.
    #[error("the CA can't be used")]
    Ca(#[source] rustls::Error),
    /// The rest.
    #[error("no HTTPS client can be made")]
    Client(#[source] reqwest::Error),
}

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(45);
/// Hops that a request for an image may be sent over.
const REDIRECTS: usize = 5;

/// A client that trusts the CAs in these PEM texts. `redirects`: whether they are followed.
pub(crate) fn client(cas: &[&str], redirects: bool) -> Result<Client, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots
                .add(certificate.map_err(TlsError::Pem)?)
                .map_err(TlsError::Ca)?;
        }
    }
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Ca)?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(config)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(if redirects {
            Policy::limited(REDIRECTS)
        } else {
            Policy::none()
        })
        .no_proxy()
        .http1_only()
        .tcp_keepalive(Duration::from_secs(20))
        .user_agent(concat!(
            "catamaran-deploy-agent/",
            env!("CARGO_PKG_VERSION")
        ))
        .build()
        .map_err(TlsError::Client)
}
