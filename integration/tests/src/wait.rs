//! Waiting for conditions. No test sleeps for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Deadline for a guest to boot: emulated, on two cores that are shared with other builds.
pub const BOOT: Duration = Duration::from_secs(150);
/// Deadline for what takes no boot.
pub const SHORT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What a look at the world found.
pub enum Seen<T> {
    /// The condition holds.
    Yes(T),
    /// Not yet; this is how things stand.
    NotYet(String),
}

impl Seen<()> {
    /// A condition without a value.
    pub fn when(holds: bool, state: impl Into<String>) -> Self {
        if holds {
            Self::Yes(())
        } else {
            Self::NotYet(state.into())
        }
    }
}

/// Looks again and again until the condition holds. A failed look counts as "not yet".
///
/// # Errors
/// When it does not hold in time; the error holds what was seen last.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let last = match look() {
            Ok(Seen::Yes(value)) => return Ok(value),
            Ok(Seen::NotYet(state)) => state,
            Err(error) => format!("error: {error:#}"),
        };
        if Instant::now() >= end {
            bail!(
                "not within {} s: {what}; at last: {last}",
                deadline.as_secs()
            );
        }
        thread::sleep(LOOK);
    }
}
