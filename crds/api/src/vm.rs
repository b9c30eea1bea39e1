//! `VirtualMachine`: a machine that outlives its runs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_derive::CustomResource;

use crate::instancetype::Matcher;
use crate::vmi::VirtualMachineInstanceSpec;

spec! {
    /// What a `VirtualMachine` should be and whether it should run.
    #[derive(CustomResource)]
    #[kube(
        group = "kubevirt.io",
        version = "v1",
        kind = "VirtualMachine",
        plural = "virtualmachines",
        singular = "virtualmachine",
        shortname = "vm",
        shortname = "vms",
        category = "all",
        namespaced,
        status = "crate::status::VirtualMachineStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "A virtual machine: it outlives its runs, which are VirtualMachineInstances of the same name.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(name = "Status", type_ = "string", json_path = ".status.printableStatus", description = "Human readable status"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status")
    )]
    pub struct VirtualMachineSpec {
        required {
            /// The instance that each run is made from.
            template: VirtualMachineInstanceTemplateSpec,
        }
        optional {
            /// Processors and memory, by the name of an instancetype.
            instancetype: Option<Matcher>,
            /// What fills unset fields, by the name of a preference.
            preference: Option<Matcher>,
            /// When the machine runs: `Always`, `Halted`, `Manual`, `RerunOnFailure`, `Once`. Excludes `running`.
            run_strategy: Option<String>,
            /// Deprecated alias of `runStrategy`: true is `Always`, false is `Halted`.
            running: Option<bool>,
            /// What a changed volume does to a running machine: `Replacement` (at the next start).
            update_volumes_strategy: Option<String>,
        }
    }

    /// The template of a machine's instances.
    pub struct VirtualMachineInstanceTemplateSpec {
        optional {
            /// Labels and annotations of the instances.
            #[schemars(schema_with = "crate::wire::metadata_schema")]
            metadata: Option<ObjectMeta>,
            /// The instance.
            spec: Option<VirtualMachineInstanceSpec>,
        }
    }
}
