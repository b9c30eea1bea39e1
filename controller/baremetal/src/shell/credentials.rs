//! The Secret with a host's credentials, which belongs to it as with the peer: an owner reference, and the label by which such Secrets are found.

use catamaran_api::metal3::BareMetalHost;
use k8s_openapi::api::core::v1::Secret;
use kube_core::Resource as _;
use serde_json::json;

use super::{Shell, owners_with};
use crate::deploy::Deploy;
use crate::store::{HostName, Store, StoreError};

/// Label of Secrets that hosts need.
const LABEL: &str = "environment.metal3.io";
const VALUE: &str = "baremetal";

impl<S: Store, D: Deploy> Shell<S, D> {
    /// The Secret, with the host as an owner. Where that may not be written, the credentials are as good.
    pub(super) async fn claim(
        &self,
        name: &HostName,
        host: &BareMetalHost,
        secret: Secret,
    ) -> Result<Secret, StoreError> {
        if host.metadata.deletion_timestamp.is_some() {
            return Ok(secret);
        }
        let labels = secret.metadata.labels.as_ref();
        let labelled = labels.is_some_and(|all| all.get(LABEL).is_some_and(|one| one == VALUE));
        let owners = owners_with(host.owner_ref(&()), &secret.metadata);
        if labelled && owners.is_none() {
            return Ok(secret);
        }
        let owners = owners.or_else(|| secret.metadata.owner_references.clone());
        let patch = json!({"metadata": {"labels": {LABEL: VALUE}, "ownerReferences": owners}});
        if let Err(StoreError(error)) = self.store.patch(&secret, patch).await {
            tracing::warn!(host = %name, %error, "the Secret of the host's BMC could not be labelled");
            return Ok(secret);
        }
        // Its version counts as that of the credentials.
        let secret_name = secret.metadata.name.as_deref().unwrap_or_default();
        let found = self.store.secret(&name.namespace, secret_name).await?;
        Ok(found.unwrap_or(secret))
    }
}
