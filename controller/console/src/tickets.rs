//! Tickets: each lets one session open one stream of one machine, once, within half a minute.
//!
//! A browser cannot send headers with a websocket, so the ticket travels as a sub-protocol, which is in no address, history or log. It is
//! sealed, so that any replica can read it. This replica remembers what it has seen used; what was used at another one is refused by the
//! node's daemon, which every stream of a machine passes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::words::StreamKind;

/// How long a ticket is good, seconds.
pub(crate) const SECONDS: u64 = 30;

/// What a ticket seals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The session that asked for it.
    pub(crate) session: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// The instance: one that is made anew under the same name is another one.
    pub(crate) uid: String,
    pub(crate) stream: StreamKind,
    pub(crate) read_only: bool,
    pub(crate) replay: bool,
    /// Where the page came from that asked for it.
    pub(crate) origin: String,
    /// Names this use.
    pub(crate) once: String,
    /// When it ends, seconds since 1970.
    pub(crate) ends: u64,
}

impl Ticket {
    /// Whether that session may use it now, from that page.
    pub(crate) fn admits(&self, session: &str, origin: &str, now: u64) -> bool {
        self.session == session && self.origin.eq_ignore_ascii_case(origin) && now < self.ends
    }
}

/// The tickets that were used at this replica and have not ended yet.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<HashMap<String, u64>>);

impl Used {
    /// Uses a ticket; false if it was used before.
    pub(crate) fn take(&self, ticket: &Ticket, now: u64) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, ends| now < *ends);
        used.insert(ticket.once.clone(), ticket.ends).is_none()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Ticket, Used};
    use crate::words::StreamKind;

    fn ticket() -> Ticket {
        Ticket {
            session: "s1".to_owned(),
            namespace: "prod".to_owned(),
            name: "web".to_owned(),
            uid: "u1".to_owned(),
            stream: StreamKind::Console,
            read_only: false,
            replay: false,
            origin: "https://c.example".to_owned(),
            once: "n1".to_owned(),
            ends: 130,
        }
    }

    #[test]
    fn a_ticket_is_for_one_session_one_origin_and_half_a_minute() {
        assert!(ticket().admits("s1", "https://c.example", 129));
        assert!(!ticket().admits("s1", "https://c.example", 130));
        assert!(!ticket().admits("s2", "https://c.example", 100));
        assert!(!ticket().admits("s1", "https://evil.example", 100));
    }

    #[test]
    fn a_ticket_is_good_once() {
        let used = Used::default();
        assert!(used.take(&ticket(), 100));
        assert!(!used.take(&ticket(), 101));
        let other = Ticket {
            once: "n2".to_owned(),
            ..ticket()
        };
        assert!(used.take(&other, 101));
    }

    #[test]
    fn tickets_that_have_ended_are_forgotten() {
        let used = Used::default();
        used.take(&ticket(), 100);
        let later = Ticket {
            once: "n2".to_owned(),
            ends: 230,
            ..ticket()
        };
        used.take(&later, 200);
        assert_eq!(used.0.lock().unwrap().len(), 1);
    }
}
