//! What outlives the controller's process: which token and which session a host has, and what came of what it was asked last.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{self, BoxFuture};
use serde::{Deserialize, Serialize};

use crate::host::Told;

/// Of one host. Has no secret in it, only digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// SHA-256 of the token in the host's ISO.
    pub token: String,
    /// SHA-256 of the key of the session that the token opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The id of the last command.
    #[serde(default)]
    pub last_command: u64,
    /// SHA-256 of the last command and its config drive: by it another process knows the command again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// How that ended: what took minutes is not done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Told>,
    /// What the host was enrolled for, in the words of who enrolled it.
    #[serde(default)]
    pub purpose: String,
}

/// A record can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the deploy server's record of host {host}")]
pub struct LedgerError {
    /// Whose.
    pub host: String,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Keeps records. Called under the server's lock: it answers from memory, and writes behind it.
pub trait Ledger: Send + Sync + 'static {
    /// The record of a host.
    ///
    /// # Errors
    /// It can't be read.
    fn load(&self, host: &str) -> Result<Option<Record>, LedgerError>;

    /// Keeps the record of a host.
    ///
    /// # Errors
    /// It can't be written.
    fn store(&self, host: &str, record: &Record) -> Result<(), LedgerError>;

    /// Forgets a host.
    ///
    /// # Errors
    /// It can't be removed.
    fn forget(&self, host: &str) -> Result<(), LedgerError>;

    /// Ends when all that was stored before is kept, whatever happens to the process. An agent is answered after that.
    fn kept(&self) -> BoxFuture<'static, ()>;
}

/// Keeps records as long as the process lives: after it, hosts are booted from new ISOs.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<BTreeMap<String, Record>>);

impl MemoryLedger {
    fn records(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger for MemoryLedger {
    fn load(&self, host: &str) -> Result<Option<Record>, LedgerError> {
        Ok(self.records().get(host).cloned())
    }

    fn store(&self, host: &str, record: &Record) -> Result<(), LedgerError> {
        self.records().insert(host.to_owned(), record.clone());
        Ok(())
    }

    fn forget(&self, host: &str) -> Result<(), LedgerError> {
        self.records().remove(host);
        Ok(())
    }

    fn kept(&self) -> BoxFuture<'static, ()> {
        future::ready(()).boxed()
    }
}
