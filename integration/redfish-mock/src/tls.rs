//! Certificates that BMCs show.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::mock::MockError;

/// A certificate with its key.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, in PEM: also the authority that a client has to trust.
    pub pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Certificate(…)")
    }
}

impl Certificate {
    /// A self-signed one for the given host names and addresses.
    ///
    /// # Errors
    /// When a name can't stand in a certificate.
    pub fn self_signed(names: &[&str]) -> Result<Self, MockError> {
        let certificate = |error: rcgen::Error| MockError::Certificate(error.to_string());
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().map_err(certificate)?;
        let signed = CertificateParams::new(names)
            .and_then(|params| params.self_signed(&key))
            .map_err(certificate)?;
        Ok(Self {
            pem: signed.pem(),
            chain: vec![signed.der().clone()],
            key: Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der()).into()),
        })
    }

    /// One from PEM texts.
    ///
    /// # Errors
    /// When a text is not what it should be.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, MockError> {
        let certificate =
            |error: rustls::pki_types::pem::Error| MockError::Certificate(error.to_string());
        let certificates: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        Ok(Self {
            pem: chain.to_owned(),
            chain: certificates.map_err(certificate)?,
            key: Arc::new(PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(certificate)?),
        })
    }

    /// The certificate itself, in DER: what fingerprints are made of.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.chain.first().map(AsRef::as_ref).unwrap_or_default()
    }

    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, MockError> {
        let certificate = |error: rustls::Error| MockError::Certificate(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(certificate)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(certificate)?;
        Ok(Arc::new(config))
    }
}
