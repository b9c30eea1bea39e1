//! Tells in a host's `PreprovisioningImage`, where there is one, what becomes of it.

use catamaran_api::metal3::{BareMetalHost, PreprovisioningImage, SecretVersion};
use serde_json::json;

use super::Shell;
use crate::deploy::Deploy;
use crate::facts::Seconds;
use crate::preprovisioning::{self, Flaw};
use crate::status;
use crate::store::{HostName, Store, StoreError};

impl<S: Store, D: Deploy> Shell<S, D> {
    /// Tells it.
    pub(super) async fn preprovisioning(
        &self,
        host: &BareMetalHost,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let name = HostName::of(host);
        let Some(object) = self.store.preprovisioning_image(&name) else {
            return Ok(());
        };
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let image = self.image_of(&name, &object).await?;
        let new = preprovisioning::next(&object, image, &status::time(now));
        if object.status.as_ref() != Some(&new) {
            self.store.patch_status(&object, json!(new)).await?;
        }
        Ok(())
    }

    async fn image_of(
        &self,
        name: &HostName,
        object: &PreprovisioningImage,
    ) -> Result<Result<Option<SecretVersion>, Flaw>, StoreError> {
        let refusal = preprovisioning::refusal(object).or_else(|| self.deploy.absence());
        if let Some(refusal) = refusal {
            return Ok(Err(Flaw::configuration(refusal)));
        }
        let secret = object.spec.network_data_name.as_deref();
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            return Ok(Ok(None));
        };
        Ok(match self.store.secret(&name.namespace, secret).await? {
            Some(found) => Ok(Some(SecretVersion {
                name: Some(secret.to_owned()),
                version: found.metadata.resource_version,
            })),
            None => Err(Flaw::network(format!(
                "spec.networkDataName: there is no Secret '{secret}' in the host's namespace"
            ))),
        })
    }
}
