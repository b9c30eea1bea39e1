//! CDs for hosts in use: what their `DataImage`s ask for, carried out and told.

use catamaran_api::metal3::{BareMetalHost, DataImage, DataImageStatus};
use catamaran_redfish::{Bmc, Error as BmcError};
use kube_core::Resource as _;
use serde_json::json;

use super::{Shell, owners_with};
use crate::back_off;
use crate::data::{self, DATA_FINALIZER, Data};
use crate::deploy::Deploy;
use crate::facts::Seconds;
use crate::per_host::PerHost;
use crate::status;
use crate::store::{HostName, Store, StoreError};

/// When what did not work was tried last, so that telling of it is no reason to try it again.
#[derive(Debug, Default)]
pub struct DataCache(pub(super) PerHost<Tried>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Tried {
    at: Seconds,
    /// Of the `DataImage`: another one is tried at once.
    generation: Option<i64>,
}

impl<S: Store, D: Deploy> Shell<S, D> {
    /// What the host is to be given before it is turned on.
    pub(super) async fn data(
        &self,
        host: &BareMetalHost,
        now: Seconds,
    ) -> Result<Data, StoreError> {
        let name = HostName::of(host);
        let Some(object) = self.store.data_image(&name) else {
            return Ok(Data::Settled);
        };
        let deleted = object.metadata.deletion_timestamp.is_some();
        let object = if deleted || host.metadata.deletion_timestamp.is_some() {
            object
        } else {
            self.adopt_data(host, object).await?
        };
        let wanted = data::wanted(&object, host);
        if wanted == Data::Settled {
            if deleted && data::attached(&object).is_none() {
                self.release_data(&object).await?;
            } else if let Some(refusal) = data::refusal(host).filter(|_| !deleted) {
                self.refuse_data(&object, refusal, now).await?;
            }
            return Ok(wanted);
        }
        let tried = self.data.0.get(&name);
        let error = object.status.as_ref().and_then(|one| one.error.as_ref());
        if let (Some(tried), Some(error)) = (tried, error)
            && tried.generation == object.metadata.generation
        {
            let again = tried.at + pause(host, &object) - now;
            if again > 0 {
                let message = error.message.clone();
                return Ok(Data::Held { message, again });
            }
        }
        Ok(wanted)
    }

    /// It belongs to the host, and stays as long as its CD is in.
    async fn adopt_data(
        &self,
        host: &BareMetalHost,
        object: DataImage,
    ) -> Result<DataImage, StoreError> {
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        let owners = owners_with(host.owner_ref(&()), &object.metadata);
        let held = finalizers.iter().any(|one| one == DATA_FINALIZER);
        if owners.is_none() && held {
            return Ok(object);
        }
        let owners = owners.or_else(|| object.metadata.owner_references.clone());
        if !held {
            finalizers.push(DATA_FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {"ownerReferences": owners, "finalizers": finalizers}});
        self.store.patch(&object, patch).await
    }

    async fn release_data(&self, object: &DataImage) -> Result<(), StoreError> {
        let mut all = object.metadata.finalizers.clone().unwrap_or_default();
        if !all.iter().any(|one| one == DATA_FINALIZER) {
            return Ok(());
        }
        all.retain(|one| one != DATA_FINALIZER);
        let patch = json!({"metadata": {"finalizers": all}});
        self.store.patch(object, patch).await.map(drop)
    }

    /// Lets a `DataImage` go whose deletion nobody will follow: its host is gone, or is left alone.
    ///
    /// # Errors
    /// When the cluster can't be written.
    pub async fn let_data_go(&self, name: &HostName) -> Result<(), StoreError> {
        match self.store.data_image(name) {
            Some(object) if object.metadata.deletion_timestamp.is_some() => {
                self.release_data(&object).await
            }
            _ => Ok(()),
        }
    }

    async fn refuse_data(
        &self,
        object: &DataImage,
        refusal: &str,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let error = object.status.as_ref().and_then(|one| one.error.as_ref());
        if error.is_some_and(|error| error.message == refusal) {
            return Ok(());
        }
        let new = data::failed(object, refusal, &status::time(now));
        self.tell_data(object, &new).await
    }

    async fn tell_data(&self, object: &DataImage, new: &DataImageStatus) -> Result<(), StoreError> {
        let written = self.store.patch_status(object, json!(new)).await;
        written.map(drop)
    }

    /// Gives the host a CD, or takes it out. The inner error says why not, and when it is tried again.
    pub(super) async fn change_data(
        &self,
        host: &BareMetalHost,
        bmc: &Bmc,
        url: Option<&str>,
    ) -> Result<Result<(), String>, StoreError> {
        let name = HostName::of(host);
        let changed = match url {
            Some(url) => attach(bmc, url).await,
            None => bmc.eject_cd().await,
        };
        let Some(object) = self.store.data_image(&name) else {
            return Ok(changed.map_err(|error| error.to_string()));
        };
        let now = self.store.now();
        let time = status::time(now);
        match changed {
            Ok(()) => {
                self.data.0.forget(&name);
                if data::attached(&object) != url || data::failures(&object) > 0 {
                    let new = data::holds(url, &time);
                    self.tell_data(&object, &new).await?;
                }
                Ok(Ok(()))
            }
            Err(error) => {
                let tried = Tried {
                    at: now,
                    generation: object.metadata.generation,
                };
                self.data.0.insert(name, tried);
                let message = error.to_string();
                let new = data::failed(&object, &message, &time);
                self.tell_data(&object, &new).await?;
                Ok(Err(message))
            }
        }
    }

    /// Tells that the host's CDs are out.
    pub(super) async fn note_ejected(&self, host: &BareMetalHost) -> Result<(), StoreError> {
        match self.store.data_image(&HostName::of(host)) {
            Some(object) if data::attached(&object).is_some() => {
                let new = data::holds(None, &status::time(self.store.now()));
                self.tell_data(&object, &new).await
            }
            _ => Ok(()),
        }
    }

    /// When a CD that did not work is tried again.
    pub(super) fn data_pause(&self, host: &BareMetalHost) -> Seconds {
        let object = self.store.data_image(&HostName::of(host));
        object.map_or(1, |object| pause(host, &object))
    }
}

fn pause(host: &BareMetalHost, object: &DataImage) -> Seconds {
    let uid = host.metadata.uid.as_deref().unwrap_or_default();
    back_off::pause(data::failures(object), uid)
}

/// One that is in already stays.
async fn attach(bmc: &Bmc, url: &str) -> Result<(), BmcError> {
    let slots = bmc.cd_slots().await?;
    let is_in = slots
        .iter()
        .any(|slot| slot.inserted && slot.image.as_deref() == Some(url));
    if is_in {
        return Ok(());
    }
    bmc.insert_cd(url).await.map(drop)
}
