//! What all replicas of the console share: the key, and who is logged in.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::backend::{Failure, User};
use crate::seal::{Key, NoRandom};

/// A session as all replicas know it. Its token is not here: the browser keeps it, sealed, in the cookie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose it is.
    pub user: User,
    /// When it began, seconds since 1970.
    pub since: u64,
    /// When its user did something last, within a minute.
    pub seen: u64,
}

/// What a vault holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Seals cookies and tickets.
    pub key: Key,
    /// Sessions by their ids. A session that is not here has ended.
    pub sessions: BTreeMap<String, Entry>,
}

/// Where what all replicas share lies.
pub trait Vault: Send + Sync + 'static {
    /// Everything.
    fn read(&self) -> impl Future<Output = Result<Kept, Failure>> + Send;

    /// Keeps a session, or ends it.
    fn write(
        &self,
        id: &str,
        entry: Option<&Entry>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Says when a session was used last. One that has ended stays so, and fails with 401.
    fn touch(&self, id: &str, entry: &Entry) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What is said to whoever has no session.
#[must_use]
pub fn nobody() -> Failure {
    Failure::new(401, "log in first")
}

/// The vault of a console without replicas: it ends with the process.
#[derive(Debug)]
pub struct Memory(Mutex<Kept>);

impl Memory {
    /// An empty one with a new key.
    ///
    /// # Errors
    /// When the machine has no random numbers to give.
    pub fn new() -> Result<Self, NoRandom> {
        Ok(Self(Mutex::new(Kept {
            key: Key::random()?,
            sessions: BTreeMap::new(),
        })))
    }
}

impl Vault for Memory {
    async fn read(&self) -> Result<Kept, Failure> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    async fn write(&self, id: &str, entry: Option<&Entry>) -> Result<(), Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) => kept.sessions.insert(id.to_owned(), entry.clone()),
            None => kept.sessions.remove(id),
        };
        Ok(())
    }

    async fn touch(&self, id: &str, entry: &Entry) -> Result<(), Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.sessions.get_mut(id).ok_or_else(nobody)?;
        found.clone_from(entry);
        Ok(())
    }
}

impl<V: Vault> Vault for std::sync::Arc<V> {
    async fn read(&self) -> Result<Kept, Failure> {
        self.as_ref().read().await
    }

    async fn write(&self, id: &str, entry: Option<&Entry>) -> Result<(), Failure> {
        self.as_ref().write(id, entry).await
    }

    async fn touch(&self, id: &str, entry: &Entry) -> Result<(), Failure> {
        self.as_ref().touch(id, entry).await
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Memory, Vault as _};
    use crate::backend::User;

    #[tokio::test]
    async fn the_use_of_a_session_does_not_bring_it_back_after_its_end() {
        let vault = Memory::new().unwrap();
        let entry = |seen| Entry {
            user: User {
                name: "alice".to_owned(),
                groups: Vec::new(),
            },
            since: 100,
            seen,
        };
        vault.write("s1", Some(&entry(100))).await.unwrap();
        vault.touch("s1", &entry(160)).await.unwrap();
        assert_eq!(vault.read().await.unwrap().sessions["s1"].seen, 160);
        vault.write("s1", None).await.unwrap();
        assert_eq!(
            vault.touch("s1", &entry(220)).await.unwrap_err().status,
            401
        );
        assert!(vault.read().await.unwrap().sessions.is_empty());
    }
}
