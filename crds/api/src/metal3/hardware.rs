//! What a server is made of, and `HardwareData`, which keeps it.

use kube_derive::CustomResource;

status! {
    /// What was found by the last inspection.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "HardwareData",
        plural = "hardwaredata",
        singular = "hardwaredata",
        shortname = "hd",
        namespaced,
        derive = "PartialEq",
        derive = "Default",
        doc = "What a server of the same name is made of.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    pub struct HardwareDataSpec {
        optional {
            /// The hardware.
            hardware: Option<HardwareDetails>,
        }
    }

    /// A server's hardware.
    pub struct HardwareDetails {
        optional {
            /// Processors.
            cpu: Option<Cpu>,
            /// Firmware.
            firmware: Option<Firmware>,
            /// Host name.
            hostname: Option<String>,
            /// Network interfaces.
            nics: Vec<Nic>,
            /// Memory in MiB.
            ram_mebibytes: Option<i64>,
            /// Disks.
            storage: Vec<Storage>,
            /// Who made it.
            system_vendor: Option<SystemVendor>,
        }
    }

    /// Processors.
    pub struct Cpu {
        optional {
            /// As Linux calls it: `x86_64`, `aarch64`.
            arch: Option<String>,
            /// Greatest clock rate in MHz.
            clock_megahertz: Option<f64>,
            /// How many an operating system counts.
            count: Option<i64>,
            /// What they can.
            flags: Vec<String>,
            /// Model.
            model: Option<String>,
        }
    }

    /// Firmware.
    pub struct Firmware {
        optional {
            /// The system's.
            bios: Option<BiosDetails>,
        }
    }

    /// The system's firmware.
    pub struct BiosDetails {
        optional {
            /// Date of release.
            date: Option<String>,
            /// Vendor.
            vendor: Option<String>,
            /// Version.
            version: Option<String>,
        }
    }

    /// A network interface.
    pub struct Nic {
        optional {
            /// IP address.
            ip: Option<String>,
            /// What its switch says of itself.
            lldp: Option<Lldp>,
            /// MAC address.
            #[schemars(extend("pattern" = "[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"))]
            mac: Option<String>,
            /// Model.
            model: Option<String>,
            /// Name: Linux' where an agent looked, else the BMC's.
            name: Option<String>,
            /// PCI address.
            pci_address: Option<String>,
            /// It is booted from.
            pxe: Option<bool>,
            /// Speed in Gbit/s.
            speed_gbps: Option<i64>,
            /// Untagged VLAN.
            vlan_id: Option<i32>,
            /// VLANs.
            vlans: Vec<Vlan>,
        }
    }

    /// What a switch says of itself.
    pub struct Lldp {
        optional {
            /// The port.
            #[serde(rename = "portID")]
            port_id: Option<String>,
            /// The switch.
            #[serde(rename = "switchID")]
            switch_id: Option<String>,
            /// Its name.
            switch_system_name: Option<String>,
        }
    }

    /// A VLAN.
    pub struct Vlan {
        optional {
            /// Number.
            id: Option<i32>,
            /// Name.
            name: Option<String>,
        }
    }

    /// A disk.
    pub struct Storage {
        optional {
            /// Its other names.
            alternate_names: Vec<String>,
            /// SCSI address.
            hctl: Option<String>,
            /// Model.
            model: Option<String>,
            /// Name: Linux' where an agent looked, else the BMC's.
            name: Option<String>,
            /// It turns.
            rotational: Option<bool>,
            /// Serial number.
            serial_number: Option<String>,
            /// Size in bytes.
            size_bytes: Option<i64>,
            /// `HDD`, `SSD` or `NVME`.
            #[serde(rename = "type")]
            #[schemars(extend("enum" = ["HDD", "SSD", "NVME"]))]
            type_: Option<String>,
            /// Vendor.
            vendor: Option<String>,
            /// World-wide name.
            wwn: Option<String>,
            /// Vendor's extension of the world-wide name.
            wwn_vendor_extension: Option<String>,
            /// World-wide name with the extension.
            wwn_with_extension: Option<String>,
        }
    }

    /// Who made a server.
    pub struct SystemVendor {
        optional {
            /// Manufacturer.
            manufacturer: Option<String>,
            /// Product.
            product_name: Option<String>,
            /// Serial number.
            serial_number: Option<String>,
        }
    }
}
