//! What a reading may still cost: time, bytes and steps. Everything that touches guest memory pays here first.

use std::time::{Duration, Instant};

use super::{DmesgError, Limits};

/// Free steps (values that were in the cache) between two looks at the clock.
const STEPS_PER_CLOCK: u64 = 256;

/// The rest of a budget.
#[derive(Debug)]
pub(super) struct Budget {
    started: Instant,
    time: Duration,
    bytes: u64,
    steps: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Budget {
        Budget {
            started: Instant::now(),
            time: limits.time,
            bytes: limits.bytes,
            steps: limits.steps,
        }
    }

    /// Pays for a read of `bytes` from the file.
    pub(super) fn pay_read(&mut self, bytes: u64) -> Result<(), DmesgError> {
        self.bytes = self
            .bytes
            .checked_sub(bytes)
            .ok_or(DmesgError::OverBudget { limit: "bytes" })?;
        self.pay_step()?;
        self.check_clock()
    }

    /// Pays for using one value.
    pub(super) fn pay_step(&mut self) -> Result<(), DmesgError> {
        self.steps = self
            .steps
            .checked_sub(1)
            .ok_or(DmesgError::OverBudget { limit: "steps" })?;
        if self.steps.is_multiple_of(STEPS_PER_CLOCK) {
            self.check_clock()
        } else {
            Ok(())
        }
    }

    /// Whether a quarter of the time is gone: as much goes into looking whether there is a newer log than the one in hand.
    pub(super) fn quarter_spent(&self) -> bool {
        self.started.elapsed() > self.time / 4
    }

    fn check_clock(&self) -> Result<(), DmesgError> {
        if self.started.elapsed() > self.time {
            Err(DmesgError::OverBudget { limit: "time" })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_steps_and_time_run_out() {
        let mut budget = Budget::new(&Limits {
            bytes: 100,
            ..Limits::default()
        });
        assert!(budget.pay_read(100).is_ok());
        assert!(matches!(
            budget.pay_read(1),
            Err(DmesgError::OverBudget { limit: "bytes" })
        ));

        let mut budget = Budget::new(&Limits {
            steps: 2,
            ..Limits::default()
        });
        assert!(budget.pay_step().is_ok() && budget.pay_step().is_ok());
        assert!(matches!(
            budget.pay_step(),
            Err(DmesgError::OverBudget { limit: "steps" })
        ));

        let mut budget = Budget::new(&Limits {
            time: Duration::ZERO,
            ..Limits::default()
        });
        assert!(matches!(
            budget.pay_read(1),
            Err(DmesgError::OverBudget { limit: "time" })
        ));
    }
}
