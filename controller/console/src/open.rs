//! How much each session has open at this replica.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Things of one kind, of which a session may have so many open at once.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    what: &'static str,
    most: usize,
    table: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// An open thing of a session, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    open: Open,
    session: String,
}

impl Open {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        Self {
            what,
            most,
            table: Arc::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails, in words for the user, if the session has as many as it may.
    pub(crate) fn enter(&self, session: &str) -> Result<Held, String> {
        let mut table = self.table();
        let open = table.entry(session.to_owned()).or_default();
        if *open >= self.most {
            let (most, what) = (self.most, self.what);
            return Err(format!("a session has at most {most} {what} open at once"));
        }
        *open += 1;
        Ok(Held {
            open: self.clone(),
            session: session.to_owned(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut table = self.open.table();
        let left = table.get_mut(&self.session).map(|open| {
            *open -= 1;
            *open
        });
        if left == Some(0) {
            table.remove(&self.session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Open;

    #[test]
    fn a_session_has_so_much_open_and_no_more() {
        let open = Open::new("lists", 2);
        let held = [open.enter("a").unwrap(), open.enter("a").unwrap()];
        let refused = open.enter("a").unwrap_err();
        assert_eq!(refused, "a session has at most 2 lists open at once");
        assert!(open.enter("b").is_ok());
        drop(held);
        assert!(open.enter("a").is_ok());
        assert_eq!(open.table().len(), 0);
    }
}
