//! Who looks at the machines of this node, and who of them has the keyboard.
//!
//! All streams of a machine pass the daemon of its node, wherever they come from: this is the one place that knows all viewers. The keyboard
//! is an arrangement between people: whoever opens a stream for writing can write. One who only reads can ask for it here, and one who
//! writes can give it; their clients open their streams anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_console::Keyboard;
use catamaran_wire::Stream;
use serde::Serialize;

/// Longest name of a user that is kept, characters.
const USER_LENGTH: usize = 256;

/// One who looks.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Viewer {
    /// Names him: the name of the stream's one use, where it has one.
    pub id: String,
    /// Who it is.
    pub user: String,
    /// `console` or `vnc`.
    pub stream: &'static str,
    /// What he types does not arrive.
    pub read_only: bool,
    /// Since when: RFC 3339.
    pub since: String,
    /// Of the keyboard.
    pub keyboard: Keyboard,
}

/// What is looked at: the UID of an instance; under `play` its key.
type Machine = String;

/// All who look.
#[derive(Debug, Clone, Default)]
pub struct Viewers(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    viewers: BTreeMap<u64, (Machine, Viewer)>,
}

/// One who looks, until this is dropped.
#[derive(Debug)]
pub struct Looking {
    viewers: Viewers,
    number: u64,
}

impl Viewers {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody begins to look.
    #[must_use]
    pub fn enter(
        &self,
        machine: &str,
        once: Option<&str>,
        user: &str,
        stream: &'static str,
        read_only: bool,
    ) -> Looking {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        let viewer = Viewer {
            id: once.map_or_else(|| number.to_string(), ToOwned::to_owned),
            user: user.chars().take(USER_LENGTH).collect(),
            stream,
            read_only,
            since: crate::serve::time::now(),
            keyboard: Keyboard::None,
        };
        table.viewers.insert(number, (machine.to_owned(), viewer));
        Looking {
            viewers: self.clone(),
            number,
        }
    }

    /// Who looks at a machine, those who came first before the others.
    #[must_use]
    pub fn of(&self, machine: &str) -> Vec<Viewer> {
        let table = self.table();
        let found = table.viewers.values().filter(|(of, _)| of == machine);
        found.map(|(_, viewer)| viewer.clone()).collect()
    }

    /// Says something of one viewer and the keyboard; false if he does not look.
    pub fn say(&self, machine: &str, id: &str, keyboard: Keyboard) -> bool {
        let mut table = self.table();
        let mut all = table.viewers.values_mut();
        let found = all.find(|(of, viewer)| of == machine && viewer.id == id);
        found
            .map(|(_, viewer)| viewer.keyboard = keyboard)
            .is_some()
    }
}

/// A stream's word, and whether its viewer only reads.
#[must_use]
pub fn seen(stream: &Stream) -> (&'static str, bool) {
    match stream {
        Stream::Serial { read_only, .. } => ("console", *read_only),
        Stream::Vnc { read_only } => ("vnc", *read_only),
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.viewers.table().viewers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{Keyboard, Viewers};

    #[test]
    fn who_looks_is_known_until_he_leaves() {
        let viewers = Viewers::default();
        let alice = viewers.enter("u1", Some("t1"), "alice", "console", false);
        let bob = viewers.enter("u1", None, "bob", "vnc", true);
        let _other = viewers.enter("u2", None, "carol", "vnc", true);
        let users = || -> Vec<_> {
            let seen = viewers.of("u1").into_iter();
            seen.map(|viewer| viewer.user).collect()
        };
        assert_eq!(users(), ["alice", "bob"]);
        drop(alice);
        assert_eq!(users(), ["bob"]);
        drop(bob);
        assert_eq!(viewers.of("u1").len(), 0);
    }

    #[test]
    fn the_keyboard_is_asked_for_and_given_among_those_of_one_machine() {
        let viewers = Viewers::default();
        let _bob = viewers.enter("u1", Some("t2"), "bob", "console", true);
        assert!(viewers.say("u1", "t2", Keyboard::Asked));
        assert_eq!(viewers.of("u1")[0].keyboard, Keyboard::Asked);
        assert!(!viewers.say("u2", "t2", Keyboard::Given));
        assert!(!viewers.say("u1", "t3", Keyboard::Given));
        assert!(viewers.say("u1", "t2", Keyboard::Given));
        assert_eq!(viewers.of("u1")[0].keyboard, Keyboard::Given);
    }
}
