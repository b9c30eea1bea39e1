//! Volumes of several disks.

use super::host::RootDeviceHints;

status! {
    /// Volumes of several disks.
    pub struct RaidConfig {
        optional {
            /// Made by a controller. An empty list deletes what there is.
            #[serde(rename = "hardwareRAIDVolumes")]
            hardware_raid_volumes: Option<Vec<HardwareRaidVolume>>,
            /// Made by Linux; two at most.
            #[serde(rename = "softwareRAIDVolumes")]
            #[schemars(extend("maxItems" = 2))]
            software_raid_volumes: Option<Vec<SoftwareRaidVolume>>,
        }
    }

    /// A volume that a controller makes.
    pub struct HardwareRaidVolume {
        required {
            /// `0`, `1`, `2`, `5`, `6`, `1+0`, `5+0` or `6+0`.
            #[schemars(extend("enum" = ["0", "1", "2", "5", "6", "1+0", "5+0", "6+0"]))]
            level: String,
        }
        optional {
            /// The controller.
            controller: Option<String>,
            /// Name.
            #[schemars(extend("maxLength" = 64))]
            name: Option<String>,
            /// How many disks.
            #[schemars(extend("minimum" = 1))]
            number_of_physical_disks: Option<i64>,
            /// The disks.
            physical_disks: Vec<String>,
            /// Disks that turn, or those that don't.
            rotational: Option<bool>,
            /// Size in GiB.
            #[schemars(extend("minimum" = 0))]
            size_gibibytes: Option<i64>,
        }
    }

    /// A volume that Linux makes.
    pub struct SoftwareRaidVolume {
        required {
            /// `0`, `1` or `1+0`.
            #[schemars(extend("enum" = ["0", "1", "1+0"]))]
            level: String,
        }
        optional {
            /// The disks.
            physical_disks: Vec<RootDeviceHints>,
            /// The operating system is on it.
            root_volume: Option<bool>,
            /// Size in GiB.
            #[schemars(extend("minimum" = 0))]
            size_gibibytes: Option<i64>,
        }
    }
}
