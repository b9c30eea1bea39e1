//! How long after a failure the same step is tried again.

use crate::facts::Seconds;

/// Pause after the first failure; doubles.
const FIRST: Seconds = 10;
/// Longest pause, without jitter.
const LONGEST: Seconds = 1800;

/// Pause after so many failures in a row: exponential, with up to a quarter more that differs from host to host, so that a thousand hosts behind
/// one broken switch are not asked in the same second.
pub(crate) fn pause(failures: i64, uid: &str) -> Seconds {
    let doublings = u32::try_from(failures.clamp(1, 9) - 1).unwrap_or(0);
    let pause = (FIRST << doublings).min(LONGEST);
    pause + pause * jitter(uid) / 4000
}

/// From 0 to 999, always the same for one host.
pub(crate) fn jitter(uid: &str) -> Seconds {
    let sum = uid.bytes().fold(7_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    Seconds::from(sum % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_an_hour_and_differ_by_a_quarter_at_most() {
        let all: Vec<_> = [1, 2, 3, 8, 9, 100].map(|n| pause(n, "")).into();
        assert_eq!(all, [10, 20, 40, 1282, 1803, 1803]);
        for uid in ["a", "b", "7b0c"] {
            let pause = pause(9, uid);
            assert!((1800..2250).contains(&pause), "{pause}");
        }
    }
}
