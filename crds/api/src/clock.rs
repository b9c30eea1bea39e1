//! Guest clock and timers.

spec! {
    /// Guest clock: `timezone` or `utc`.
    pub struct Clock {
        optional {
            /// Timers.
            timer: Option<Timer>,
            /// Counts in this IANA time zone.
            timezone: Option<String>,
            /// Counts in UTC.
            utc: Option<ClockOffsetUtc>,
        }
    }

    /// Counts in UTC.
    pub struct ClockOffsetUtc {
        optional {
            /// Seconds to add; absent, the guest's own changes are forgotten at the next start.
            offset_seconds: Option<i32>,
        }
    }

    /// Timers; unset ones are left to the hypervisor.
    pub struct Timer {
        optional {
            /// High precision event timer.
            hpet: Option<HpetTimer>,
            /// Hyper-V reference time.
            hyperv: Option<HypervTimer>,
            /// KVM clock.
            kvm: Option<KvmTimer>,
            /// Programmable interval timer.
            pit: Option<PitTimer>,
            /// Real time clock.
            rtc: Option<RtcTimer>,
        }
    }

    /// High precision event timer.
    pub struct HpetTimer {
        optional {
            /// There or not; there by default.
            present: Option<bool>,
            /// Missed ticks: `delay`, `catchup`, `merge` or `discard`.
            tick_policy: Option<String>,
        }
    }

    /// Hyper-V reference time.
    pub struct HypervTimer {
        optional {
            /// There or not; there by default.
            present: Option<bool>,
        }
    }

    /// KVM clock.
    pub struct KvmTimer {
        optional {
            /// There or not; there by default.
            present: Option<bool>,
        }
    }

    /// Programmable interval timer.
    pub struct PitTimer {
        optional {
            /// There or not; there by default.
            present: Option<bool>,
            /// Missed ticks: `delay`, `catchup` or `discard`.
            tick_policy: Option<String>,
        }
    }

    /// Real time clock.
    pub struct RtcTimer {
        optional {
            /// There or not; there by default.
            present: Option<bool>,
            /// Missed ticks: `delay` or `catchup`.
            tick_policy: Option<String>,
            /// What it follows: `guest` or `wall`.
            track: Option<String>,
        }
    }
}
