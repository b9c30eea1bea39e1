//! Where certificates lie: Secrets and ConfigMaps.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::CertificateError;
use crate::identity::RequestHeader;

/// Secret of the authority.
pub(super) const AUTHORITY: &str = "catamaran-ca";
/// Secret of the serving key that all replicas share.
pub(super) const SERVING: &str = "catamaran-api-tls";
/// ConfigMap with the bundle, for daemons.
pub(super) const BUNDLE: &str = "catamaran-ca";
/// Key of the bundle in both.
const CA_CRT: &str = "ca.crt";

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The authority as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthoritySecret {
    /// The one that signs.
    pub(crate) current: Pair,
    /// All that are trusted.
    pub(crate) bundle: String,
    /// `resourceVersion`, for a change.
    pub(crate) version: Option<String>,
}

fn secrets(client: &Client, namespace: &str) -> Api<Secret> {
    Api::namespaced(client.clone(), namespace)
}

async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, CertificateError> {
    secrets(client, namespace)
        .get_opt(name)
        .await
        .map_err(CertificateError::kube(format!("Secret {name}")))
}

fn text(secret: &Secret, key: &str) -> Result<String, CertificateError> {
    let name = secret.name_any();
    let bytes = secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .ok_or_else(|| CertificateError::Missing(format!("{key} in Secret {name}")))?;
    String::from_utf8(bytes.0.clone())
        .map_err(CertificateError::crypto(format!("{key} in Secret {name}")))
}

fn pair(secret: &Secret) -> Result<Pair, CertificateError> {
    Ok(Pair {
        certificate: text(secret, "tls.crt")?,
        key: text(secret, "tls.key")?,
    })
}

/// The authority, if it has been made.
pub(super) async fn authority(
    client: &Client,
    namespace: &str,
) -> Result<Option<AuthoritySecret>, CertificateError> {
    let Some(secret) = secret(client, namespace, AUTHORITY).await? else {
        return Ok(None);
    };
    let current = pair(&secret)?;
    Ok(Some(AuthoritySecret {
        bundle: text(&secret, CA_CRT).unwrap_or_else(|_| current.certificate.clone()),
        current,
        version: secret.resource_version(),
    }))
}

/// The serving key, if it has been made.
pub(super) async fn serving(
    client: &Client,
    namespace: &str,
) -> Result<Option<Pair>, CertificateError> {
    secret(client, namespace, SERVING)
        .await?
        .map(|secret| pair(&secret))
        .transpose()
}

/// Writes a TLS Secret: makes it, or replaces exactly that version.
async fn write(
    client: &Client,
    namespace: &str,
    name: &str,
    version: Option<String>,
    data: [(&str, &str); 3],
) -> Result<(), CertificateError> {
    let data: BTreeMap<_, _> = data
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
        .collect();
    let exists = version.is_some();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            resource_version: version,
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    let api = secrets(client, namespace);
    let params = PostParams::default();
    let written = if exists {
        api.replace(name, &params, &secret).await
    } else {
        api.create(&params, &secret).await
    };
    written
        .map(drop)
        .map_err(CertificateError::kube(format!("Secret {name}")))
}

/// Labels of what the controller makes for itself.
pub(crate) fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(
        "app.kubernetes.io/managed-by".to_owned(),
        "catamaran-controller".to_owned(),
    )])
}

/// Stores an authority.
pub(super) async fn write_authority(
    client: &Client,
    namespace: &str,
    secret: &AuthoritySecret,
) -> Result<(), CertificateError> {
    let data = [
        ("tls.crt", secret.current.certificate.as_str()),
        ("tls.key", secret.current.key.as_str()),
        (CA_CRT, secret.bundle.as_str()),
    ];
    write(client, namespace, AUTHORITY, secret.version.clone(), data).await
}

/// Stores the serving key.
pub(super) async fn write_serving(
    client: &Client,
    namespace: &str,
    pair: &Pair,
    bundle: &str,
) -> Result<(), CertificateError> {
    let version = secret(client, namespace, SERVING)
        .await?
        .and_then(|secret| secret.resource_version());
    let data = [
        ("tls.crt", pair.certificate.as_str()),
        ("tls.key", pair.key.as_str()),
        (CA_CRT, bundle),
    ];
    write(client, namespace, SERVING, version, data).await
}

/// Publishes the bundle to daemons, if it is another one.
pub(super) async fn write_bundle(
    client: &Client,
    namespace: &str,
    bundle: &str,
) -> Result<(), CertificateError> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let failed = || CertificateError::kube(format!("ConfigMap {BUNDLE}"));
    let there = api.get_opt(BUNDLE).await.map_err(failed())?;
    let published = there
        .as_ref()
        .and_then(|map| map.data.as_ref())
        .and_then(|data| data.get(CA_CRT));
    if published.is_some_and(|text| text == bundle) {
        return Ok(());
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(BUNDLE.to_owned()),
            namespace: Some(namespace.to_owned()),
            resource_version: there.as_ref().and_then(ResourceExt::resource_version),
            labels: Some(labels()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(CA_CRT.to_owned(), bundle.to_owned())])),
        ..ConfigMap::default()
    };
    let params = PostParams::default();
    let written = if there.is_some() {
        api.replace(BUNDLE, &params, &map).await
    } else {
        api.create(&params, &map).await
    };
    written.map(drop).map_err(failed())
}

/// Who may vouch for callers.
pub(super) async fn request_header(client: &Client) -> Result<RequestHeader, CertificateError> {
    let name = "extension-apiserver-authentication";
    let map = Api::<ConfigMap>::namespaced(client.clone(), "kube-system")
        .get(name)
        .await
        .map_err(CertificateError::kube(format!(
            "ConfigMap kube-system/{name}"
        )))?;
    RequestHeader::read(&map.data.unwrap_or_default())
        .map_err(CertificateError::crypto("front-proxy authentication"))
}
