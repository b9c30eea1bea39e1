//! A BMC's small table of sessions.

use std::time::Duration;

use tokio::time::Instant;

/// Sessions that are open.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Vec<Session>,
    made: u64,
}

#[derive(Debug)]
struct Session {
    id: u64,
    token: String,
    used: Instant,
}

/// How long a session may be idle.
const IDLE: Duration = Duration::from_secs(1800);

impl Sessions {
    /// Opens a session: its id and token; none when the table is full.
    pub(crate) fn open(&mut self, limit: usize) -> Option<(u64, String)> {
        self.open.retain(|session| session.used.elapsed() < IDLE);
        if self.open.len() >= limit {
            return None;
        }
        self.made += 1;
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.open.push(Session {
            id: self.made,
            token: token.clone(),
            used: Instant::now(),
        });
        Some((self.made, token))
    }

    /// Whether a token is that of an open session.
    pub(crate) fn accepts(&mut self, token: &str) -> bool {
        let found = self.open.iter_mut().find(|session| session.token == token);
        found.is_some_and(|session| {
            session.used = Instant::now();
            true
        })
    }

    /// Ends a session; false when there is none.
    pub(crate) fn close(&mut self, id: &str) -> bool {
        let before = self.open.len();
        self.open.retain(|session| session.id.to_string() != id);
        self.open.len() < before
    }

    /// Ends all.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    /// Ids of the open ones.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.open.iter().map(|session| session.id).collect()
    }

    /// How many were ever opened.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }
}
