//! Preferences: what a guest likes where its machine says nothing.

use std::collections::BTreeMap;

use kube_derive::CustomResource;

use crate::clock::{ClockOffsetUtc, Timer};
use crate::cpu::CpuFeature;
use crate::devices::{Rng, TpmDevice};
use crate::disk::BlockSize;
use crate::features::{FeatureApic, FeatureHyperv, FeatureKvm, FeatureState};
use crate::firmware::Efi;
use crate::network::InterfaceMasquerade;
use crate::wire::Quantity;

spec! {
    /// What a guest likes where its machine says nothing.
    #[derive(CustomResource)]
    #[kube(
        group = "instancetype.kubevirt.io",
        version = "v1beta1",
        kind = "VirtualMachinePreference",
        plural = "virtualmachinepreferences",
        singular = "virtualmachinepreference",
        shortname = "vmpref",
        shortname = "vmprefs",
        shortname = "vmp",
        shortname = "vmps",
        category = "all",
        namespaced,
        derive = "PartialEq",
        derive = "Default",
        doc = "What a guest likes where its machine says nothing.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    pub struct VirtualMachinePreferenceSpec {
        optional {
            /// Annotations of the instances.
            annotations: BTreeMap<String, String>,
            /// Clock and timers.
            clock: Option<ClockPreferences>,
            /// Layout and features of the processors.
            cpu: Option<CpuPreferences>,
            /// Devices.
            devices: Option<DevicePreferences>,
            /// Platform features.
            features: Option<FeaturePreferences>,
            /// Firmware.
            firmware: Option<FirmwarePreferences>,
            /// Machine type.
            machine: Option<MachinePreferences>,
            /// Deprecated: `cpu.spreadOptions.ratio`.
            prefer_spread_socket_to_core_ratio: Option<u32>,
            /// Processor architecture.
            preferred_architecture: Option<String>,
            /// DNS subdomain.
            preferred_subdomain: Option<String>,
            /// Seconds between the power button and the kill.
            preferred_termination_grace_period_seconds: Option<i64>,
            /// The least that a machine must have.
            requirements: Option<PreferenceRequirements>,
            /// Volumes.
            volumes: Option<VolumePreferences>,
        }
    }

    /// Clock and timers.
    pub struct ClockPreferences {
        optional {
            /// What the clock counts in.
            preferred_clock_offset: Option<ClockOffset>,
            /// Timers.
            preferred_timer: Option<Timer>,
        }
    }

    /// What a clock counts in: `timezone` or `utc`.
    pub struct ClockOffset {
        optional {
            /// This IANA time zone.
            timezone: Option<String>,
            /// UTC.
            utc: Option<ClockOffsetUtc>,
        }
    }

    /// Layout and features of the processors.
    pub struct CpuPreferences {
        optional {
            /// Features, unless the machine names them.
            #[serde(rename = "preferredCPUFeatures")]
            preferred_cpu_features: Vec<CpuFeature>,
            /// What an instancetype's processors become: `sockets` (the default), `cores`, `threads`, `spread` or `any`.
            #[serde(rename = "preferredCPUTopology")]
            preferred_cpu_topology: Option<String>,
            /// How `spread` lays them out.
            spread_options: Option<SpreadOptions>,
        }
    }

    /// How processors are spread.
    pub struct SpreadOptions {
        optional {
            /// `SocketsCores` (the default), `SocketsCoresThreads` or `CoresThreads`.
            across: Option<String>,
            /// Cores of a socket, or threads of a core with `CoresThreads`; 2 by default.
            ratio: Option<u32>,
        }
    }

    /// Devices.
    pub struct DevicePreferences {
        optional {
            /// VNC and a video device.
            preferred_autoattach_graphics_device: Option<bool>,
            /// An input device when none is named.
            preferred_autoattach_input_device: Option<bool>,
            /// Memory balloon.
            preferred_autoattach_mem_balloon: Option<bool>,
            /// The pod network when no network is named.
            preferred_autoattach_pod_interface: Option<bool>,
            /// A serial console.
            preferred_autoattach_serial_console: Option<bool>,
            /// One queue for each vCPU on virtio disks.
            preferred_block_multi_queue: Option<bool>,
            /// Bus of CD-ROM drives.
            preferred_cdrom_bus: Option<String>,
            /// No room for devices that come later.
            preferred_disable_hotplug: Option<bool>,
            /// Block sizes of disks.
            preferred_disk_block_size: Option<BlockSize>,
            /// Bus of hard disks.
            preferred_disk_bus: Option<String>,
            /// Host cache of disks.
            preferred_disk_cache: Option<String>,
            /// An I/O thread for each virtio disk.
            preferred_disk_dedicated_io_thread: Option<bool>,
            /// Host I/O of disks.
            #[serde(rename = "preferredDiskIO")]
            preferred_disk_io: Option<String>,
            /// Bus of input devices.
            preferred_input_bus: Option<String>,
            /// Type of input devices.
            preferred_input_type: Option<String>,
            /// Interfaces of the pod network are behind NAT.
            preferred_interface_masquerade: Option<InterfaceMasquerade>,
            /// Model of interfaces.
            preferred_interface_model: Option<String>,
            /// One queue pair for each vCPU on virtio interfaces.
            preferred_network_interface_multi_queue: Option<bool>,
            /// Model of panic devices.
            preferred_panic_device_model: Option<String>,
            /// Random numbers from the host.
            preferred_rng: Option<Rng>,
            /// Trusted platform module.
            #[serde(rename = "preferredTPM")]
            preferred_tpm: Option<TpmDevice>,
            /// Transitional virtio models.
            preferred_use_virtio_transitional: Option<bool>,
            /// Video model.
            preferred_video_type: Option<String>,
        }
    }

    /// Platform features.
    pub struct FeaturePreferences {
        optional {
            /// ACPI.
            preferred_acpi: Option<FeatureState>,
            /// APIC.
            preferred_apic: Option<FeatureApic>,
            /// Hyper-V enlightenments, one by one.
            preferred_hyperv: Option<FeatureHyperv>,
            /// KVM's own signature.
            preferred_kvm: Option<FeatureKvm>,
            /// Paravirtualised spinlocks.
            preferred_pvspinlock: Option<FeatureState>,
            /// System management mode.
            preferred_smm: Option<FeatureState>,
        }
    }

    /// Firmware.
    pub struct FirmwarePreferences {
        optional {
            /// OVMF, so.
            preferred_efi: Option<Efi>,
            /// SeaBIOS.
            preferred_use_bios: Option<bool>,
            /// BIOS messages on the serial console.
            preferred_use_bios_serial: Option<bool>,
            /// Deprecated: `preferredEfi`.
            preferred_use_efi: Option<bool>,
            /// Deprecated: `preferredEfi.secureBoot`.
            preferred_use_secure_boot: Option<bool>,
        }
    }

    /// Machine type.
    pub struct MachinePreferences {
        optional {
            /// Machine type.
            preferred_machine_type: Option<String>,
        }
    }

    /// Volumes.
    pub struct VolumePreferences {
        optional {
            /// Storage class of claims that are made for the machine.
            preferred_storage_class_name: Option<String>,
        }
    }

    /// The least that a machine must have.
    pub struct PreferenceRequirements {
        optional {
            /// Processor architecture.
            architecture: Option<String>,
            /// Processors.
            cpu: Option<CpuPreferenceRequirement>,
            /// Memory.
            memory: Option<MemoryPreferenceRequirement>,
        }
    }

    /// The least number of processors.
    pub struct CpuPreferenceRequirement {
        required {
            /// How many.
            guest: u32,
        }
    }

    /// The least memory.
    pub struct MemoryPreferenceRequirement {
        required {
            /// How much.
            guest: Quantity,
        }
    }
}
