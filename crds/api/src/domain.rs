//! The hardware as a whole, its memory and its resources.

use std::collections::BTreeMap;

use crate::clock::Clock;
use crate::cpu::Cpu;
use crate::devices::Devices;
use crate::features::Features;
use crate::firmware::Firmware;
use crate::wire::Quantity;

spec! {
    /// The hardware of a machine.
    pub struct DomainSpec {
        required {
            /// Disks, interfaces and other devices.
            devices: Devices,
        }
        optional {
            /// SMBIOS chassis strings.
            chassis: Option<Chassis>,
            /// Clock and timers.
            clock: Option<Clock>,
            /// Processors.
            cpu: Option<Cpu>,
            /// ACPI, APIC, SMM, Hyper-V.
            features: Option<Features>,
            /// Firmware and boot.
            firmware: Option<Firmware>,
            /// Size of the I/O thread pool.
            io_threads: Option<DiskIoThreads>,
            /// `shared`, `auto` or `supplementalPool`.
            io_threads_policy: Option<String>,
            /// Machine type.
            machine: Option<Machine>,
            /// Guest memory.
            memory: Option<Memory>,
            /// Resources asked of the node.
            resources: Option<ResourceRequirements>,
        }
    }

    /// SMBIOS chassis strings.
    pub struct Chassis {
        optional {
            /// Asset tag.
            asset: Option<String>,
            /// Manufacturer.
            manufacturer: Option<String>,
            /// Serial number.
            serial: Option<String>,
            /// Stock keeping unit.
            sku: Option<String>,
            /// Version.
            version: Option<String>,
        }
    }

    /// Size of the I/O thread pool.
    pub struct DiskIoThreads {
        optional {
            /// Threads of the `supplementalPool` policy.
            supplemental_pool_thread_count: Option<u32>,
        }
    }

    /// Machine type.
    pub struct Machine {
        optional {
            /// `q35` (the default) or a versioned type such as `pc-q35-10.0`.
            #[serde(rename = "type")]
            type_: Option<String>,
        }
    }

    /// Guest memory.
    pub struct Memory {
        optional {
            /// What the guest sees; from the requests or limits by default.
            guest: Option<Quantity>,
            /// Backed by huge pages.
            hugepages: Option<Hugepages>,
            /// Upper bound for hotplug.
            max_guest: Option<Quantity>,
        }
    }

    /// Huge pages.
    pub struct Hugepages {
        optional {
            /// Page size: `2Mi` or `1Gi`.
            page_size: Option<String>,
        }
    }

    /// Resources asked of the node.
    pub struct ResourceRequirements {
        optional {
            /// Upper bounds: `cpu`, `memory`.
            limits: BTreeMap<String, Quantity>,
            /// Leaves the overhead of the hypervisor out of the request.
            overcommit_guest_overhead: Option<bool>,
            /// What is set aside: `cpu`, `memory`.
            requests: BTreeMap<String, Quantity>,
        }
    }
}
