//! The cluster, as far as this crate needs it.

use std::fmt;
use std::future::Future;

use catamaran_api::metal3::{
    BareMetalHost, BareMetalHostStatus, DataImage, FirmwareSchema, HardwareDetails,
    HostFirmwareSettings, PreprovisioningImage,
};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube_core::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::facts::Seconds;

/// Namespace and name of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl HostName {
    /// Of a host.
    #[must_use]
    pub fn of(host: &BareMetalHost) -> Self {
        Self {
            namespace: host.metadata.namespace.clone().unwrap_or_default(),
            name: host.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The cluster could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the cluster could not be asked")]
pub struct StoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Something to tell people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// It is a warning.
    pub warning: bool,
    /// The reason, one word.
    pub reason: String,
    /// What happened.
    pub message: String,
}

/// An object beside a host, of a kind of its own.
pub trait Companion:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Companion for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The cluster. Writes hold only if nobody has written in between; all of them answer with the object as it is then.
pub trait Store: Send + Sync {
    /// The time.
    fn now(&self) -> Seconds;

    /// A host, with our own writes in it.
    fn host(&self, name: &HostName) -> Option<BareMetalHost>;

    /// All hosts.
    fn hosts(&self) -> Vec<BareMetalHost>;

    /// A Secret.
    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Secret>, StoreError>> + Send;

    /// Writes metadata and spec by a merge patch (RFC 7396).
    fn write(
        &self,
        host: &BareMetalHost,
        patch: Value,
    ) -> impl Future<Output = Result<BareMetalHost, StoreError>> + Send;

    /// Writes the status.
    fn write_status(
        &self,
        host: &BareMetalHost,
        status: &BareMetalHostStatus,
    ) -> impl Future<Output = Result<BareMetalHost, StoreError>> + Send;

    /// Writes the host's `HardwareData`.
    fn write_hardware(
        &self,
        host: &BareMetalHost,
        hardware: &HardwareDetails,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The settings of the host's firmware, with our own writes in them.
    fn firmware(&self, name: &HostName) -> Option<HostFirmwareSettings>;

    /// The CD that the host is to be given, with our own writes in it.
    fn data_image(&self, name: &HostName) -> Option<DataImage>;

    /// What the host's deploy agent is asked to be, with our own writes in it.
    fn preprovisioning_image(&self, name: &HostName) -> Option<PreprovisioningImage>;

    /// A description of settings.
    fn schema(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<FirmwareSchema>, StoreError>> + Send;

    /// Makes an object; one that is there already is answered as it is.
    fn make<K: Companion>(&self, object: &K) -> impl Future<Output = Result<K, StoreError>> + Send;

    /// Writes an object's metadata and spec by a merge patch.
    fn patch<K: Companion>(
        &self,
        object: &K,
        patch: Value,
    ) -> impl Future<Output = Result<K, StoreError>> + Send;

    /// Writes an object's status.
    fn patch_status<K: Companion>(
        &self,
        object: &K,
        status: Value,
    ) -> impl Future<Output = Result<K, StoreError>> + Send;

    /// Tells people of an object. Best effort.
    fn tell_of<K: Companion>(&self, object: &K, note: Note) -> impl Future<Output = ()> + Send;

    /// Tells people. Best effort.
    fn tell(&self, host: &BareMetalHost, note: Note) -> impl Future<Output = ()> + Send;
}
