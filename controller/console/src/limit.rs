//! How often somebody may try to log in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed attempts in a row that cost nothing.
const BURST: u32 = 10;
/// After this one more is forgiven.
const REFILL: Duration = Duration::from_secs(6);
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// Failed attempts by address.
#[derive(Debug, Default)]
pub(crate) struct Limit(Mutex<HashMap<Option<IpAddr>, (u32, Instant)>>);

impl Limit {
    /// Seconds to wait before the next attempt; none if it may be made now.
    pub(crate) fn wait(&self, from: Option<IpAddr>, now: Instant) -> Option<u64> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (failed, last) = table.get(&from)?;
        let open = forgiven(*failed, *last, now);
        let waited = now.saturating_duration_since(*last).as_secs() % REFILL.as_secs();
        (open >= BURST).then(|| REFILL.as_secs() - waited)
    }

    /// An attempt has failed.
    pub(crate) fn failed(&self, from: Option<IpAddr>, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= ADDRESSES {
            table.retain(|_, (failed, last)| forgiven(*failed, *last, now) > 0);
        }
        if table.len() >= ADDRESSES {
            // Whoever has as many addresses is not held up by this, and nobody else must be.
            table.clear();
        }
        let entry = table.entry(from).or_insert((0, now));
        *entry = (forgiven(entry.0, entry.1, now).saturating_add(1), now);
    }
}

/// Failures that count still.
fn forgiven(failed: u32, last: Instant, now: Instant) -> u32 {
    let refills = now.saturating_duration_since(last).as_secs() / REFILL.as_secs();
    failed.saturating_sub(u32::try_from(refills).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ADDRESSES, BURST, Limit, REFILL};

    #[test]
    fn after_ten_failures_an_address_has_to_wait_and_the_others_do_not() {
        let (limit, now) = (Limit::default(), Instant::now());
        let here = Some([10, 0, 0, 1].into());
        for _ in 0..BURST {
            assert_eq!(limit.wait(here, now), None);
            limit.failed(here, now);
        }
        assert_eq!(limit.wait(here, now), Some(REFILL.as_secs()));
        assert_eq!(limit.wait(Some([10, 0, 0, 2].into()), now), None);
        assert_eq!(limit.wait(here, now + REFILL), None);
        limit.failed(here, now + REFILL);
        assert!(limit.wait(here, now + REFILL).is_some());
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let (limit, now) = (Limit::default(), Instant::now());
        for number in 0..=ADDRESSES as u32 {
            limit.failed(Some(number.to_be_bytes().into()), now);
        }
        assert!(limit.0.lock().unwrap().len() <= ADDRESSES);
        limit.failed(None, now + Duration::from_secs(3600));
    }
}
