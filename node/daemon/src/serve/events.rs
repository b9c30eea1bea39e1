//! Events of objects: what happened, for people. Kept in memory, the newest of each object.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

use crate::serve::store::Key;
use crate::serve::time;

/// Events kept for each object.
const KEPT: usize = 50;

/// One event; equal ones in a row are counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often in a row.
    pub count: u32,
    /// First time.
    pub first: String,
    /// Last time.
    pub last: String,
}

/// All events.
#[derive(Debug, Default)]
pub struct Events {
    by_object: Mutex<BTreeMap<Key, VecDeque<Event>>>,
}

impl Events {
    /// Something routine happened.
    pub fn normal(&self, key: &Key, reason: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(
            kind = key.kind.as_str(),
            vm.namespace = key.namespace,
            vm.name = key.name,
            reason,
            "{message}"
        );
        self.record(key, "Normal", reason, message);
    }

    /// Something is wrong.
    pub fn warning(&self, key: &Key, reason: &str, message: impl Into<String>) {
        let message = message.into();
        tracing::warn!(
            kind = key.kind.as_str(),
            vm.namespace = key.namespace,
            vm.name = key.name,
            reason,
            "{message}"
        );
        self.record(key, "Warning", reason, message);
    }

    /// Events of an object, oldest first.
    #[must_use]
    pub fn of(&self, key: &Key) -> Vec<Event> {
        self.lock()
            .get(key)
            .map(|events| events.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Forgets an object's events.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, VecDeque<Event>>> {
        self.by_object
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn record(&self, key: &Key, kind: &'static str, reason: &str, message: String) {
        let now = time::now();
        let mut all = self.lock();
        let events = all.entry(key.clone()).or_default();
        if let Some(last) = events.back_mut()
            && last.kind == kind
            && last.reason == reason
            && last.message == message
        {
            last.count = last.count.saturating_add(1);
            last.last = now;
            return;
        }
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(Event {
            kind,
            reason: reason.to_owned(),
            message,
            count: 1,
            first: now.clone(),
            last: now,
        });
    }
}
