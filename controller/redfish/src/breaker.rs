//! Stops asking a BMC that does not answer, for a while: a thousand hosts must not wait for one.

use std::time::Duration;

use tokio::time::Instant;

/// Counts failures to reach a BMC.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    until: Option<Instant>,
    last: String,
}

/// Why a request is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Suspension {
    pub(crate) failures: u32,
    pub(crate) next_try: Duration,
    pub(crate) last: String,
}

impl Breaker {
    /// Whether requests are to fail at once.
    pub(crate) fn check(&self, now: Instant) -> Option<Suspension> {
        let next_try = self.until?.checked_duration_since(now)?;
        (!next_try.is_zero()).then(|| Suspension {
            failures: self.failures,
            next_try,
            last: self.last.clone(),
        })
    }

    /// The BMC answered, whatever it said.
    pub(crate) fn reached(&mut self) {
        *self = Self::default();
    }

    /// The BMC could not be reached.
    pub(crate) fn failed(&mut self, now: Instant, after: u32, pause: Duration, last: String) {
        self.failures += 1;
        self.last = last;
        if self.failures >= after {
            self.until = Some(now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn third_failure_suspends_for_a_while_and_an_answer_ends_it() {
        let (mut breaker, now, pause) =
            (Breaker::default(), Instant::now(), Duration::from_secs(30));
        for _ in 0..2 {
            breaker.failed(now, 3, pause, "refused".to_owned());
            assert_eq!(breaker.check(now), None);
        }
        breaker.failed(now, 3, pause, "refused".to_owned());
        assert_eq!(breaker.check(now).unwrap().failures, 3);
        assert_eq!(breaker.check(now + pause), None, "one try is let through");
        breaker.failed(now + pause, 3, pause, "refused".to_owned());
        assert!(breaker.check(now + pause).is_some());
        breaker.reached();
        assert_eq!(breaker.check(now + pause), None);
    }
}
