//! What all wire types share: the `spec!` and `status!` declarations, kept unknown fields, and [`Quantity`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields of an object that this version has no name for, as they were written.
pub type Unknown = BTreeMap<String, Value>;

/// Whether a field is left out when it is written.
///
/// Only absence counts: an empty object such as `rng: {}` means something by being present and is always written.
pub(crate) trait Absent {
    /// True when the field was not in the manifest.
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

/// Declares an object of a spec: required fields, optional fields, and `unknown` for the rest.
macro_rules! spec {
    ($(
        $(#[$attr:meta])*
        pub struct $name:ident {
            $(required { $( $(#[$rattr:meta])* $rfield:ident : $rty:ty ),* $(,)? })?
            $(optional { $( $(#[$oattr:meta])* $ofield:ident : $oty:ty ),* $(,)? })?
        }
    )*) => {$(
        $(#[$attr])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($( $(#[$rattr])* pub $rfield: $rty, )*)?
            $($(
                $(#[$oattr])*
                #[serde(default, skip_serializing_if = "crate::wire::Absent::is_absent")]
                pub $ofield: $oty,
            )*)?
            /// Fields that this version has no name for, as they were written.
            #[serde(flatten)]
            #[schemars(skip)]
            pub unknown: crate::wire::Unknown,
        }
    )*};
}

/// Declares an object of a status: required and optional fields, unknown ones are dropped.
macro_rules! status {
    ($(
        $(#[$attr:meta])*
        pub struct $name:ident {
            $(required { $( $(#[$rattr:meta])* $rfield:ident : $rty:ty ),* $(,)? })?
            $(optional { $( $(#[$oattr:meta])* $ofield:ident : $oty:ty ),* $(,)? })?
        }
    )*) => {$(
        $(#[$attr])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($( $(#[$rattr])* pub $rfield: $rty, )*)?
            $($(
                $(#[$oattr])*
                #[serde(default, skip_serializing_if = "crate::wire::Absent::is_absent")]
                pub $ofield: $oty,
            )*)?
        }
    )*};
}

/// A Kubernetes quantity such as `512Mi` or `1500m`, as it was written. A bare number (`cpu: 2`) is kept as its text.
///
/// Source: `k8s.io/apimachinery/pkg/api/resource`. Reading the number is the business of `catamaran-spec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl Quantity {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 512Mi")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Quantity, E> {
                Ok(Quantity(v.to_owned()))
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<Quantity, E> {
                Ok(Quantity(v.to_string()))
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

/// Schema of object metadata inside a template: names, labels and annotations are typed, the rest is kept as it is.
///
/// `null` is allowed, because generators write `metadata: {creationTimestamp: null}`.
pub(crate) fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "name": { "type": "string" },
            "namespace": { "type": "string" },
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
            "annotations": { "type": "object", "additionalProperties": { "type": "string" } }
        }
    })
}
