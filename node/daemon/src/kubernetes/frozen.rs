//! Guests whose file systems are frozen, and until when.
//!
//! That a guest is frozen stands in its object's status, so that a daemon that begins anew knows it; only the limit that was asked for is kept
//! here. Without one that is remembered the guest is thawed after [`LIMIT`]: a backup that has died must not stop a guest's writes for ever.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use catamaran_wire::Verb;
use tokio::sync::watch;
use uuid::Uuid;

use crate::kubernetes::world::agent;

/// How long file systems stay frozen unless the caller says otherwise.
pub const LIMIT: Duration = Duration::from_secs(300);
/// The longest limit.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Seconds that the guest agent has for freezing, which waits for writes, and for thawing.
const SECONDS: u32 = 60;
/// The same for saying whether it is.
const STATUS_SECONDS: u32 = 10;
/// What the status says of a frozen guest.
pub const STATUS: &str = "frozen";

/// Has the guest write what it has and then nothing more.
#[must_use]
pub fn freeze() -> Verb {
    agent("guest-fsfreeze-freeze", SECONDS)
}

/// Asks whether the guest is frozen.
#[must_use]
pub fn status() -> Verb {
    agent("guest-fsfreeze-status", STATUS_SECONDS)
}

/// Lets the guest write again.
#[must_use]
pub fn thaw() -> Verb {
    agent("guest-fsfreeze-thaw", SECONDS)
}

/// When frozen guests are thawed, by the `uid` of their instances; `None`: when somebody asks.
#[derive(Debug, Default)]
pub struct Frozen {
    due: Mutex<HashMap<Uuid, Option<Instant>>>,
    ended: watch::Sender<()>,
}

impl Frozen {
    /// A guest is being frozen. A limit of zero is none.
    pub fn set(&self, uid: Uuid, now: Instant, limit: Duration) {
        let due = (!limit.is_zero()).then(|| now + limit.min(LONGEST));
        self.lock().insert(uid, due);
    }

    /// A guest may be frozen, and is to be thawed now.
    pub fn end(&self, uid: Uuid, now: Instant) {
        self.lock().insert(uid, Some(now));
        self.ended.send_replace(());
    }

    /// Changes whenever a guest is to be thawed at once.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// A guest was thawed, or is gone.
    pub fn forget(&self, uid: Uuid) {
        self.lock().remove(&uid);
    }

    /// A guest was thawed that was due then; somebody may have frozen it again meanwhile.
    pub fn forget_due(&self, uid: Uuid, due: Option<Instant>) {
        let mut all = self.lock();
        if all.get(&uid) == Some(&due) {
            all.remove(&uid);
        }
    }

    /// Whether a limit is known, and so somebody has asked for it since.
    #[must_use]
    pub fn knows(&self, uid: Uuid) -> bool {
        self.lock().contains_key(&uid)
    }

    /// When a guest that is frozen is thawed.
    pub fn due(&self, uid: Uuid, now: Instant) -> Option<Instant> {
        *self.lock().entry(uid).or_insert(Some(now + LIMIT))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Option<Instant>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
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
        frozen.set(uid, now, Duration::MAX);
        assert_eq!(frozen.due(uid, now), Some(now + LONGEST));
        frozen.end(uid, now);
        assert_eq!(frozen.due(uid, now), Some(now));
    }

    #[test]
    fn a_guest_that_is_frozen_again_while_it_is_thawed_is_not_forgotten() {
        let (frozen, uid, now) = (Frozen::default(), Uuid::new_v4(), Instant::now());
        frozen.end(uid, now);
        frozen.set(uid, now, LIMIT);
        frozen.forget_due(uid, Some(now));
        assert!(frozen.knows(uid));
        frozen.forget_due(uid, Some(now + LIMIT));
        assert!(!frozen.knows(uid));
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
