//! Back-off of machines that fail again and again.
//!
//! Counted is a run that ended without ever being Running, and one that ended within five minutes of it: a guest that boots and dies must
//! not be started in a tight loop. Five minutes of running or a changed spec clear the count. Where the first
//! failure of a row is a guest that had been Running, it is started again at once: it may have been killed, and whoever used it waits.

use catamaran_api::VirtualMachineStartFailure;
use serde::{Deserialize, Serialize};

use crate::phase::Phase;
use crate::strategy::RunStrategy;
use crate::time::{Seconds, from_time, to_time};
use crate::view::{VmView, VmiView};

/// A guest that has run for so many seconds has not failed to start.
pub const STABLE_SECONDS: Seconds = 300;
/// No delay is longer, jitter included.
const LONGEST_SECONDS: Seconds = 300;
/// The first delay; the n-th is n² times as long.
const FIRST_SECONDS: Seconds = 10;

/// Failed runs in a row; stored by the shell with the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOff {
    /// How many.
    pub consecutive: u32,
    /// UID of the last run that was counted.
    pub last_failed_uid: Option<String>,
    /// No new run before.
    pub retry_after: Option<Seconds>,
    /// Digest of the template that failed.
    pub spec_digest: String,
}

impl BackOff {
    /// What it is after looking at the machine and its run.
    #[must_use]
    pub(crate) fn next(
        &self,
        vm: &VmView,
        vmi: Option<&VmiView>,
        jitter_permille: u32,
        now: Seconds,
    ) -> Self {
        if !vm.run_strategy.starts_by_itself()
            || self.consecutive > 0 && self.spec_digest != vm.spec_digest
        {
            // The run that was counted last is not counted again.
            let cleared = Self {
                last_failed_uid: self.last_failed_uid.clone(),
                ..Self::default()
            };
            return match vmi {
                Some(vmi) => cleared.count(vm, vmi, jitter_permille, now),
                None => cleared,
            };
        }
        let Some(vmi) = vmi else { return self.clone() };
        if vmi.phase == Phase::Running && ran_for(vmi, now) >= STABLE_SECONDS {
            return Self::default();
        }
        self.count(vm, vmi, jitter_permille, now)
    }

    fn count(&self, vm: &VmView, vmi: &VmiView, jitter_permille: u32, now: Seconds) -> Self {
        let counted = self.last_failed_uid.as_ref() == Some(&vmi.uid);
        // A guest that shut itself down, and is not to run again by itself, has ended the row of failures.
        if vmi.phase == Phase::Succeeded && vm.run_strategy != RunStrategy::Always {
            return Self {
                last_failed_uid: self.last_failed_uid.clone(),
                ..Self::default()
            };
        }
        // A run that somebody ended has not failed. A clean end is a failure only where the machine is always to run.
        let ended = vmi.phase == Phase::Failed
            || vmi.phase == Phase::Succeeded && vm.run_strategy == RunStrategy::Always;
        if counted || !ended || vmi.deleting || vmi.evicted || !vm.run_strategy.starts_by_itself() {
            return self.clone();
        }
        if ran_for(vmi, now) >= STABLE_SECONDS {
            return Self::default();
        }
        let consecutive = self.consecutive.saturating_add(1);
        let delays = match vmi.running_since {
            Some(_) => self.consecutive,
            None => consecutive,
        };
        Self {
            consecutive,
            last_failed_uid: Some(vmi.uid.clone()),
            retry_after: Some(now.saturating_add(delay(delays, jitter_permille))),
            spec_digest: vm.spec_digest.clone(),
        }
    }

    /// As written in `status.startFailure`; `None` when nothing failed.
    #[must_use]
    pub fn to_wire(&self) -> Option<VirtualMachineStartFailure> {
        (self.consecutive > 0).then(|| VirtualMachineStartFailure {
            consecutive_fail_count: Some(i32::try_from(self.consecutive).unwrap_or(i32::MAX)),
            last_failed_vmi_uid: self.last_failed_uid.clone(),
            retry_after_timestamp: self.retry_after.map(to_time),
            spec_digest: Some(self.spec_digest.clone()),
        })
    }

    /// From `status.startFailure`, for a shell that has no other place for it.
    #[must_use]
    pub fn from_wire(wire: Option<&VirtualMachineStartFailure>) -> Self {
        let Some(wire) = wire else {
            return Self::default();
        };
        Self {
            consecutive: wire
                .consecutive_fail_count
                .and_then(|count| u32::try_from(count).ok())
                .unwrap_or(0),
            last_failed_uid: wire.last_failed_vmi_uid.clone(),
            retry_after: wire.retry_after_timestamp.as_ref().map(from_time),
            spec_digest: wire.spec_digest.clone().unwrap_or_default(),
        }
    }
}

/// Seconds from Running to the end, or to now; 0 when it never was Running.
fn ran_for(vmi: &VmiView, now: Seconds) -> Seconds {
    vmi.running_since
        .map_or(0, |since| vmi.ended_at.unwrap_or(now).saturating_sub(since))
}

/// The n-th: `10 s × n²` and up to half as much again, at most 300 s.
fn delay(n: u32, jitter_permille: u32) -> Seconds {
    let n = Seconds::from(n);
    let base = FIRST_SECONDS
        .saturating_mul(n.saturating_mul(n))
        .min(LONGEST_SECONDS);
    let jitter = base * Seconds::from(jitter_permille.min(1000)) / 2000;
    (base + jitter).min(LONGEST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::{BackOff, delay};

    #[test]
    fn a_back_off_survives_being_written() {
        let back_off = BackOff {
            consecutive: 2,
            last_failed_uid: Some("u".to_owned()),
            retry_after: Some(1_700_000_000),
            spec_digest: "d".to_owned(),
        };
        assert_eq!(BackOff::from_wire(back_off.to_wire().as_ref()), back_off);
        assert_eq!(BackOff::from_wire(None), BackOff::default());
    }

    #[test]
    fn delays_grow_with_the_square_and_end_at_five_minutes() {
        for (n, least, most) in [
            (0, 0, 0),
            (1, 10, 15),
            (2, 40, 60),
            (3, 90, 135),
            (4, 160, 240),
            (5, 250, 300),
            (6, 300, 300),
            (u32::MAX, 300, 300),
        ] {
            assert_eq!((delay(n, 0), delay(n, 1000)), (least, most), "{n}");
        }
    }
}
