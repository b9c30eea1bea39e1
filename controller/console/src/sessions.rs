//! Who is logged in. The vault has the list, each cookie its session's token: any replica can go on with a session, and so can a replica that
//! was started anew.
//!
//! ```text
//!  open ─▶ live ──(30 min without a request, 12 h in all, logout, ended by another, 401 upstream, 16 newer ones)──▶ gone, its streams end
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Failure, User};
use crate::seal::{Key, Purpose, random_word};
use crate::vault::{Entry, Kept, Vault, nobody};

/// Longest time between two requests of a session, seconds.
const IDLE: u64 = 30 * 60;
/// Longest life of a session, seconds.
const LIFE: u64 = 12 * 60 * 60;
/// Sessions of one user; one more ends the one that was used least lately.
const PER_USER: usize = 16;
/// All sessions together, bytes: what keeps them may have 1 MiB, in base64.
const BYTES: usize = 512 * 1024;
/// How exactly the time of the last use is shared, seconds.
const SEEN: u64 = 60;
/// How old what is known of the vault may be.
const FRESH: Duration = Duration::from_secs(3);
/// How long sessions outlive a vault that does not answer.
const STALE: Duration = Duration::from_secs(60);
/// For one answer of the vault: everybody waits for it.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest token: its cookie must not be longer than browsers take (4096 bytes).
pub(crate) const TOKEN_BYTES: usize = 2800;

/// What a cookie seals.
#[derive(Serialize, Deserialize)]
struct Cookie {
    id: String,
    token: String,
}

/// What a session may do, and how long.
#[derive(Clone)]
pub(crate) struct Session<C> {
    pub(crate) id: String,
    pub(crate) caller: C,
    pub(crate) user: User,
    /// Ends the streams of the session.
    pub(crate) ended: CancellationToken,
}

/// Whether looking a session up counts as its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The user did something.
    Counts,
    /// The page did it by itself.
    DoesNotCount,
}

/// What this replica holds of a session that it serves.
struct Live<C> {
    caller: C,
    ended: CancellationToken,
}

/// All sessions.
pub(crate) struct Sessions<C, V> {
    vault: V,
    known: tokio::sync::Mutex<Option<(Instant, Arc<Kept>)>>,
    live: Mutex<HashMap<String, Live<C>>>,
    seen: Mutex<HashMap<String, u64>>,
}

