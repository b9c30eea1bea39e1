//! `BareMetalHost`: one server.

use k8s_openapi::api::core::v1::{ObjectReference, SecretReference, Taint};
use kube_derive::CustomResource;

use super::raid::RaidConfig;

status! {
    /// What a server should be.
    #[derive(CustomResource)]
    #[kube(
        group = "metal3.io",
        version = "v1alpha1",
        kind = "BareMetalHost",
        plural = "baremetalhosts",
        singular = "baremetalhost",
        shortname = "bmh",
        shortname = "bmhost",
        namespaced,
        status = "crate::metal3::status::BareMetalHostStatus",
        derive = "PartialEq",
        derive = "Default",
        doc = "A server that is managed through its BMC.",
        crates(kube_core = "::kube_core"),
        printcolumn(name = "Status", type_ = "string", json_path = ".status.operationalStatus", priority = 1),
        printcolumn(name = "State", type_ = "string", json_path = ".status.provisioning.state"),
        printcolumn(name = "Consumer", type_ = "string", json_path = ".spec.consumerRef.name"),
        printcolumn(name = "BMC", type_ = "string", json_path = ".spec.bmc.address", priority = 1),
        printcolumn(name = "Online", type_ = "string", json_path = ".spec.online"),
        printcolumn(name = "Error", type_ = "string", json_path = ".status.errorType"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    pub struct BareMetalHostSpec {
        required {
            /// Whether it is to be on.
            online: bool,
        }
        optional {
            /// Architecture of its processors, such as `x86_64`.
            architecture: Option<String>,
            /// What is wiped between two uses: `metadata` (partition tables) or `disabled`.
            #[schemars(extend("enum" = ["metadata", "disabled"]))]
            automated_cleaning_mode: Option<String>,
            /// Its BMC. A server without one is not managed.
            bmc: Option<BmcDetails>,
            /// MAC address of the network interface it boots from; found by inspection where it is absent.
            #[serde(rename = "bootMACAddress")]
            #[schemars(extend("pattern" = "[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"))]
            boot_mac_address: Option<String>,
            /// How its firmware boots: `UEFI`, `UEFISecureBoot` or `legacy`.
            #[schemars(extend("enum" = ["UEFI", "UEFISecureBoot", "legacy"]))]
            boot_mode: Option<String>,
            /// Who uses it; a server in use is not given to anybody else.
            consumer_ref: Option<ObjectReference>,
            /// A deployment other than by an image; not carried out.
            custom_deploy: Option<CustomDeploy>,
            /// For people.
            description: Option<String>,
            /// It is never turned off.
            disable_power_off: Option<bool>,
            /// Something else put an operating system on it: power is managed, nothing else.
            externally_provisioned: Option<bool>,
            /// Has no effect, as with the peer.
            firmware: Option<FirmwareConfig>,
            /// Has no effect, as with the peer.
            hardware_profile: Option<String>,
            /// What is to be put on it.
            image: Option<Image>,
            /// How it is inspected: `fast` (by its BMC), `agent` (by a program on it) or `disabled`.
            #[schemars(extend("enum" = ["disabled", "agent", "fast"]))]
            inspection_mode: Option<String>,
            /// Secret with metadata for the config drive.
            meta_data: Option<SecretReference>,
            /// Secret with the network configuration for the config drive.
            network_data: Option<SecretReference>,
            /// Ports of switches; not carried out.
            network_interfaces: Vec<NetworkInterface>,
            /// Secret with the network configuration of the deploy agent.
            preprovisioning_network_data_name: Option<String>,
            /// Volumes of several disks.
            raid: Option<RaidConfig>,
            /// Which disk the image is written to.
            root_device_hints: Option<RootDeviceHints>,
            /// Has no effect, as with the peer.
            taints: Vec<Taint>,
            /// Secret with user data for the config drive.
            user_data: Option<SecretReference>,
        }
    }

    /// Where a BMC is and how to log in.
    pub struct BmcDetails {
        required {
            /// Its URL, such as `redfish-virtualmedia+https://192.0.2.7/redfish/v1/Systems/1`.
            address: String,
            /// Secret with `username` and `password`, and, for a BMC whose certificate is of an authority of one's own, `ca.crt`.
            credentials_name: String,
        }
        optional {
            /// Any certificate of the BMC is accepted.
            disable_certificate_verification: Option<bool>,
            /// SHA-256 of the only certificate of the BMC that is accepted, as 64 hexadecimal digits with or without colons. Ours alone.
            #[schemars(extend("pattern" = "^([sS][hH][aA]256:)?[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2}){31}$"))]
            certificate_fingerprint: Option<String>,
        }
    }

    /// A deployment other than by an image.
    pub struct CustomDeploy {
        required {
            /// Its name.
            method: String,
        }
    }

    /// Has no effect.
    pub struct FirmwareConfig {
        optional {
            /// Several threads for each core.
            simultaneous_multithreading_enabled: Option<bool>,
            /// Virtual functions of devices.
            sriov_enabled: Option<bool>,
            /// Virtualization.
            virtualization_enabled: Option<bool>,
        }
    }

    /// An image for a server.
    pub struct Image {
        required {
            /// Where it is.
            url: String,
        }
        optional {
            /// Its checksum, or the URL of a file with it.
            checksum: Option<String>,
            /// What kind of checksum: `md5`, `sha256`, `sha512` or `auto`.
            #[schemars(extend("enum" = ["md5", "sha256", "sha512", "auto"]))]
            checksum_type: Option<String>,
            /// What kind of image: `raw`, `qcow2`, `vdi`, `vmdk` or `live-iso`.
            #[schemars(extend("enum" = ["raw", "qcow2", "vdi", "vmdk", "live-iso"]))]
            format: Option<String>,
            /// Secret with the credentials of a registry.
            oci_auth_secret_name: Option<String>,
        }
    }

    /// A network interface and the port of a switch it is plugged into.
    pub struct NetworkInterface {
        optional {
            /// How the port is to be configured.
            host_network_attachment: Option<HostNetworkAttachmentRef>,
            /// MAC address.
            #[schemars(extend("pattern" = "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$"))]
            mac_address: Option<String>,
            /// Name.
            name: Option<String>,
            /// The port.
            switch_port: Option<SwitchPort>,
        }
    }

    /// Names a `HostNetworkAttachment`.
    pub struct HostNetworkAttachmentRef {
        optional {
            /// Name.
            name: Option<String>,
            /// Namespace.
            namespace: Option<String>,
        }
    }

    /// A port of a switch.
    pub struct SwitchPort {
        required {
            /// The port.
            #[serde(rename = "portID")]
            port_id: String,
            /// MAC address of the switch.
            #[serde(rename = "switchID")]
            switch_id: String,
        }
    }

    /// Which disk is meant. All that is given must fit; model and vendor as a part, everything else exactly.
    pub struct RootDeviceHints {
        optional {
            /// Linux' name for it, such as `/dev/sda`, or a name by its path.
            device_name: Option<String>,
            /// SCSI address, such as `0:0:0:0`.
            hctl: Option<String>,
            /// Least size in GB.
            #[schemars(extend("minimum" = 0))]
            min_size_gigabytes: Option<i64>,
            /// Part of the model.
            model: Option<String>,
            /// It turns.
            rotational: Option<bool>,
            /// Serial number.
            serial_number: Option<String>,
            /// Part of the vendor.
            vendor: Option<String>,
            /// World-wide name.
            wwn: Option<String>,
            /// Vendor's extension of the world-wide name.
            wwn_vendor_extension: Option<String>,
            /// World-wide name with the extension.
            wwn_with_extension: Option<String>,
        }
    }
}
