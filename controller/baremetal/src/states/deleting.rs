//! Deleting: nothing holds the object any more.

use crate::outcome::{Action, Outcome, Step};

pub(super) fn step() -> Step {
    Step {
        actions: vec![Action::Release],
        outcome: Outcome::Done { again: None },
    }
}