impl<C: Clone, V: Vault> Sessions<C, V> {
    pub(crate) fn new(vault: V) -> Self {
        Self {
            vault,
            known: tokio::sync::Mutex::new(None),
            live: Mutex::new(HashMap::new()),
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// Opens a session and returns what its cookie holds.
    pub(crate) async fn open(&self, caller: C, user: User, token: &str) -> Result<String, Failure> {
        let now = now();
        let kept = self.kept(Duration::ZERO).await?;
        for id in surplus(&kept.sessions, &user.name, now) {
            self.close(&id).await?;
        }
        let no_random = |_| Failure::new(500, "the console has no random numbers");
        let cookie = Cookie {
            id: random_word().map_err(no_random)?,
            token: token.to_owned(),
        };
        let sealed = kept
            .key
            .seal(Purpose::Session, &cookie)
            .map_err(no_random)?;
        let entry = Entry {
            user,
            since: now,
            seen: now,
        };
        if bytes(kept.sessions.values()) + bytes([&entry]) > BYTES {
            let words = "more people are logged in than the console can keep: try again later";
            return Err(Failure::new(503, words));
        }
        self.vault.write(&cookie.id, Some(&entry)).await?;
        self.forget().await;
        let ended = CancellationToken::new();
        self.live().insert(cookie.id, Live { caller, ended });
        Ok(sealed)
    }

    /// The session of a cookie, if it lives.
    pub(crate) async fn find<B: Backend<Caller = C>>(
        &self,
        backend: &B,
        cookie: &str,
        using: Use,
    ) -> Result<Session<C>, Failure> {
        if cookie.is_empty() {
            return Err(nobody());
        }
        let kept = self.kept(FRESH).await?;
        let cookie: Cookie = kept.key.open(Purpose::Session, cookie).ok_or_else(nobody)?;
        let now = now();
        let (entry, shared) = match self.alive(&kept, &cookie.id, now) {
            Some(found) => found,
            // Another replica may have opened it just now.
            None => {
                let kept = self.kept(Duration::ZERO).await?;
                self.alive(&kept, &cookie.id, now).ok_or_else(nobody)?
            }
        };
        if using == Use::Counts {
            self.touch(&cookie.id, &entry, shared, now).await?;
        }
        let (caller, ended) = {
            let mut live = self.live();
            match live.get(&cookie.id) {
                Some(found) => (found.caller.clone(), found.ended.clone()),
                None => {
                    let caller = backend.resume(&cookie.token)?;
                    let ended = CancellationToken::new();
                    let found = Live {
                        caller: caller.clone(),
                        ended: ended.clone(),
                    };
                    live.insert(cookie.id.clone(), found);
                    (caller, ended)
                }
            }
        };
        Ok(Session {
            id: cookie.id,
            caller,
            user: entry.user,
            ended,
        })
    }

    /// The key that seals cookies and tickets.
    pub(crate) async fn key(&self) -> Result<Key, Failure> {
        Ok(self.kept(FRESH).await?.key.clone())
    }

    /// Whether a session lives still. Without an answer of the vault it does for a minute.
    pub(crate) async fn lives(&self, id: &str) -> bool {
        match self.kept(FRESH).await {
            Ok(kept) => self.alive(&kept, id, now()).is_some(),
            Err(_) => false,
        }
    }

    /// Completes when a session has ended.
    pub(crate) async fn end_of(&self, session: &Session<C>) {
        loop {
            tokio::select! {
                () = session.ended.cancelled() => return,
                () = tokio::time::sleep(FRESH) => if !self.lives(&session.id).await { return },
            }
        }
    }

    /// Ends a session on all replicas. Nothing happens if there is none.
    pub(crate) async fn close(&self, id: &str) -> Result<(), Failure> {
        self.cut(id);
        self.vault.write(id, None).await?;
        self.forget().await;
        Ok(())
    }

    /// All that live.
    pub(crate) async fn all(&self) -> Result<BTreeMap<String, Entry>, Failure> {
        let kept = self.kept(Duration::ZERO).await?;
        let now = now();
        Ok(kept
            .sessions
            .keys()
            .filter_map(|id| Some((id.clone(), self.alive(&kept, id, now)?.0)))
            .collect())
    }

    /// What the vault holds, at most that old.
    pub(crate) async fn kept(&self, age: Duration) -> Result<Arc<Kept>, Failure> {
        let mut known = self.known.lock().await;
        if let Some((read, kept)) = known.as_ref()
            && read.elapsed() < age
        {
            return Ok(kept.clone());
        }
        let read = tokio::time::timeout(ANSWER, self.vault.read());
        let read = read.await.unwrap_or_else(|_| {
            let words = "what the console shares with its replicas does not answer";
            Err(Failure::new(503, words))
        });
        match read {
            Ok(kept) => {
                let kept = Arc::new(kept);
                *known = Some((Instant::now(), kept.clone()));
                drop(known);
                self.sweep(&kept).await;
                Ok(kept)
            }
            Err(failure) => match known.as_ref() {
                Some((read, kept)) if !age.is_zero() && read.elapsed() < STALE => Ok(kept.clone()),
                _ => Err(failure),
            },
        }
    }

    /// Ends here what has ended elsewhere, and everywhere what has run out.
    async fn sweep(&self, kept: &Kept) {
        let now = now();
        let gone: Vec<_> = {
            let live = self.live();
            live.keys()
                .filter(|id| self.alive(kept, id, now).is_none())
                .cloned()
                .collect()
        };
        for id in gone {
            self.cut(&id);
        }
        let over = kept
            .sessions
            .iter()
            .filter(|(id, _)| self.alive(kept, id, now).is_none());
        for (id, _) in over {
            // Another replica does it otherwise.
            let _ = self.vault.write(id, None).await;
        }
    }

    /// A session that lives, and the time of its last use as all replicas know it.
    fn alive(&self, kept: &Kept, id: &str, now: u64) -> Option<(Entry, u64)> {
        let mut entry = kept.sessions.get(id)?.clone();
        let shared = entry.seen;
        if let Some(seen) = self.seen().get(id) {
            entry.seen = entry.seen.max(*seen);
        }
        alive(&entry, now).then_some((entry, shared))
    }

    async fn touch(&self, id: &str, entry: &Entry, shared: u64, now: u64) -> Result<(), Failure> {
        self.seen().insert(id.to_owned(), now);
        if now < shared + SEEN {
            return Ok(());
        }
        let entry = Entry {
            seen: now,
            ..entry.clone()
        };
        let said = self.vault.touch(id, &entry).await;
        self.forget().await;
        said
    }

    /// The user of a session has done something on one of its streams.
    pub(crate) async fn used(&self, id: &str) {
        let Ok(kept) = self.kept(FRESH).await else {
            return;
        };
        let now = now();
        if let Some((entry, shared)) = self.alive(&kept, id, now) {
            // The next use tries again.
            let _ = self.touch(id, &entry, shared, now).await;
        }
    }

    async fn forget(&self) {
        *self.known.lock().await = None;
    }

    fn cut(&self, id: &str) {
        if let Some(found) = self.live().remove(id) {
            found.ended.cancel();
        }
        self.seen().remove(id);
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Live<C>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive(entry: &Entry, now: u64) -> bool {
    now < entry.seen + IDLE && now < entry.since + LIFE
}

/// How long sessions are as they are kept.
fn bytes<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> usize {
    let json = |entry| serde_json::to_string(entry).map_or(0, |json| json.len());
    entries.into_iter().map(json).sum()
}

/// Which sessions of a user end so that there is room for one more.
fn surplus(sessions: &BTreeMap<String, Entry>, user: &str, now: u64) -> Vec<String> {
    let mut same: Vec<_> = sessions
        .iter()
        .filter(|(_, entry)| entry.user.name == user && alive(entry, now))
        .map(|(id, entry)| (entry.seen, id))
        .collect();
    same.sort_unstable();
    let surplus = (same.len() + 1).saturating_sub(PER_USER);
    let ids = same.into_iter().take(surplus);
    ids.map(|(_, id)| id.clone()).collect()
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{IDLE, LIFE, PER_USER, alive, surplus};
    use crate::backend::User;
    use crate::vault::Entry;

    fn entry(since: u64, seen: u64) -> Entry {
        Entry {
            user: User {
                name: "alice".to_owned(),
                groups: Vec::new(),
            },
            since,
            seen,
        }
    }

    #[test]
    fn a_session_that_is_not_used_ends_after_half_an_hour() {
        assert!(alive(&entry(100, 100), 100 + IDLE - 1));
        assert!(!alive(&entry(100, 100), 100 + IDLE));
    }

    #[test]
    fn a_session_in_use_ends_after_twelve_hours() {
        let end = 100 + LIFE;
        assert!(alive(&entry(100, end - 1), end - 1));
        assert!(!alive(&entry(100, end - 1), end));
    }

    #[test]
    fn one_session_too_many_ends_the_users_one_that_was_used_least_lately() {
        let mut sessions: BTreeMap<_, _> = (0..PER_USER as u64)
            .map(|number| (format!("s{number}"), entry(100, 1000 - number)))
            .collect();
        let last = format!("s{}", PER_USER - 1);
        assert_eq!(
            surplus(&sessions, "alice", 1001),
            std::slice::from_ref(&last)
        );
        assert!(surplus(&sessions, "bob", 1001).is_empty());
        sessions.remove(&last);
        assert!(surplus(&sessions, "alice", 1001).is_empty());
    }
}
