//! Statuses of both kinds.
//!
//! Every field has exactly one writer; who writes which is decided in the architecture, not here.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::domain::Machine;
use crate::wire::Quantity;

status! {
    /// What is known about a `VirtualMachine`.
    pub struct VirtualMachineStatus {
        optional {
            /// Conditions, one of each type.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<VirtualMachineCondition>,
            /// An instance exists.
            created: Option<bool>,
            /// `metadata.generation` of the machine.
            desired_generation: Option<i64>,
            /// The instancetype in use, and where it is kept as it was.
            instancetype_ref: Option<InstancetypeStatusRef>,
            /// Generation that the running instance was made from.
            observed_generation: Option<i64>,
            /// The preference in use, and where it is kept as it was.
            preference_ref: Option<InstancetypeStatusRef>,
            /// One word for people: `Running`, `Stopped`, `CrashLoopBackOff`, …
            printable_status: Option<String>,
            /// The instance is Ready.
            ready: Option<bool>,
            /// Hardware of the last run, kept until the spec changes; for node daemons, as JSON.
            resolved_hardware: Option<String>,
            /// Run strategy when the last instance was made.
            run_strategy: Option<String>,
            /// Failed runs in a row.
            start_failure: Option<VirtualMachineStartFailure>,
            /// Verbs that are yet to be carried out; only the first is looked at.
            state_change_requests: Vec<VirtualMachineStateChangeRequest>,
        }
    }

    /// One observation about a `VirtualMachine`.
    pub struct VirtualMachineCondition {
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

    /// An instancetype or preference in use.
    pub struct InstancetypeStatusRef {
        optional {
            /// Where it is kept as it was.
            controller_revision_ref: Option<ControllerRevisionRef>,
            /// The volume that it was inferred from.
            infer_from_volume: Option<String>,
            /// What was to happen if the volume had named none.
            infer_from_volume_failure_policy: Option<String>,
            /// Kind.
            kind: Option<String>,
            /// Name.
            name: Option<String>,
        }
    }

    /// A `ControllerRevision` in the machine's namespace.
    pub struct ControllerRevisionRef {
        optional {
            /// Name.
            name: Option<String>,
        }
    }

    /// Failed runs in a row.
    pub struct VirtualMachineStartFailure {
        optional {
            /// How many.
            consecutive_fail_count: Option<i32>,
            /// The last instance that failed.
            #[serde(rename = "lastFailedVMIUID")]
            last_failed_vmi_uid: Option<String>,
            /// No new run before.
            retry_after_timestamp: Option<Time>,
            /// Digest of the template that failed; ours, not the peer's.
            spec_digest: Option<String>,
        }
    }

    /// A verb that is yet to be carried out.
    pub struct VirtualMachineStateChangeRequest {
        required {
            /// `Start` or `Stop`.
            action: String,
        }
        optional {
            /// `paused: "true"` starts paused.
            data: BTreeMap<String, String>,
            /// The instance that a Stop means.
            uid: Option<String>,
        }
    }

    /// What is known about a `VirtualMachineInstance`.
    pub struct VirtualMachineInstanceStatus {
        optional {
            /// Pod UID to node name.
            active_pods: BTreeMap<String, String>,
            /// Conditions, one of each type.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
            conditions: Vec<VirtualMachineInstanceCondition>,
            /// Processors that are plugged in.
            #[serde(rename = "currentCPUTopology")]
            current_cpu_topology: Option<CpuTopology>,
            /// A drain of this node asks the instance to leave.
            evacuation_node_name: Option<String>,
            /// `frozen` while the guest's file systems are.
            fs_freeze_status: Option<String>,
            /// What the guest agent says about the system.
            #[serde(rename = "guestOSInfo")]
            guest_os_info: Option<VirtualMachineInstanceGuestOsInfo>,
            /// Network interfaces, those of the manifest first.
            interfaces: Vec<VirtualMachineInstanceNetworkInterface>,
            /// Image of the launcher.
            launcher_container_image_version: Option<String>,
            /// Resolved machine type.
            machine: Option<Machine>,
            /// Memory sizes.
            memory: Option<MemoryStatus>,
            /// How it could migrate.
            migration_method: Option<String>,
            /// How migration data would travel.
            migration_transport: Option<String>,
            /// Where it runs.
            node_name: Option<String>,
            /// `Pending`, `Scheduling`, `Scheduled`, `Running`, `Succeeded`, `Failed` or `Unknown`.
            phase: Option<String>,
            /// When it entered each phase.
            phase_transition_timestamps: Vec<VirtualMachineInstancePhaseTransitionTimestamp>,
            /// Quality of service of the pod.
            qos_class: Option<String>,
            /// Why it is in this phase.
            reason: Option<String>,
            /// Hardware that the guest sees, kept for the next run of its machine; for node daemons, as JSON.
            resolved_hardware: Option<String>,
            /// User id of the hypervisor process.
            runtime_user: Option<i64>,
            /// SELinux context of the hypervisor process.
            selinux_context: Option<String>,
            /// ControllerRevision that the instance was made from.
            virtual_machine_revision_name: Option<String>,
            /// Volumes.
            volume_status: Vec<VolumeStatus>,
        }
    }

    /// One observation about a `VirtualMachineInstance`.
    pub struct VirtualMachineInstanceCondition {
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

    /// Processors that are plugged in.
    pub struct CpuTopology {
        optional {
            /// Cores of a socket.
            cores: Option<u32>,
            /// Sockets.
            sockets: Option<u32>,
            /// Threads of a core.
            threads: Option<u32>,
        }
    }

    /// What the guest agent says about the system.
    pub struct VirtualMachineInstanceGuestOsInfo {
        optional {
            /// `ID` of os-release.
            id: Option<String>,
            /// `uname -r`.
            kernel_release: Option<String>,
            /// `uname -v`.
            kernel_version: Option<String>,
            /// `uname -m`.
            machine: Option<String>,
            /// `NAME` of os-release.
            name: Option<String>,
            /// `PRETTY_NAME` of os-release.
            pretty_name: Option<String>,
            /// `VERSION` of os-release.
            version: Option<String>,
            /// `VERSION_ID` of os-release.
            version_id: Option<String>,
        }
    }

    /// A network interface as it is.
    pub struct VirtualMachineInstanceNetworkInterface {
        optional {
            /// Who says so: `domain`, `guest-agent`, joined by `, `.
            info_source: Option<String>,
            /// Name inside the guest.
            interface_name: Option<String>,
            /// First address.
            ip_address: Option<String>,
            /// All addresses.
            ip_addresses: Vec<String>,
            /// `up` or `down`.
            link_state: Option<String>,
            /// MAC address.
            mac: Option<String>,
            /// Name in the manifest.
            name: Option<String>,
            /// Name in the pod.
            pod_interface_name: Option<String>,
            /// Queue pairs.
            queue_count: Option<i32>,
        }
    }

    /// Memory sizes.
    pub struct MemoryStatus {
        optional {
            /// When the guest started.
            guest_at_boot: Option<Quantity>,
            /// Now.
            guest_current: Option<Quantity>,
            /// Asked for.
            guest_requested: Option<Quantity>,
            /// What the hypervisor needs besides.
            memory_overhead: Option<Quantity>,
        }
    }

    /// When the instance entered a phase.
    pub struct VirtualMachineInstancePhaseTransitionTimestamp {
        optional {
            /// The phase.
            phase: Option<String>,
            /// The time.
            phase_transition_timestamp: Option<Time>,
        }
    }

    /// A volume as it is.
    pub struct VolumeStatus {
        required {
            /// Name in the manifest.
            name: String,
            /// Device name in the hypervisor, such as `vda`.
            target: String,
        }
        optional {
            /// Of a volume that was plugged into a running machine.
            hotplug_volume: Option<HotplugVolumeStatus>,
            /// The claim behind it.
            persistent_volume_claim_info: Option<PersistentVolumeClaimInfo>,
            /// For people.
            message: Option<String>,
            /// Phase of a hotplugged volume.
            phase: Option<String>,
            /// For programs.
            reason: Option<String>,
            /// Bytes.
            size: Option<i64>,
        }
    }

    /// The pod by which a claim came to a node.
    pub struct HotplugVolumeStatus {
        optional {
            /// Name of the attachment pod.
            attach_pod_name: Option<String>,
            /// UID of the attachment pod.
            #[serde(rename = "attachPodUID")]
            attach_pod_uid: Option<String>,
        }
    }

    /// A claim as it is.
    pub struct PersistentVolumeClaimInfo {
        optional {
            /// `ReadWriteOnce`, …
            access_modes: Vec<String>,
            /// What there is.
            capacity: BTreeMap<String, Quantity>,
            /// Name of the claim.
            claim_name: Option<String>,
            /// Part of the capacity that the file system needs.
            filesystem_overhead: Option<String>,
            /// All blocks are allocated.
            preallocated: Option<bool>,
            /// What was asked for.
            requests: BTreeMap<String, Quantity>,
            /// `Filesystem` or `Block`.
            volume_mode: Option<String>,
        }
    }
}
