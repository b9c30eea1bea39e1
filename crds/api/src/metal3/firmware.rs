//! `HostFirmwareSettings` and `FirmwareSchema`: settings of a server's firmware and what they may be.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_derive::CustomResource;

status! {
    /// The settings that are to be changed.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "HostFirmwareSettings",
        plural = "hostfirmwaresettings",
        singular = "hostfirmwaresettings",
        shortname = "hfs",
        namespaced,
        status = "crate::metal3::firmware::HostFirmwareSettingsStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "Firmware settings of the server of the same name.",
        crates(kube_core = "::kube_core")
    )]
    pub struct HostFirmwareSettingsSpec {
        required {
            /// Settings and their values.
            settings: BTreeMap<String, IntOrString>,
        }
    }

    /// The settings there are.
    pub struct HostFirmwareSettingsStatus {
        required {
            /// Settings and their values.
            settings: BTreeMap<String, String>,
        }
        optional {
            /// Conditions, one of each type: `ChangeDetected`, `Valid`; `Applying`, which is ours alone.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<Condition>,
            /// When they were read last.
            last_updated: Option<Time>,
            /// What they may be.
            schema: Option<SchemaReference>,
        }
    }

    /// Names a `FirmwareSchema`.
    pub struct SchemaReference {
        required {
            /// Name.
            name: String,
            /// Namespace.
            namespace: String,
        }
    }

    /// What settings may be.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "FirmwareSchema",
        plural = "firmwareschemas",
        singular = "firmwareschema",
        namespaced,
        derive = "PartialEq",
        derive = "Default",
        doc = "What the firmware settings of servers of one model may be.",
        crates(kube_core = "::kube_core")
    )]
    pub struct FirmwareSchemaSpec {
        required {
            /// Settings and what they may be.
            schema: BTreeMap<String, SettingSchema>,
        }
        optional {
            /// Model of the server.
            hardware_model: Option<String>,
            /// Its vendor.
            hardware_vendor: Option<String>,
        }
    }

    /// What one setting may be.
    pub struct SettingSchema {
        optional {
            /// The values of an enumeration.
            #[serde(rename = "allowable_values")]
            allowable_values: Vec<String>,
            /// `Enumeration`, `String`, `Integer`, `Boolean` or `Password`.
            #[schemars(extend("enum" = ["Enumeration", "String", "Integer", "Boolean", "Password"]))]
            #[serde(rename = "attribute_type")]
            attribute_type: Option<String>,
            /// Least value.
            #[serde(rename = "lower_bound")]
            lower_bound: Option<i64>,
            /// Greatest length.
            #[serde(rename = "max_length")]
            max_length: Option<i64>,
            /// Least length.
            #[serde(rename = "min_length")]
            min_length: Option<i64>,
            /// It can't be changed.
            #[serde(rename = "read_only")]
            read_only: Option<bool>,
            /// It can be changed once.
            unique: Option<bool>,
            /// Greatest value.
            #[serde(rename = "upper_bound")]
            upper_bound: Option<i64>,
        }
    }
}
