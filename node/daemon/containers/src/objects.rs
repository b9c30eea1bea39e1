//! The objects that Pods refer to, as the caller keeps them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::pod::Port;

/// Looks up ConfigMaps and Secrets, and who else has a port of the host.
pub trait Objects: Send + Sync {
    /// The ConfigMap, if there is one.
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap>;
    /// The Secret, if there is one.
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret>;
    /// Who has the host port of this entry, of everybody but Pods.
    fn host_port_holder(&self, _port: &Port) -> Option<String> {
        None
    }
}

/// No objects at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjects;

impl Objects for NoObjects {
    fn config_map(&self, _: &str, _: &str) -> Option<ConfigMap> {
        None
    }
    fn secret(&self, _: &str, _: &str) -> Option<Secret> {
        None
    }
}

/// Entries of a ConfigMap or Secret, if there is one: text and binary together, `stringData` over `data`.
pub(crate) fn entries(
    objects: &dyn Objects,
    namespace: &str,
    secret: bool,
    name: &str,
) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut entries = BTreeMap::new();
    if secret {
        let object = objects.secret(namespace, name)?;
        entries.extend(
            object
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0)),
        );
        entries.extend(
            object
                .string_data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.into_bytes())),
        );
    } else {
        let object = objects.config_map(namespace, name)?;
        entries.extend(
            object
                .data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.into_bytes())),
        );
        entries.extend(
            object
                .binary_data
                .into_iter()
                .flatten()
                .map(|(key, value)| (key, value.0)),
        );
    }
    Some(entries)
}

/// How an object is named in messages.
pub(crate) fn kind(secret: bool) -> &'static str {
    if secret { "Secret" } else { "ConfigMap" }
}
