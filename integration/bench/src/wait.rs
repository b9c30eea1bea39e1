//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks. Short, since it is the error of what is measured.
const STEP: Duration = Duration::from_millis(2);

/// Looks until there is something, at most for `limit`.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    every(STEP, what, limit, look)
}

/// As [`until`], with longer pauses, for looks that are not cheap.
pub(crate) fn every<T>(
    step: Duration,
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("no {what} within {} s", limit.as_secs());
        }
        std::thread::sleep(step);
    }
}
