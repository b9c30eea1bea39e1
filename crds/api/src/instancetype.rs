//! Instancetypes and preferences of `instancetype.kubevirt.io/v1beta1`, and how a `VirtualMachine` names them.
//!
//! The kinds of a whole cluster have the specs of those in a namespace; [`crate::crd`] makes their definitions from the same types.

use std::collections::BTreeMap;

use kube_derive::CustomResource;

use crate::domain::{DiskIoThreads, Hugepages};
use crate::wire::Quantity;

/// API group of instancetypes and preferences.
pub const INSTANCETYPE_GROUP: &str = "instancetype.kubevirt.io";
/// Served and stored version of instancetypes and preferences.
pub const INSTANCETYPE_VERSION: &str = "v1beta1";

spec! {
    /// Processors, memory and scheduling of the machines that name the instancetype.
    #[derive(CustomResource)]
    #[kube(
        group = "instancetype.kubevirt.io",
        version = "v1beta1",
        kind = "VirtualMachineInstancetype",
        plural = "virtualmachineinstancetypes",
        singular = "virtualmachineinstancetype",
        shortname = "vminstancetype",
        shortname = "vminstancetypes",
        shortname = "vmf",
        shortname = "vmfs",
        category = "all",
        namespaced,
        derive = "PartialEq",
        derive = "Default",
        doc = "Processors, memory and scheduling of the machines that name it.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "CPU", type_ = "integer", json_path = ".spec.cpu.guest"),
        printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory.guest"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    pub struct VirtualMachineInstancetypeSpec {
        required {
            /// Processors.
            cpu: CpuInstancetype,
            /// Memory.
            memory: MemoryInstancetype,
        }
        optional {
            /// Annotations of the instances.
            annotations: BTreeMap<String, String>,
            /// Size of the I/O thread pool.
            io_threads: Option<DiskIoThreads>,
            /// `shared`, `auto` or `supplementalPool`.
            io_threads_policy: Option<String>,
            /// Scheduling: labels of the node.
            node_selector: BTreeMap<String, String>,
            /// Scheduling: name of the scheduler.
            scheduler_name: Option<String>,
        }
    }

    /// Processors of an instancetype.
    pub struct CpuInstancetype {
        required {
            /// How many the guest sees; a preference says how they are laid out.
            guest: u32,
        }
        optional {
            /// Sockets that may be plugged in later.
            max_sockets: Option<u32>,
            /// `host-model`, `host-passthrough` or a model's name.
            model: Option<String>,
        }
    }

    /// Memory of an instancetype.
    pub struct MemoryInstancetype {
        required {
            /// What the guest sees.
            guest: Quantity,
        }
        optional {
            /// Backed by huge pages.
            hugepages: Option<Hugepages>,
            /// Upper bound for hotplug.
            max_guest: Option<Quantity>,
            /// The node is asked for that many percent less than the guest sees.
            overcommit_percent: Option<u32>,
        }
    }

    /// How a machine names an instancetype or a preference: by name, or by a volume whose claim has labels that name it.
    pub struct Matcher {
        optional {
            /// Volume of the machine whose claim names it in labels. Excludes `name` and `kind`.
            infer_from_volume: Option<String>,
            /// `Reject` (the default) or `Ignore`, when the volume names none.
            infer_from_volume_failure_policy: Option<String>,
            /// Kind; that of the whole cluster by default.
            kind: Option<String>,
            /// Name.
            name: Option<String>,
            /// Name of a `ControllerRevision` that holds the object as it was; made at the first use by default.
            revision_name: Option<String>,
        }
    }
}
