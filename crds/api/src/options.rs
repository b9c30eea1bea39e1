//! Bodies of the verbs in `subresources.kubevirt.io/v1`.

use crate::disk::Disk;
use crate::volume::{DataVolumeSource, PersistentVolumeClaimVolumeSource};

status! {
    /// Body of `start`.
    pub struct StartOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
            /// Start paused.
            paused: Option<bool>,
        }
    }

    /// Body of `stop`.
    pub struct StopOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
            /// Seconds between the power button and the kill.
            grace_period: Option<i64>,
        }
    }

    /// Body of `restart`.
    pub struct RestartOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
            /// Absent or 0: 0 kills at once.
            grace_period_seconds: Option<i64>,
        }
    }

    /// Body of `addvolume`.
    pub struct AddVolumeOptions {
        optional {
            /// What the guest sees.
            disk: Option<Disk>,
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
            /// Name of the volume and its disk.
            name: Option<String>,
            /// Where the bytes come from.
            volume_source: Option<HotplugVolumeSource>,
        }
    }

    /// What can be plugged into a running machine; one of them.
    pub struct HotplugVolumeSource {
        optional {
            /// The claim of that name, whoever has filled it.
            data_volume: Option<DataVolumeSource>,
            /// A claim.
            persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        }
    }

    /// Body of `removevolume`.
    pub struct RemoveVolumeOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
            /// Name of the volume.
            name: Option<String>,
        }
    }

    /// Body of `pause`.
    pub struct PauseOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
        }
    }

    /// Body of `unpause`.
    pub struct UnpauseOptions {
        optional {
            /// `["All"]` changes nothing.
            dry_run: Vec<String>,
        }
    }
}
