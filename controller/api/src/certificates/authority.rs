//! The installation's certificate authority: makes itself, signs, knows when it is due. No I/O.

use k8s_openapi::jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::store::Pair;
use super::{CertificateError, certificates};

/// Validity of an authority, days.
const AUTHORITY_DAYS: i32 = 3650;
/// Validity of our own certificates, days.
const OWN_DAYS: i32 = 365;
/// Validity of a daemon's certificate, days.
const NODE_DAYS: i32 = 90;

/// A key that signs.
pub(crate) struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Result<Self, CertificateError> {
        let key = KeyPair::generate().map_err(CertificateError::crypto("key of the authority"))?;
        let name = format!("catamaran-ca@{}", Timestamp::now().as_second());
        let mut params = params(&name, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params
            .self_signed(&key)
            .map_err(CertificateError::crypto("certificate of the authority"))?;
        let pair = Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        Ok(Self {
            pair,
            issuer: Issuer::new(params, key),
        })
    }

    /// A stored one.
    pub(crate) fn load(pair: &Pair) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pem(&pair.key)
            .map_err(CertificateError::crypto("key of the authority"))?;
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key)
            .map_err(CertificateError::crypto("certificate of the authority"))?;
        Ok(Self {
            pair: pair.clone(),
            issuer,
        })
    }

    /// As to be stored.
    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A serving certificate of our own for those DNS names and addresses.
    pub(crate) fn server(&self, names: &[String]) -> Result<Pair, CertificateError> {
        let first = names.first().map(String::as_str).unwrap_or_default();
        let mut params = params(first, OWN_DAYS);
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => dns(name),
            })
            .collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A client certificate with that common name.
    pub(crate) fn client(&self, name: &str) -> Result<Pair, CertificateError> {
        let mut params = params(name, OWN_DAYS);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Result<Pair, CertificateError> {
        let key = KeyPair::generate().map_err(CertificateError::crypto("key"))?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(CertificateError::crypto("certificate"))?;
        Ok(Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The serving certificate of a node's daemon, PEM. Only the key of the request is used: names and usages are ours.
    pub(crate) fn node(&self, request: &str, node: &str) -> Result<String, CertificateError> {
        let mut request = CertificateSigningRequestParams::from_pem(request)
            .map_err(CertificateError::crypto("certificate signing request"))?;
        let mut params = params(node, NODE_DAYS);
        params.subject_alt_names = vec![dns(&node_name(node))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        request.params = params;
        let certificate = request
            .signed_by(&self.issuer)
            .map_err(CertificateError::crypto("certificate of a node"))?;
        Ok(certificate.pem())
    }

    /// Whether that certificate was signed by this authority.
    pub(crate) fn signed(&self, certificate: &str) -> bool {
        let (Ok(ours), Ok(theirs)) = (
            certificates(&self.pair.certificate),
            certificates(certificate),
        ) else {
            return false;
        };
        let (Some(ours), Some(theirs)) = (ours.first(), theirs.first()) else {
            return false;
        };
        match (
            X509Certificate::from_der(ours),
            X509Certificate::from_der(theirs),
        ) {
            // The name of each authority is its own: it ends with the time of its making.
            (Ok((_, ours)), Ok((_, theirs))) => ours.subject() == theirs.issuer(),
            _ => false,
        }
    }
}

/// DNS name in the certificate of a node's daemon.
pub(crate) fn node_name(node: &str) -> String {
    format!("{node}.node.catamaran.dev")
}

/// Whether less than `part` of a certificate's life (as 1/part) is left, or it cannot be read.
pub(super) fn is_due(pem: &str, part: i64) -> bool {
    let Some((from, to)) = validity(pem) else {
        return true;
    };
    Timestamp::now().as_second() > to - (to - from) / part
}

/// Begin and end of a PEM certificate, seconds since 1970.
fn validity(pem: &str) -> Option<(i64, i64)> {
    let found = certificates(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(found.first()?).ok()?;
    let validity = certificate.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// Common name of a certificate's subject.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(ToOwned::to_owned)
}

fn dns(name: &str) -> Result<SanType, CertificateError> {
    let name = name
        .to_owned()
        .try_into()
        .map_err(CertificateError::crypto(format!("DNS name {name:?}")))?;
    Ok(SanType::DnsName(name))
}

/// From yesterday, since clocks differ, for so many days.
fn params(name: &str, days: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let (year, month, day) = parts(today.saturating_sub(1.days()));
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = parts(today.saturating_add(days.days()));
    params.not_after = rcgen::date_time_ymd(year, month, day);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn parts(date: Date) -> (i32, u8, u8) {
    (
        i32::from(date.year()),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use rustls::pki_types::ServerName;

    use super::{Authority, common_name, is_due, node_name, validity};
    use crate::certificates::certificates;

    #[test]
    fn a_new_authority_is_not_due_and_signs() {
        let authority = Authority::new().unwrap();
        assert!(!is_due(&authority.pair().certificate, 5));
        let client = authority.client("catamaran-api").unwrap();
        assert!(authority.signed(&client.certificate));
        let der = certificates(&client.certificate).unwrap();
        assert_eq!(common_name(&der[0]).as_deref(), Some("catamaran-api"));
        assert!(is_due("no certificate", 5));
    }

    #[test]
    fn a_stored_authority_signs_as_before() {
        let made = Authority::new().unwrap();
        let loaded = Authority::load(made.pair()).unwrap();
        assert!(made.signed(&loaded.client("x").unwrap().certificate));
    }

    #[test]
    fn a_node_gets_its_own_name_whatever_it_asks_for() {
        let authority = Authority::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        asked
            .distinguished_name
            .push(DnType::CommonName, "another-node");
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority.node(&request, "n1").unwrap();
        let der = certificates(&pem).unwrap();
        let end = rustls::server::ParsedCertificate::try_from(&der[0]).unwrap();
        let fits = |name: &str| {
            let name = ServerName::try_from(name.to_owned()).unwrap();
            rustls::client::verify_server_name(&end, &name).is_ok()
        };
        assert!(fits(&node_name("n1")));
        assert!(!fits("evil.example"));
        let (from, to) = validity(&pem).unwrap();
        assert_eq!((to - from) / 86_400, 91);
    }

    #[test]
    fn servers_are_known_by_names_and_by_addresses() {
        let authority = Authority::new().unwrap();
        let names = ["deploy.example".to_owned(), "192.0.2.1".to_owned()];
        let pair = authority.server(&names).unwrap();
        let der = certificates(&pair.certificate).unwrap();
        let end = rustls::server::ParsedCertificate::try_from(&der[0]).unwrap();
        for name in names {
            let name = ServerName::try_from(name).unwrap();
            assert!(rustls::client::verify_server_name(&end, &name).is_ok());
        }
    }

    #[test]
    fn a_request_without_a_valid_signature_is_refused() {
        let authority = Authority::new().unwrap();
        assert!(
            authority
                .node("-----BEGIN CERTIFICATE REQUEST-----", "n1")
                .is_err()
        );
    }
}
