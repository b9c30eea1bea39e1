//! Whether a request is taken, needs nothing, or cannot be: a pure function of the machine's state.
//!
//! Verbs are idempotent: what is so already is ignored, what contradicts the state is denied with the reason a person
//! can act on.

use catamaran_plan::Generation;
use catamaran_wire::{ErrorKind, PauseReason, VmState, WireError};

/// A request that changes the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Prepare and start.
    Start(Generation),
    /// Power off within so many seconds (`None` = the plan's).
    Stop(Option<u32>),
    /// Pull the plug.
    Destroy,
    /// Hold still.
    Pause,
    /// Go on.
    Unpause,
    /// Press reset.
    Reset,
    /// Reboot by agent or ACPI.
    SoftReboot,
    /// Save memory and end.
    Save,
    /// End the launcher when the machine is gone.
    Finish,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done next.
    Queued,
    /// Nothing to do.
    Ignored(&'static str),
    /// It cannot be.
    Denied(WireError),
}

/// Judges `request` for a machine in `state` that has the plan `have`.
#[must_use]
pub fn judge(state: &VmState, have: Option<&Generation>, request: &Request) -> Verdict {
    use VmState as S;
    let denied = |message: &str| Verdict::Denied(WireError::new(ErrorKind::Denied, message));
    match request {
        Request::Start(wanted) => judge_start(state, have, wanted),
        Request::Finish => Verdict::Queued,
        Request::Stop(_) | Request::Destroy => match state {
            S::Idle | S::Ended { .. } => Verdict::Ignored("nothing is running"),
            _ => Verdict::Queued,
        },
        Request::Pause => match state {
            S::Running => Verdict::Queued,
            S::Paused {
                reason: PauseReason::User,
            } => Verdict::Ignored("it is paused already"),
            S::Paused { .. } => {
                denied("the machine is held still for another reason; see its status")
            }
            _ => denied("only a running machine can be paused"),
        },
        Request::Unpause => match state {
            S::Running => Verdict::Ignored("it is running already"),
            S::Paused {
                reason: PauseReason::Panicked,
            } => denied("the guest's kernel has panicked; only a reset helps"),
            S::Paused { .. } => Verdict::Queued,
            _ => denied("only a paused machine can be resumed"),
        },
        Request::Reset => match state {
            S::Running | S::Paused { .. } => Verdict::Queued,
            _ => denied("only a running machine can be reset"),
        },
        Request::SoftReboot => match state {
            S::Running => Verdict::Queued,
            _ => denied("only a running machine can reboot"),
        },
        Request::Save => match state {
            S::Running
            | S::Paused {
                reason: PauseReason::User,
            } => Verdict::Queued,
            _ => denied("only a running or paused machine can be saved"),
        },
    }
}

fn judge_start(state: &VmState, have: Option<&Generation>, wanted: &Generation) -> Verdict {
    let Some(have) = have else {
        return match state {
            VmState::Idle => Verdict::Queued,
            _ => Verdict::Denied(WireError::new(
                ErrorKind::Denied,
                "a machine of an unknown plan is here",
            )),
        };
    };
    if have == wanted {
        return Verdict::Ignored("this plan was started already");
    }
    let (kind, message) = if have.vmi_uid != wanted.vmi_uid {
        (
            ErrorKind::Denied,
            format!(
                "this launcher is for the run {}, not {}",
                have.vmi_uid, wanted.vmi_uid
            ),
        )
    } else if wanted.counter <= have.counter {
        (
            ErrorKind::Stale,
            format!(
                "plan {} is not newer than plan {}",
                wanted.counter, have.counter
            ),
        )
    } else {
        (
            ErrorKind::Denied,
            format!(
                "plan {} is in use; plan {} needs a restart",
                have.counter, wanted.counter
            ),
        )
    };
    Verdict::Denied(WireError::new(kind, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_wire::EndReason;

    fn generation(counter: u64) -> Generation {
        Generation {
            vmi_uid: Default::default(),
            counter,
            spec_digest: "d".into(),
        }
    }

    #[test]
    fn a_second_start_is_ignored() {
        let have = generation(3);
        let verdict = judge(
            &VmState::Running,
            Some(&have),
            &Request::Start(have.clone()),
        );
        assert!(matches!(verdict, Verdict::Ignored(_)));
    }

    #[test]
    fn an_older_plan_is_stale_and_a_newer_one_needs_a_restart() {
        let have = generation(3);
        let kind = |wanted| match judge(
            &VmState::Running,
            Some(&have),
            &Request::Start(generation(wanted)),
        ) {
            Verdict::Denied(error) => error.kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind(2), ErrorKind::Stale);
        assert_eq!(kind(4), ErrorKind::Denied);
    }

    #[test]
    fn another_run_is_denied() {
        let have = generation(3);
        let mut other = generation(9);
        other.vmi_uid = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        assert!(matches!(
            judge(&VmState::Idle, Some(&have), &Request::Start(other)),
            Verdict::Denied(_)
        ));
    }

    #[test]
    fn stopping_what_is_off_needs_nothing() {
        let ended = VmState::Ended {
            reason: EndReason::Shutdown,
        };
        for state in [VmState::Idle, ended] {
            for request in [Request::Stop(None), Request::Destroy] {
                assert!(
                    matches!(judge(&state, None, &request), Verdict::Ignored(_)),
                    "{state:?} {request:?}"
                );
            }
        }
    }

    #[test]
    fn a_machine_without_space_can_be_resumed_but_not_paused() {
        let state = VmState::Paused {
            reason: PauseReason::NoSpace,
        };
        assert_eq!(judge(&state, None, &Request::Unpause), Verdict::Queued);
        assert!(matches!(
            judge(&state, None, &Request::Pause),
            Verdict::Denied(_)
        ));
    }
}
