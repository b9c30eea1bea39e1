//! Streams that are served once: the web console names each one that it opens, and whoever comes with the same name again is refused.
//!
//! Every stream of a machine passes the daemon of its node, whichever replica of the controller it comes from: this is the one place that
//! can tell whether a ticket of the console was used before.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a name is remembered: longer than a ticket is good, clocks that differ a little included.
const MEMORY: Duration = Duration::from_secs(120);
/// Longest name, bytes.
const NAME_BYTES: usize = 64;
/// Names that are remembered at once: far more than people open consoles.
const NAMES: usize = 16 * 1024;

/// The names that were used lately.
#[derive(Debug, Default)]
pub struct Once(Mutex<HashMap<String, Instant>>);

impl Once {
    /// Uses a name; false if it was used before, or can't be remembered.
    pub fn take(&self, name: &str, now: Instant) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, when| now.saturating_duration_since(*when) < MEMORY);
        name.len() <= NAME_BYTES
            && used.len() < NAMES
            && used.insert(name.to_owned(), now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{MEMORY, NAME_BYTES, Once};

    #[test]
    fn a_name_is_good_once_until_its_ticket_has_ended_long_ago() {
        let (once, now) = (Once::default(), Instant::now());
        assert!(once.take("a", now));
        assert!(!once.take("a", now));
        assert!(once.take("b", now));
        assert!(once.take("a", now + MEMORY));
    }

    #[test]
    fn a_name_without_end_is_refused() {
        let long = "a".repeat(NAME_BYTES + 1);
        assert!(!Once::default().take(&long, Instant::now()));
    }
}
