//! The files of a host's config drive, from the Secrets that its spec names.

use catamaran_api::metal3::BareMetalHost;
use catamaran_deploy_server::ConfigDriveFiles;
use k8s_openapi::api::core::v1::{Secret, SecretReference};
use serde_json::{Map, Value, json};

use super::secret;
use crate::store::Store;

/// The files; none where the spec names no Secret.
pub(super) async fn files<S: Store>(
    host: &BareMetalHost,
    store: &S,
) -> Result<Option<ConfigDriveFiles>, String> {
    let spec = &host.spec;
    let user = read(host, store, "spec.userData", spec.user_data.as_ref());
    let user = user.await?;
    let network = read(host, store, "spec.networkData", spec.network_data.as_ref());
    let network = network.await?;
    let meta = read(host, store, "spec.metaData", spec.meta_data.as_ref());
    let meta = meta.await?;
    if user.is_none() && network.is_none() && meta.is_none() {
        return Ok(None);
    }
    let mut meta_data = about(host);
    if let Some(more) = meta {
        meta_data.extend(parsed::<Map<String, Value>>("spec.metaData", &more)?);
    }
    let network = network.map(|text| parsed::<Value>("spec.networkData", &text));
    Ok(Some(ConfigDriveFiles {
        meta_data,
        user_data: user,
        network_data: network.transpose()?,
    }))
}

/// What a host is told of itself; the peer's names.
fn about(host: &BareMetalHost) -> Map<String, Value> {
    let name = host.metadata.name.as_deref().unwrap_or_default();
    [
        ("uuid", host.metadata.uid.as_deref().unwrap_or_default()),
        (
            "metal3-namespace",
            host.metadata.namespace.as_deref().unwrap_or_default(),
        ),
        ("metal3-name", name),
        ("local-hostname", name),
        ("local_hostname", name),
        ("hostname", name),
        ("name", name),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), json!(value)))
    .collect()
}

/// JSON, or the YAML that the peer takes as well.
fn parsed<T: serde::de::DeserializeOwned>(field: &str, text: &[u8]) -> Result<T, String> {
    serde_yaml_ng::from_slice(text)
        .map_err(|error| format!("{field}: the Secret has neither JSON nor YAML in it: {error}"))
}

async fn read<S: Store>(
    host: &BareMetalHost,
    store: &S,
    field: &str,
    reference: Option<&SecretReference>,
) -> Result<Option<Vec<u8>>, String> {
    let Some(name) = reference
        .and_then(|one| one.name.as_deref())
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let namespace = reference
        .and_then(|one| one.namespace.as_deref())
        .filter(|name| !name.is_empty());
    if let Some(other) = namespace
        && Some(other) != host.metadata.namespace.as_deref()
    {
        return Err(format!(
            "{field}.namespace: '{other}' is not the host's; only Secrets of its own namespace are read"
        ));
    }
    let key = field.trim_start_matches("spec.");
    let secret = secret(store, host, field, name).await?;
    entry(&secret, field, key).map(Some)
}

/// The entry with that name, or, as with the peer, with the name `value`.
pub(super) fn entry(secret: &Secret, field: &str, key: &str) -> Result<Vec<u8>, String> {
    let data = secret.data.as_ref();
    let found = data.and_then(|data| data.get(key).or_else(|| data.get("value")));
    found.map(|bytes| bytes.0.clone()).ok_or_else(|| {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        format!("{field}: the Secret '{name}' has neither '{key}' nor 'value'")
    })
}
