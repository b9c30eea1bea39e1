//! Who is logged in. In memory: a session ends with the process that holds it.
//!
//! ```text
//!  open ─▶ live ──(30 min without a request, 12 h in all, logout, 401 upstream, 16 newer ones)──▶ gone, its streams end
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backend::User;

/// Longest time between two requests of a session.
pub(crate) const IDLE: Duration = Duration::from_secs(30 * 60);
/// Longest life of a session.
pub(crate) const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions of one user; one more ends the one that was used least lately.
const PER_USER: usize = 16;

/// What a session may do, and how long.
#[derive(Clone)]
pub(crate) struct Session<C> {
    pub(crate) caller: C,
    pub(crate) user: User,
    /// Ends the streams of the session.
    pub(crate) ended: CancellationToken,
    begun: Instant,
    used: Instant,
}

impl<C> Session<C> {
    /// When it ends if it is not used again.
    pub(crate) fn expires(&self) -> Instant {
        (self.used + IDLE).min(self.begun + LIFE)
    }
}

/// Whether looking a session up counts as its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The user did something.
    Counts,
    /// The page did it by itself.
    DoesNotCount,
}

type Digest = [u8; 32];

/// All sessions, by the digest of their ids: an id cannot be found by how long a lookup takes, nor in a memory dump of the table.
pub(crate) struct Sessions<C> {
    table: Mutex<HashMap<Digest, Session<C>>>,
}

impl<C: Clone> Sessions<C> {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(HashMap::new()),
        }
    }

    /// Opens a session and returns its id: 244 random bits.
    pub(crate) fn open(&self, caller: C, user: User, now: Instant) -> String {
        let id = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut table = self.table();
        sweep(&mut table, now);
        let mut same: Vec<_> = table
            .iter()
            .filter(|(_, session)| session.user.name == user.name)
            .map(|(key, session)| (session.used, *key))
            .collect();
        same.sort_unstable();
        let surplus = (same.len() + 1).saturating_sub(PER_USER);
        for (_, key) in same.into_iter().take(surplus) {
            end(&mut table, &key);
        }
        table.insert(
            digest(&id),
            Session {
                caller,
                user,
                ended: CancellationToken::new(),
                begun: now,
                used: now,
            },
        );
        id
    }

    /// The session of an id, if it lives.
    pub(crate) fn find(&self, id: &str, using: Use, now: Instant) -> Option<Session<C>> {
        let mut table = self.table();
        sweep(&mut table, now);
        let session = table.get_mut(&digest(id))?;
        if using == Use::Counts {
            session.used = now;
        }
        Some(session.clone())
    }

    /// Ends a session. Nothing happens if there is none.
    pub(crate) fn close(&self, id: &str) {
        end(&mut self.table(), &digest(id));
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Digest, Session<C>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(id: &str) -> Digest {
    Sha256::digest(id.as_bytes()).into()
}

fn end<C>(table: &mut HashMap<Digest, Session<C>>, key: &Digest) {
    if let Some(session) = table.remove(key) {
        session.ended.cancel();
    }
}

fn sweep<C>(table: &mut HashMap<Digest, Session<C>>, now: Instant) {
    table.retain(|_, session| {
        let lives = now < session.expires();
        if !lives {
            session.ended.cancel();
        }
        lives
    });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{IDLE, LIFE, PER_USER, Sessions, Use};
    use crate::backend::User;

    const SECOND: Duration = Duration::from_secs(1);

    fn alice() -> User {
        User {
            name: "alice".to_owned(),
            groups: Vec::new(),
        }
    }

    #[test]
    fn a_session_that_is_not_used_ends_after_half_an_hour() {
        let (sessions, start) = (Sessions::new(), Instant::now());
        let id = sessions.open((), alice(), start);
        let last = start + IDLE - SECOND;
        assert!(sessions.find(&id, Use::DoesNotCount, last).is_some());
        assert!(sessions.find(&id, Use::Counts, start + IDLE).is_none());
    }

    #[test]
    fn a_session_in_use_ends_after_twelve_hours() {
        let (sessions, start) = (Sessions::new(), Instant::now());
        let id = sessions.open((), alice(), start);
        let mut now = start;
        while now + IDLE / 2 < start + LIFE {
            now += IDLE / 2;
            assert!(sessions.find(&id, Use::Counts, now).is_some());
        }
        assert!(sessions.find(&id, Use::Counts, start + LIFE).is_none());
    }

    #[test]
    fn a_closed_session_is_gone_and_its_streams_end() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let id = sessions.open((), alice(), now);
        let session = sessions.find(&id, Use::Counts, now).unwrap();
        sessions.close(&id);
        assert!(session.ended.is_cancelled());
        assert!(sessions.find(&id, Use::Counts, now).is_none());
    }

    #[test]
    fn one_session_too_many_ends_the_users_oldest_one() {
        let (sessions, start) = (Sessions::new(), Instant::now());
        let first = sessions.open((), alice(), start);
        let later = start + SECOND;
        let others: Vec<_> = (0..PER_USER)
            .map(|_| sessions.open((), alice(), later))
            .collect();
        assert!(sessions.find(&first, Use::Counts, later).is_none());
        assert!(
            others
                .iter()
                .all(|id| sessions.find(id, Use::Counts, later).is_some())
        );
    }

    #[test]
    fn another_id_finds_nothing() {
        let (sessions, now) = (Sessions::new(), Instant::now());
        let id = sessions.open((), alice(), now);
        assert!(sessions.find(&id[1..], Use::Counts, now).is_none());
        assert!(sessions.find("", Use::Counts, now).is_none());
    }
}
