//! `VirtualMachineInstanceReplicaSet`: so many equal instances.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube_derive::CustomResource;

use crate::vm::VirtualMachineInstanceTemplateSpec;

spec! {
    /// How many instances of what.
    #[derive(CustomResource)]
    #[kube(
        group = "kubevirt.io",
        version = "v1",
        kind = "VirtualMachineInstanceReplicaSet",
        plural = "virtualmachineinstancereplicasets",
        singular = "virtualmachineinstancereplicaset",
        shortname = "vmirs",
        shortname = "vmirss",
        category = "all",
        namespaced,
        status = "crate::replica_set::VirtualMachineInstanceReplicaSetStatus",
        scale(
            spec_replicas_path = ".spec.replicas",
            status_replicas_path = ".status.replicas",
            label_selector_path = ".status.labelSelector"
        ),
        derive = "PartialEq",
        derive = "Default",
        doc = "So many equal instances.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
        printcolumn(name = "Current", type_ = "integer", json_path = ".status.replicas"),
        printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    pub struct VirtualMachineInstanceReplicaSetSpec {
        required {
            /// Labels of the instances.
            selector: LabelSelector,
            /// The instance.
            template: VirtualMachineInstanceTemplateSpec,
        }
        optional {
            /// Nothing is made or deleted.
            paused: Option<bool>,
            /// How many; one by default.
            replicas: Option<i32>,
        }
    }
}

status! {
    /// How many instances there are.
    pub struct VirtualMachineInstanceReplicaSetStatus {
        optional {
            /// Conditions, one of each type.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<VirtualMachineInstanceReplicaSetCondition>,
            /// The selector as text, for autoscalers.
            label_selector: Option<String>,
            /// How many are Ready.
            ready_replicas: Option<i32>,
            /// How many there are.
            replicas: Option<i32>,
        }
    }

    /// One observation about a `VirtualMachineInstanceReplicaSet`.
    pub struct VirtualMachineInstanceReplicaSetCondition {
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
