//! The cluster as hosts need it: the API server behind a cache that sees our own writes.

use std::any::Any;
use std::sync::Arc;

use catamaran_api::metal3::{
    BareMetalHost, BareMetalHostStatus, DataImage, FirmwareSchema, HardwareData, HardwareDetails,
    HostFirmwareSettings, PreprovisioningImage,
};
use catamaran_baremetal::{Companion, HostName, Note, Store, StoreError};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::client::Client;
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::error::Error;
use crate::events::Events;
use crate::objects::{Key, Objects};
use crate::patch::{self, Part};

/// Field manager of everything that is written for hosts.
const MANAGER: &str = "catamaran-host";

/// The cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) hosts: Arc<Objects<BareMetalHost>>,
    pub(super) firmware: Arc<Objects<HostFirmwareSettings>>,
    pub(super) data: Arc<Objects<DataImage>>,
    pub(super) images: Arc<Objects<PreprovisioningImage>>,
    pub(super) events: Events,
    pub(super) firmware_events: Events,
}

fn failed(error: Error) -> StoreError {
    StoreError(Box::new(error))
}

fn by_us() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

fn key(name: &HostName) -> Key {
    Key {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
    }
}

impl Cluster {
    async fn merge(
        &self,
        host: &BareMetalHost,
        change: Value,
        part: Part,
    ) -> Result<BareMetalHost, StoreError> {
        let namespace = host.metadata.namespace.as_deref().unwrap_or_default();
        let api = Api::namespaced(self.client.clone(), namespace);
        let new = patch::merge(&api, host, change, part, MANAGER).await;
        let new = new.map_err(failed)?;
        self.hosts.put(new.clone());
        Ok(new)
    }

    /// Writes an object beside a host, and remembers what was answered.
    async fn merge_other<K: Companion>(
        &self,
        object: &K,
        change: Value,
        part: Part,
    ) -> Result<K, StoreError> {
        let new = patch::merge(&self.api_of(object), object, change, part, MANAGER).await;
        let new = new.map_err(failed)?;
        self.remember(&new);
        Ok(new)
    }

    fn api_of<K: Companion>(&self, object: &K) -> Api<K> {
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.client.clone(), namespace)
    }

    fn remember<K: Companion>(&self, new: &K) {
        let new: &dyn Any = new;
        if let Some(new) = new.downcast_ref::<HostFirmwareSettings>() {
            self.firmware.put(new.clone());
        } else if let Some(new) = new.downcast_ref::<DataImage>() {
            self.data.put(new.clone());
        } else if let Some(new) = new.downcast_ref::<PreprovisioningImage>() {
            self.images.put(new.clone());
        }
    }

    async fn hardware(
        &self,
        host: &BareMetalHost,
        hardware: &HardwareDetails,
    ) -> Result<(), Error> {
        let name = HostName::of(host);
        let api: Api<HardwareData> = Api::namespaced(self.client.clone(), &name.namespace);
        let what = || format!("write the hardware of {name}");
        let there = api.get_opt(&name.name).await.map_err(Error::api(what()))?;
        if let Some(there) = there {
            let mut new = there.spec.clone();
            new.hardware = Some(hardware.clone());
            let Some(change) = patch::difference(&there.spec, &new) else {
                return Ok(());
            };
            let change = json!({ "spec": change });
            return patch::merge(&api, &there, change, Part::Main, MANAGER)
                .await
                .map(drop);
        }
        let mut new = HardwareData::default();
        new.metadata.name = Some(name.name.clone());
        new.metadata.namespace = Some(name.namespace.clone());
        new.metadata.owner_references = host.controller_owner_ref(&()).map(|owner| vec![owner]);
        new.spec.hardware = Some(hardware.clone());
        let made = api.create(&by_us(), &new).await;
        made.map(drop).map_err(Error::api(what()))
    }
}

impl Store for Cluster {
    fn now(&self) -> i64 {
        Timestamp::now().as_second()
    }

    fn host(&self, name: &HostName) -> Option<BareMetalHost> {
        self.hosts.get(&key(name))
    }

    fn hosts(&self) -> Vec<BareMetalHost> {
        self.hosts.all()
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, StoreError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("read the Secret {namespace}/{name}");
        let found = api.get_opt(name).await;
        found.map_err(Error::api(what)).map_err(failed)
    }

    async fn write(&self, host: &BareMetalHost, patch: Value) -> Result<BareMetalHost, StoreError> {
        self.merge(host, patch, Part::Main).await
    }

    async fn write_status(
        &self,
        host: &BareMetalHost,
        status: &BareMetalHostStatus,
    ) -> Result<BareMetalHost, StoreError> {
        let old = host.status.clone().map(|status| json!(status));
        let old = old.unwrap_or_else(|| json!({}));
        match patch::difference(&old, &json!(status)) {
            Some(change) => {
                let change = json!({ "status": change });
                self.merge(host, change, Part::Status).await
            }
            None => Ok(host.clone()),
        }
    }

    async fn write_hardware(
        &self,
        host: &BareMetalHost,
        hardware: &HardwareDetails,
    ) -> Result<(), StoreError> {
        self.hardware(host, hardware).await.map_err(failed)
    }

    fn firmware(&self, name: &HostName) -> Option<HostFirmwareSettings> {
        self.firmware.get(&key(name))
    }

    fn data_image(&self, name: &HostName) -> Option<DataImage> {
        self.data.get(&key(name))
    }

    fn preprovisioning_image(&self, name: &HostName) -> Option<PreprovisioningImage> {
        self.images.get(&key(name))
    }

    async fn schema(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<FirmwareSchema>, StoreError> {
        let api: Api<FirmwareSchema> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("read the FirmwareSchema {namespace}/{name}");
        let found = api.get_opt(name).await;
        found.map_err(Error::api(what)).map_err(failed)
    }

    async fn make<K: Companion>(&self, object: &K) -> Result<K, StoreError> {
        let (api, name) = (self.api_of(object), object.name_any());
        let what = format!("make the {} {name}", K::kind(&()));
        let made = api.create(&by_us(), object).await;
        let made = match made.map_err(Error::api(what.clone())) {
            Err(error) if error.already_exists() => api.get(&name).await.map_err(Error::api(what)),
            made => made,
        };
        let made = made.map_err(failed)?;
        self.remember(&made);
        Ok(made)
    }

    async fn patch<K: Companion>(&self, object: &K, patch: Value) -> Result<K, StoreError> {
        self.merge_other(object, patch, Part::Main).await
    }

    async fn patch_status<K: Companion>(&self, object: &K, status: Value) -> Result<K, StoreError> {
        let old = json!(object)["status"].take();
        let old = if old.is_null() { json!({}) } else { old };
        match patch::difference(&old, &status) {
            Some(change) => {
                let change = json!({ "status": change });
                self.merge_other(object, change, Part::Status).await
            }
            None => Ok(object.clone()),
        }
    }

    async fn tell_of<K: Companion>(&self, object: &K, note: Note) {
        let events = match K::kind(&()).as_ref() {
            "HostFirmwareSettings" => &self.firmware_events,
            _ => &self.events,
        };
        write(events, object, note).await;
    }

    async fn tell(&self, host: &BareMetalHost, note: Note) {
        write(&self.events, host, note).await;
    }
}

async fn write<K: Resource<DynamicType = ()>>(events: &Events, object: &K, note: Note) {
    let Note {
        warning,
        reason,
        message,
    } = note;
    if warning {
        events.warning(object, &reason, message).await;
    } else {
        events.normal(object, &reason, message).await;
    }
}
