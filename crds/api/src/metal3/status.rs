//! What a server is.

use k8s_openapi::api::core::v1::SecretReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::hardware::HardwareDetails;
use super::host::{CustomDeploy, FirmwareConfig, Image, RootDeviceHints};
use super::raid::RaidConfig;

status! {
    /// What a server is.
    pub struct BareMetalHostStatus {
        required {
            /// Failures in a row.
            error_count: i64,
            /// What went wrong last; empty when nothing is wrong.
            error_message: String,
            /// `OK`, `discovered`, `error`, `delayed`, `detached` or `servicing`.
            #[schemars(extend("enum" = ["", "OK", "discovered", "error", "delayed", "detached", "servicing"]))]
            operational_status: String,
            /// It was on when it was looked at last.
            powered_on: bool,
            /// How far it is.
            provisioning: ProvisionStatus,
            /// Provisionings that failed.
            provisioning_fail_count: i64,
        }
        optional {
            /// Conditions, one of each type.
            #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "maxItems" = 32))]
            conditions: Vec<Condition>,
            /// What kind of thing went wrong last.
            #[schemars(extend("enum" = [
                "provisioned registration error", "registration error", "inspection error", "preparation error", "provisioning error",
                "power management error", "servicing error"
            ]))]
            error_type: Option<String>,
            /// The credentials that worked last.
            good_credentials: Option<CredentialsStatus>,
            /// What it is made of; a copy of what `HardwareData` keeps.
            hardware: Option<HardwareDetails>,
            /// Has no meaning, as with the peer.
            hardware_profile: Option<String>,
            /// The image that was tried last.
            last_attempted_image: Option<Image>,
            /// When this was written last.
            last_updated: Option<Time>,
            /// When what was done last.
            operation_history: Option<OperationHistory>,
            /// The credentials that were tried last.
            tried_credentials: Option<CredentialsStatus>,
        }
    }

    /// Credentials at one moment.
    pub struct CredentialsStatus {
        optional {
            /// The Secret.
            credentials: Option<SecretReference>,
            /// Its version.
            credentials_version: Option<String>,
        }
    }

    /// How far a server is, and what it was given.
    pub struct ProvisionStatus {
        required {
            /// The system's UUID as its BMC says; empty where it says none.
            #[serde(rename = "ID")]
            id: String,
            /// `registering`, `inspecting`, `available`, …
            state: String,
        }
        optional {
            /// How it boots.
            #[schemars(extend("enum" = ["UEFI", "UEFISecureBoot", "legacy"]))]
            boot_mode: Option<String>,
            /// The deployment.
            custom_deploy: Option<CustomDeploy>,
            /// Has no meaning.
            firmware: Option<FirmwareConfig>,
            /// The image it has.
            image: Option<Image>,
            /// Its volumes of several disks.
            raid: Option<RaidConfig>,
            /// The disk that was asked for.
            root_device_hints: Option<RootDeviceHints>,
            /// Since when it is in this state. Ours alone.
            state_since: Option<Time>,
        }
    }

    /// When what was done last.
    pub struct OperationHistory {
        optional {
            /// The last use was ended.
            deprovision: Option<OperationTime>,
            /// It was looked at.
            inspect: Option<OperationTime>,
            /// It was given an image.
            provision: Option<OperationTime>,
            /// The BMC was reached for the first time.
            register: Option<OperationTime>,
        }
    }

    /// From when to when.
    pub struct OperationTime {
        optional {
            /// End; absent while it lasts.
            end: Option<Time>,
            /// Beginning.
            start: Option<Time>,
        }
    }
}
