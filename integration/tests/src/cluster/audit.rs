//! What was asked of the API server: the audit log of the cluster, a line for each finished request.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Cluster, SYSTEM};

/// A request that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// Resource with its subresource: `pods/status`.
    pub resource: String,
    /// Who made it; who was impersonated where somebody was.
    pub user: String,
    /// When it was answered (RFC 3339, UTC).
    pub at: String,
}

impl Write {
    /// Whether a part of the product made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.user
            .starts_with(&format!("system:serviceaccount:{SYSTEM}:"))
    }

    /// Whether it keeps a lease.
    #[must_use]
    pub fn is_lease(&self) -> bool {
        self.resource == "leases"
    }

    /// Whether a daemon says of its node that it is there.
    #[must_use]
    pub fn is_heartbeat(&self) -> bool {
        self.resource == "nodes" && self.user.ends_with(":catamaran-node")
    }

    /// Whether it is an event.
    #[must_use]
    pub fn is_event(&self) -> bool {
        self.resource == "events"
    }
}

impl Cluster {
    /// All writes in the test's namespace so far that were carried out, the oldest first.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn writes(&self) -> Result<Vec<Write>> {
        self.writes_with(&format!("\"namespace\":\"{}\"", self.namespace()))
    }

    /// All writes of the product's parts so far that were carried out, wherever, the oldest first.
    ///
    /// # Errors
    /// When the audit log can't be read.
    pub fn writes_of_ours(&self) -> Result<Vec<Write>> {
        let mut writes = self.writes_with(&format!("system:serviceaccount:{SYSTEM}:"))?;
        writes.retain(Write::is_ours);
        Ok(writes)
    }

    /// Writes whose line in the log has a text in it: most lines need not be parsed.
    fn writes_with(&self, text: &str) -> Result<Vec<Write>> {
        let kubeconfig = crate::command::stdout(&mut self.command(["kubeconfig"]))?;
        let state = Path::new(kubeconfig.trim()).parent();
        let path = state.context("no state folder")?.join("logs/audit.log");
        let log = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(log
            .lines()
            .filter(|line| line.contains(text))
            .filter_map(|line| write(&serde_json::from_str(line).ok()?))
            .collect())
    }
}

fn write(entry: &Value) -> Option<Write> {
    let word = |pointer: &str| entry.pointer(pointer)?.as_str().map(str::to_owned);
    let verb = word("/verb")?;
    let done = entry.pointer("/responseStatus/code")?.as_u64()? < 300;
    if !done || !matches!(verb.as_str(), "create" | "update" | "patch" | "delete") {
        return None;
    }
    let mut resource = word("/objectRef/resource")?;
    if let Some(part) = word("/objectRef/subresource") {
        resource = format!("{resource}/{part}");
    }
    Some(Write {
        verb,
        resource,
        user: word("/impersonatedUser/username").or_else(|| word("/user/username"))?,
        at: word("/stageTimestamp")?,
    })
}
