//! Trust: authority, fingerprint, none.

use std::time::Duration;

use catamaran_redfish::{Bmc, Connector, Endpoint, Error, Fingerprint, Kind, Trust};
use catamaran_redfish_mock::{Certificate, Handle, Mock, Options, Personality};

use crate::{endpoint, quick};

async fn served(names: &[&str]) -> (Mock, Handle, Certificate) {
    let certificate = Certificate::self_signed(names).unwrap();
    let mut mock = Mock::new();
    let options = Options::new("bmc0", 0, Personality::named("standard").unwrap());
    let handle = mock.add(options, Some(&certificate)).await.unwrap();
    (mock, handle, certificate)
}

async fn ask(handle: &Handle, trust: Trust) -> Result<(), Error> {
    let endpoint = Endpoint {
        trust,
        ..endpoint(handle, quick())
    };
    Bmc::new(&Connector::new(), endpoint)?
        .system()
        .await
        .map(drop)
}

#[tokio::test]
async fn certificate_is_trusted_by_authority_by_fingerprint_or_not_looked_at() {
    let (_mock, handle, certificate) = served(&["127.0.0.1"]).await;
    let pem = certificate.pem.clone().into_bytes();
    ask(&handle, Trust::Authority(pem)).await.unwrap();
    ask(&handle, Trust::Pinned(Fingerprint::of(certificate.der())))
        .await
        .unwrap();
    ask(&handle, Trust::Insecure).await.unwrap();
    let error = ask(&handle, Trust::Public).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Trust, "{error}");
    assert_eq!(
        handle.made_sessions(),
        3,
        "no credentials go where there is no trust"
    );
}

#[tokio::test]
async fn other_certificate_than_the_pinned_one_is_refused_with_both_fingerprints() {
    let (_mock, handle, certificate) = served(&["127.0.0.1"]).await;
    let pinned = Fingerprint([7; 32]);
    let error = ask(&handle, Trust::Pinned(pinned)).await.unwrap_err();
    let found = Fingerprint::of(certificate.der());
    assert_eq!(error.kind(), Kind::Trust, "{error}");
    assert!(
        error.to_string().contains(&format!(
            "the certificate's fingerprint is {found}, not the pinned {pinned}"
        )),
        "{error}"
    );
    // A person compares this one, and pins it.
    let address = handle.url().parse().unwrap();
    let shown = Connector::new()
        .fingerprint(&address, Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(shown, found);
}

#[tokio::test]
async fn name_that_does_not_fit_is_refused_by_authority_and_accepted_by_fingerprint() {
    let (_mock, handle, certificate) = served(&["bmc.example"]).await;
    let pem = certificate.pem.clone().into_bytes();
    let error = ask(&handle, Trust::Authority(pem)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Trust, "{error}");
    ask(&handle, Trust::Pinned(Fingerprint::of(certificate.der())))
        .await
        .unwrap();
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_is_told_as_such() {
    let mut mock = Mock::new();
    let options = Options::new("bmc0", 0, Personality::named("standard").unwrap());
    let handle = mock.add(options, None).await.unwrap();
    let mut wrong = endpoint(&handle, quick());
    wrong.address = format!("https://{}", handle.address()).parse().unwrap();
    let error = Bmc::new(&Connector::new(), wrong)
        .unwrap()
        .system()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error}");
}
