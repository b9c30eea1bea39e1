//! Whether a BMC's certificate is trusted: by public authorities, an authority of one's own, a pinned fingerprint, or not at all.
//!
//! TLS 1.2 and 1.3 only, and no keys that rustls thinks weak, in the verifying modes: where a BMC has nothing better, its fingerprint can be
//! pinned, which does not look at names, dates or authorities.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// SHA-256 of a certificate in DER: what `openssl x509 -fingerprint -sha256` prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Text that is no SHA-256 fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "certificate fingerprint: '{0}' is not SHA-256 as 64 hexadecimal digits, with or without colons"
)]
pub struct FingerprintError(String);

/// Which certificates of a BMC are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Trust {
    /// Those of the authorities this machine trusts.
    #[default]
    Public,
    /// Those of these authorities (certificates in PEM).
    Authority(Vec<u8>),
    /// The one with this fingerprint, whatever it says of itself.
    Pinned(Fingerprint),
    /// Any. Whoever stands between reads the password.
    Insecure,
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let error = || FingerprintError(text.to_owned());
        let plain = text.trim();
        let plain = plain
            .strip_prefix("sha256:")
            .or_else(|| plain.strip_prefix("SHA256:"))
            .unwrap_or(plain);
        let digits: Vec<u32> = plain
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).ok_or_else(error))
            .collect::<Result<_, _>>()?;
        if digits.len() != 64 {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte =
                u8::try_from(pair[0] * 16 + pair[1]).expect("two hexadecimal digits are a byte");
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(formatter, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// The settings for TLS that this trust asks for. Where this machine trusts no authority at all, no certificate passes for [`Trust::Public`]; BMCs
/// without TLS are reached all the same.
pub(crate) fn config(trust: &Trust) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let settings = |error: &dyn fmt::Display| Error::Settings(error.to_string());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(&error))?;
    let pinned = match trust {
        Trust::Public => {
            let mut roots = RootCertStore::empty();
            // One that rustls does not understand is none of ours.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        Trust::Authority(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| settings(&error))?;
                roots.add(certificate).map_err(|error| settings(&error))?;
            }
            if roots.is_empty() {
                return Err(Error::Settings(
                    "the CA has no certificate in PEM".to_owned(),
                ));
            }
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        Trust::Pinned(fingerprint) => Some(*fingerprint),
        Trust::Insecure => None,
    };
    let verifier = Arc::new(ByFingerprint { pinned, provider });
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Accepts the certificate with the pinned fingerprint, or any.
#[derive(Debug)]
struct ByFingerprint {
    pinned: Option<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

/// The BMC showed another certificate than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate's fingerprint is {found}, not the pinned {pinned}")]
struct OtherCertificate {
    pinned: Fingerprint,
    found: Fingerprint,
}

impl ByFingerprint {
    /// Without this anybody could show the pinned certificate without having its key.
    fn prove(
        &self,
        verify: impl FnOnce(
            &WebPkiSupportedAlgorithms,
        ) -> Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.pinned.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify(&self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint::of(end_entity);
        match self.pinned {
            Some(pinned) if pinned != found => {
                let error = OtherCertificate { pinned, found };
                Err(CertificateError::Other(OtherError(Arc::new(error))).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(|algorithms| verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.prove(|algorithms| verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_reads_what_openssl_prints() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.len(), 95);
        for form in [
            text.clone(),
            text.replace(':', "").to_lowercase(),
            format!("sha256:{text}"),
        ] {
            assert_eq!(form.parse(), Ok(fingerprint), "{form}");
        }
        assert!("AA:BB".parse::<Fingerprint>().is_err());
        assert!("x".repeat(64).parse::<Fingerprint>().is_err());
    }

    #[test]
    fn authority_without_certificate_is_refused() {
        let error = config(&Trust::Authority(b"no certificate".to_vec())).unwrap_err();
        assert!(
            error.to_string().contains("no certificate in PEM"),
            "{error}"
        );
    }
}
