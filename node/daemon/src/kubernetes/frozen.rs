//! Guests whose file systems are frozen, and until when.
//!
//! That a guest is frozen stands in its object's status, so that a daemon that begins anew knows it; only the limit that was asked for is kept
//! here. Without one that is remembered the guest is thawed after [`LIMIT`]: a backup that has died must not stop a guest's writes for ever.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use catamaran_wire::Verb;
use uuid::Uuid;

use crate::kubernetes::world::agent;

/// How long file systems stay frozen unless the caller says otherwise.
pub const LIMIT: Duration = Duration::from_secs(300);
/// Seconds that the guest agent has for freezing, which waits for writes, and for thawing.
const SECONDS: u32 = 60;
/// What the status says of a frozen guest.
pub const STATUS: &str = "frozen";

/// Has the guest write what it has and then nothing more.
#[must_use]
pub fn freeze() -> Verb {
    agent("guest-fsfreeze-freeze", SECONDS)
}

/// Lets the guest write again.
#[must_use]
pub fn thaw() -> Verb {
    agent("guest-fsfreeze-thaw", SECONDS)
}

/// When frozen guests are thawed, by the `uid` of their instances; `None`: when somebody asks.
#[derive(Debug, Default)]
pub struct Frozen(Mutex<HashMap<Uuid, Option<Instant>>>);

impl Frozen {
    /// A guest was frozen. A limit of zero is none.
    pub fn set(&self, uid: Uuid, now: Instant, limit: Duration) {
        let due = (!limit.is_zero()).then(|| now + limit);
        self.lock().insert(uid, due);
    }

    /// A guest was thawed, or is gone.
    pub fn forget(&self, uid: Uuid) {
        self.lock().remove(&uid);
    }

    /// When a guest that is frozen is thawed.
    pub fn due(&self, uid: Uuid, now: Instant) -> Option<Instant> {
        *self.lock().entry(uid).or_insert(Some(now + LIMIT))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Option<Instant>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_guest_is_thawed_at_its_limit_or_when_asked() {
        let (frozen, uid, now) = (Frozen::default(), Uuid::new_v4(), Instant::now());
        let second = Duration::from_secs(1);
        frozen.set(uid, now, second);
        assert_eq!(frozen.due(uid, now), Some(now + second));
        frozen.set(uid, now, Duration::ZERO);
        assert_eq!(frozen.due(uid, now), None);
    }

    #[test]
    fn a_guest_frozen_before_this_daemon_began_has_five_minutes_from_now() {
        let (frozen, uid, now) = (Frozen::default(), Uuid::new_v4(), Instant::now());
        assert_eq!(frozen.due(uid, now), Some(now + LIMIT));
        let later = now + Duration::from_secs(9);
        assert_eq!(
            frozen.due(uid, later),
            Some(now + LIMIT),
            "it must not move on"
        );
    }
}
