//! Bodies of the verbs in `subresources.kubevirt.io/v1`.

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
