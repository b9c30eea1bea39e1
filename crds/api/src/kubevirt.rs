//! `KubeVirt`: the installation and its configuration.
//!
//! Clients of the peer read its status and patch its configuration; the keys that have an effect here have a name below, the rest is kept.

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::CustomResource;

spec! {
    /// What the installation should be.
    #[derive(CustomResource)]
    #[kube(
        group = "kubevirt.io",
        version = "v1",
        kind = "KubeVirt",
        plural = "kubevirts",
        singular = "kubevirt",
        shortname = "kv",
        shortname = "kvs",
        category = "all",
        namespaced,
        status = "crate::kubevirt::KubeVirtStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "The installation and its configuration.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase")
    )]
    pub struct KubeVirtSpec {
        optional {
            /// Settings of the whole cluster.
            configuration: Option<KubeVirtConfiguration>,
            /// Pull policy of the launcher's image.
            image_pull_policy: Option<String>,
            /// Pull Secrets of the launcher's image.
            image_pull_secrets: Vec<LocalObjectReference>,
        }
    }

    /// Settings of the whole cluster.
    pub struct KubeVirtConfiguration {
        optional {
            /// Settings for development and for nested clusters.
            developer_configuration: Option<DeveloperConfiguration>,
            /// What a drain does to instances that do not say.
            eviction_strategy: Option<String>,
            /// Pull policy of the launcher's image.
            image_pull_policy: Option<String>,
            /// What machines have that do not say.
            virtual_machine_options: Option<VirtualMachineOptions>,
            /// Storage class of the claims that hold what a machine's firmware and TPM remember.
            vm_state_storage_class: Option<String>,
        }
    }

    /// What machines have that do not say.
    pub struct VirtualMachineOptions {
        optional {
            /// There: no `guest-console-log` container.
            disable_serial_console_log: Option<DisableSerialConsoleLog>,
        }
    }

    /// Being there is all it says.
    pub struct DisableSerialConsoleLog {}

    /// Settings for development and for nested clusters.
    pub struct DeveloperConfiguration {
        optional {
            /// Virtual processors for each processor that is requested; 10 by default.
            cpu_allocation_ratio: Option<i32>,
            /// Features that are switched on by name.
            feature_gates: Vec<String>,
            /// Guests are emulated where KVM does not work.
            use_emulation: Option<bool>,
        }
    }
}

status! {
    /// What is known about the installation.
    pub struct KubeVirtStatus {
        optional {
            /// Conditions, one of each type.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<KubeVirtCondition>,
            /// Architecture of instances that do not say.
            default_architecture: Option<String>,
            /// Identity of the installed version.
            #[serde(rename = "observedDeploymentID")]
            observed_deployment_id: Option<String>,
            /// Generation of the spec that is in effect.
            observed_generation: Option<i64>,
            /// Where the images come from.
            observed_kube_virt_registry: Option<String>,
            /// Version of the peer's API that is served.
            observed_kube_virt_version: Option<String>,
            /// Version of the operator.
            operator_version: Option<String>,
            /// `Deploying`, `Deployed`, `Deleting`, …
            phase: Option<String>,
            /// Identity of the wanted version.
            #[serde(rename = "targetDeploymentID")]
            target_deployment_id: Option<String>,
            /// Where the wanted images come from.
            target_kube_virt_registry: Option<String>,
            /// Version that is wanted.
            target_kube_virt_version: Option<String>,
        }
    }

    /// One observation about the installation.
    pub struct KubeVirtCondition {
        required {
            /// `True`, `False` or `Unknown`.
            status: String,
            /// Type, unique in the list.
            #[serde(rename = "type")]
            type_: String,
        }
        optional {
            /// When it was looked at.
            last_probe_time: Option<Time>,
            /// When `status` last changed.
            last_transition_time: Option<Time>,
            /// For people.
            message: Option<String>,
            /// For programs.
            reason: Option<String>,
        }
    }
}
