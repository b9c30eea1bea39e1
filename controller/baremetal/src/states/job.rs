//! What the deploy agent does in a state: the host boots it from a CD, and is waited for.

use catamaran_redfish::PowerState;

use crate::deploy::Progress;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Off, Outcome, Step};
use crate::state::State;

/// Pause between two looks.
const POLL: i64 = 10;
const REASON: &str = "Deploying";

/// The step of a state with a job; `done` comes after it, with the agent still running.
pub(super) fn step(state: State, facts: &Facts, seen: &Seen, done: impl FnOnce() -> Step) -> Step {
    if let Some(refusal) = &facts.refusal {
        return Step::failed(state.error_type(), refusal);
    }
    match &facts.progress {
        Progress::None => boot(),
        // The controller was ended before it turned the host on, or somebody turned it off.
        Progress::Booting(_) if seen.power == PowerState::Off => boot(),
        Progress::Booting(message) | Progress::Working(message) => {
            Step::wait(REASON, message, POLL)
        }
        Progress::Done => done(),
        Progress::Failed(message) => Step::failed(state.error_type(), message),
    }
}

/// Off first: a boot order that is given to a running system may be lost.
fn boot() -> Step {
    Step {
        actions: vec![
            Action::PowerOff(Off::Hard),
            Action::Deploy,
            Action::BootCdOnce,
            Action::PowerOn,
        ],
        outcome: Outcome::Wait {
            reason: REASON,
            message: "the host boots the deploy agent".to_owned(),
            again: POLL,
        },
    }
}

/// What ends a job: the host is off, and boots as its firmware is set.
pub(super) fn put_away() -> [Action; 3] {
    [
        Action::PowerOff(Off::Hard),
        Action::EjectCd,
        Action::ClearBoot,
    ]
}
