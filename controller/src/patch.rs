//! Writes: what is different and nothing else, on condition that nobody has written in between.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// Field manager of everything that is written for machines.
pub const MACHINE_MANAGER: &str = "catamaran-vm";
/// Field manager of everything that is written for instances and their pods.
pub const INSTANCE_MANAGER: &str = "catamaran-vmi";
/// Field manager of everything that is written for the installation.
pub const INSTALLATION_MANAGER: &str = "catamaran-controller";

/// The merge patch (RFC 7396) that makes `new` out of `old`; `None` when they are equal.
#[must_use]
pub fn difference<T: Serialize>(old: &T, new: &T) -> Option<Value> {
    let value = |object: &T| {
        serde_json::to_value(object).expect("an object of the API has string keys only")
    };
    between(&value(old), &value(new))
}

fn between(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for (name, value) in new {
        match old.get(name) {
            Some(before) => {
                if let Some(below) = between(before, value) {
                    patch.insert(name.clone(), below);
                }
            }
            None => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// Which part of an object a write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The object without its status, where that is apart.
    Main,
    /// The status subresource.
    Status,
}

/// Applies a merge patch, if the object is still the one that was read.
///
/// # Errors
/// What the API server says; a conflict when somebody else has written in between.
pub async fn merge<K>(
    api: &Api<K>,
    object: &K,
    mut patch: Value,
    part: Part,
    manager: &str,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    if let Some(version) = object.resource_version() {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    if let Some(uid) = object.uid() {
        patch["metadata"]["uid"] = json!(uid);
    }
    let name = object.name_any();
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let answer = match part {
        Part::Main => api.patch(&name, &params, &patch).await,
        Part::Status => api.patch_status(&name, &params, &patch).await,
    };
    answer.map_err(Error::api(format!(
        "write {} {}/{name}",
        K::kind(&()),
        object.namespace().unwrap_or_default()
    )))
}

#[cfg(test)]
mod tests {
    use super::difference;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_in_the_patch() {
        let old = json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "gone": true});
        let new = json!({"a": 1, "b": {"c": [1], "d": "x"}, "new": {}});
        assert_eq!(
            difference(&old, &new),
            Some(json!({"b": {"c": [1]}, "gone": null, "new": {}}))
        );
        assert_eq!(difference(&new, &new), None);
    }
}
