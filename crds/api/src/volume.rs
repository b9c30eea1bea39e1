//! Volumes: where the bytes of a disk come from.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, LocalObjectReference};

use crate::wire::Quantity;

spec! {
    /// A volume: exactly one source.
    pub struct Volume {
        required {
            /// Name.
            name: String,
        }
        optional {
            /// cloud-init seed found as a config drive.
            cloud_init_config_drive: Option<CloudInitConfigDriveSource>,
            /// cloud-init seed found as NoCloud.
            cloud_init_no_cloud: Option<CloudInitNoCloudSource>,
            /// Keys of a ConfigMap as files.
            config_map: Option<ConfigMapVolumeSource>,
            /// A disk file in a container image.
            container_disk: Option<ContainerDiskSource>,
            /// The claim of that name, whoever has filled it.
            data_volume: Option<DataVolumeSource>,
            /// Fields of the instance as files.
            #[serde(rename = "downwardAPI")]
            downward_api: Option<DownwardApiVolumeSource>,
            /// A fresh empty disk.
            empty_disk: Option<EmptyDiskSource>,
            /// A claim's disk below a fresh overlay.
            ephemeral: Option<EphemeralVolumeSource>,
            /// A file of the host.
            host_disk: Option<HostDisk>,
            /// A claim's disk.
            persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
            /// Keys of a Secret as files.
            secret: Option<SecretVolumeSource>,
        }
    }

    /// cloud-init seed found as a config drive.
    pub struct CloudInitConfigDriveSource {
        optional {
            /// Network configuration.
            network_data: Option<String>,
            /// Network configuration in base64.
            network_data_base64: Option<String>,
            /// Secret with key `networkdata`.
            network_data_secret_ref: Option<LocalObjectReference>,
            /// Secret with key `userdata`.
            secret_ref: Option<LocalObjectReference>,
            /// User data.
            user_data: Option<String>,
            /// User data in base64.
            user_data_base64: Option<String>,
        }
    }

    /// cloud-init seed found as NoCloud.
    pub struct CloudInitNoCloudSource {
        optional {
            /// Network configuration.
            network_data: Option<String>,
            /// Network configuration in base64.
            network_data_base64: Option<String>,
            /// Secret with key `networkdata`.
            network_data_secret_ref: Option<LocalObjectReference>,
            /// Secret with key `userdata`.
            secret_ref: Option<LocalObjectReference>,
            /// User data.
            user_data: Option<String>,
            /// User data in base64.
            user_data_base64: Option<String>,
        }
    }

    /// Keys of a ConfigMap as files.
    pub struct ConfigMapVolumeSource {
        optional {
            /// Name of the ConfigMap.
            name: Option<String>,
            /// The disk is left out when the ConfigMap is missing.
            optional: Option<bool>,
            /// Label of the file system.
            volume_label: Option<String>,
        }
    }

    /// Keys of a Secret as files.
    pub struct SecretVolumeSource {
        optional {
            /// The disk is left out when the Secret is missing.
            optional: Option<bool>,
            /// Name of the Secret.
            secret_name: Option<String>,
            /// Label of the file system.
            volume_label: Option<String>,
        }
    }

    /// Fields of the instance as files.
    pub struct DownwardApiVolumeSource {
        optional {
            /// Files.
            fields: Vec<DownwardAPIVolumeFile>,
            /// Label of the file system.
            volume_label: Option<String>,
        }
    }

    /// A disk file in a container image.
    pub struct ContainerDiskSource {
        required {
            /// Image reference.
            image: String,
        }
        optional {
            /// `Always`, `IfNotPresent` or `Never`; `Always` by default for `:latest` and untagged images.
            image_pull_policy: Option<String>,
            /// Name of a pull Secret.
            image_pull_secret: Option<String>,
            /// Absolute path of the file in the image; the only file below `/disk` by default.
            path: Option<String>,
        }
    }

    /// The claim of that name, whoever has filled it.
    pub struct DataVolumeSource {
        required {
            /// Name of the claim.
            name: String,
        }
        optional {
            /// May be unplugged while the machine runs.
            hotpluggable: Option<bool>,
        }
    }

    /// A fresh empty disk.
    pub struct EmptyDiskSource {
        required {
            /// Size.
            capacity: Quantity,
        }
    }

    /// A claim's disk below a fresh overlay.
    pub struct EphemeralVolumeSource {
        optional {
            /// The claim.
            persistent_volume_claim: Option<EphemeralClaim>,
        }
    }

    /// The claim below an ephemeral volume.
    pub struct EphemeralClaim {
        required {
            /// Name of the claim.
            claim_name: String,
        }
        optional {
            /// Has no effect: the claim is never written.
            read_only: Option<bool>,
        }
    }

    /// A file of the host.
    pub struct HostDisk {
        required {
            /// Absolute path.
            path: String,
            /// `Disk` (must be there) or `DiskOrCreate`.
            #[serde(rename = "type")]
            type_: String,
        }
        optional {
            /// Size when it is made.
            capacity: Option<Quantity>,
            /// May be opened by several machines.
            shared: Option<bool>,
        }
    }

    /// A claim's disk.
    pub struct PersistentVolumeClaimVolumeSource {
        required {
            /// Name of the claim.
            claim_name: String,
        }
        optional {
            /// May be unplugged while the machine runs.
            hotpluggable: Option<bool>,
            /// Write protected.
            read_only: Option<bool>,
        }
    }
}
