//! `VirtualMachineInstance`: one run of a machine.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, Toleration, TopologySpreadConstraint};
use kube_derive::CustomResource;

use crate::access::AccessCredential;
use crate::domain::DomainSpec;
use crate::network::Network;
use crate::probe::Probe;
use crate::volume::Volume;

spec! {
    /// What a `VirtualMachineInstance` should be.
    #[derive(CustomResource)]
    #[kube(
        group = "kubevirt.io",
        version = "v1",
        kind = "VirtualMachineInstance",
        plural = "virtualmachineinstances",
        singular = "virtualmachineinstance",
        shortname = "vmi",
        shortname = "vmis",
        category = "all",
        namespaced,
        status = "crate::status::VirtualMachineInstanceStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "One run of a virtual machine.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
        printcolumn(name = "IP", type_ = "string", json_path = ".status.interfaces[0].ipAddress"),
        printcolumn(name = "NodeName", type_ = "string", json_path = ".status.nodeName"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
        printcolumn(name = "Live-Migratable", type_ = "string", json_path = ".status.conditions[?(@.type=='LiveMigratable')].status", priority = 1),
        printcolumn(name = "Paused", type_ = "string", json_path = ".status.conditions[?(@.type=='Paused')].status", priority = 1)
    )]
    pub struct VirtualMachineInstanceSpec {
        required {
            /// The hardware.
            domain: DomainSpec,
        }
        optional {
            /// SSH keys and passwords for the guest, from Secrets.
            access_credentials: Vec<AccessCredential>,
            /// Scheduling: affinity of the pod.
            affinity: Option<Affinity>,
            /// Processor architecture of the guest, such as `amd64`.
            architecture: Option<String>,
            /// DNS configuration of the pod.
            dns_config: Option<PodDNSConfig>,
            /// DNS policy of the pod.
            dns_policy: Option<String>,
            /// What a drain does: `None`, `LiveMigrate`, `LiveMigrateIfPossible`, `External`.
            eviction_strategy: Option<String>,
            /// Host name of the guest; the instance's name by default.
            hostname: Option<String>,
            /// Ends the run when it fails.
            liveness_probe: Option<Probe>,
            /// Networks that the interfaces name.
            networks: Vec<Network>,
            /// Scheduling: labels of the node.
            node_selector: BTreeMap<String, String>,
            /// Scheduling: priority class of the pod.
            priority_class_name: Option<String>,
            /// Decides whether the instance is Ready.
            readiness_probe: Option<Probe>,
            /// Scheduling: name of the scheduler.
            scheduler_name: Option<String>,
            /// Service account of the pod.
            service_account_name: Option<String>,
            /// `Paused` begins paused; anything else is refused.
            start_strategy: Option<String>,
            /// DNS subdomain of the guest.
            subdomain: Option<String>,
            /// Seconds between the power button and the kill; 30 by default.
            termination_grace_period_seconds: Option<i64>,
            /// Scheduling: taints that are tolerated.
            tolerations: Vec<Toleration>,
            /// Scheduling: spread of the pods.
            topology_spread_constraints: Vec<TopologySpreadConstraint>,
            /// Volumes that the disks name.
            volumes: Vec<Volume>,
        }
    }
}
