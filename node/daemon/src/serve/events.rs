//! Events of objects: what happened, for people. Kept in memory, the newest of each object: a daemon knows those since its own start, and says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use serde::Serialize;

use crate::serve::store::Key;
use crate::serve::time;

/// Events kept for each object.
const KEPT: usize = 50;

/// Reason of events about what a host can't do for a machine and therefore leaves out.
pub const LEFT_OUT: &str = "LeftOut";
/// Reason of events about users, passwords and keys that a guest did not take.
pub const GUEST_ACCESS: &str = "GuestAccess";

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
#[derive(Debug)]
pub struct Events {
    since: String,
    by_object: Mutex<BTreeMap<Key, VecDeque<Event>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            since: time::now(),
            by_object: Mutex::default(),
        }
    }
}

impl Events {
    /// When this began: what happened before is not known.
    #[must_use]
    pub fn since(&self) -> &str {
        &self.since
    }

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

    /// Tells what a plan leaves out of the manifest on this host.
    pub fn left_out(&self, key: &Key, notes: &[String]) {
        for note in notes {
            self.warning(key, LEFT_OUT, note.clone());
        }
    }

    /// Tells what a launcher warns of now and did not before: users, passwords and keys that the guest agent did not take.
    pub fn guest_access(&self, key: &Key, before: &[String], now: &[String]) {
        for warning in now.iter().filter(|warning| !before.contains(warning)) {
            self.warning(key, GUEST_ACCESS, warning.clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::store::Kind;

    fn key() -> Key {
        Key::new(Kind::VirtualMachineInstance, "default", "a")
    }

    fn told(events: &Events) -> Vec<(&'static str, String, String)> {
        let events = events.of(&key()).into_iter();
        events
            .map(|event| (event.kind, event.reason, event.message))
            .collect()
    }

    #[test]
    fn events_say_since_when_they_are_known() {
        let before = time::seconds();
        let since = time::parse(Events::default().since()).unwrap();
        assert!((before..=time::seconds()).contains(&since));
    }

    #[test]
    fn what_a_plan_leaves_out_is_told_as_warnings() {
        let events = Events::default();
        let note = "Hyper-V enlightenments: left out, needs KVM".to_owned();
        events.left_out(&key(), &[note.clone(), "another".to_owned()]);
        assert_eq!(
            told(&events),
            [
                ("Warning", "LeftOut".to_owned(), note),
                ("Warning", "LeftOut".to_owned(), "another".to_owned())
            ]
        );
    }

    #[test]
    fn a_warning_of_the_guest_agent_is_told_once_in_a_run() {
        let events = Events::default();
        let (one, two) = ("no password".to_owned(), "no key".to_owned());
        let first = [one.clone()];
        events.guest_access(&key(), &[], &first);
        let second = [one.clone(), two.clone()];
        events.guest_access(&key(), &first, &second);
        events.guest_access(&key(), &second, &second);
        assert_eq!(
            told(&events),
            [
                ("Warning", "GuestAccess".to_owned(), one),
                ("Warning", "GuestAccess".to_owned(), two)
            ]
        );
    }
}
