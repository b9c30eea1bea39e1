//! What is to be done about an instance: a pure function of its object and of what its launcher says.

use catamaran_lifecycle::{Phase, VmiView};
use catamaran_wire::VmState;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Plan and start the guest.
    Start,
    /// Say how it is.
    Publish,
    /// Say how it is, and ask the guest to power off within so many seconds.
    Stop(u32),
    /// Say how it ended; the launcher may go then.
    End,
    /// The launcher may go: there is nothing to run any more.
    Finish,
    /// Nothing, until something changes.
    Wait,
}

/// Decides. `asked`: the grace period that the launcher was asked to stop with.
#[must_use]
pub fn decide(view: &VmiView, state: &VmState, asked: Option<u32>) -> Act {
    let leaving = view.deleting || view.phase.is_final();
    match state {
        VmState::Ended { .. } if view.phase.is_final() => Act::Finish,
        VmState::Ended { .. } => Act::End,
        VmState::Idle if leaving => Act::Finish,
        VmState::Idle => match view.phase {
            Phase::Scheduled | Phase::Running => Act::Start,
            _ => Act::Wait,
        },
        _ if leaving && asked.is_none_or(|asked| view.grace_seconds < asked) => {
            Act::Stop(view.grace_seconds)
        }
        VmState::Preparing | VmState::Starting => Act::Wait,
        // Of a run that is called over, nothing is said but its end.
        _ if view.phase.is_final() => Act::Wait,
        VmState::Running | VmState::Paused { .. } | VmState::Stopping => Act::Publish,
    }
}

#[cfg(test)]
mod tests {
    use catamaran_wire::EndReason;

    use super::*;

    fn view(phase: Phase, deleting: bool, grace_seconds: u32) -> VmiView {
        VmiView {
            phase,
            deleting,
            grace_seconds,
            ..Default::default()
        }
    }

    const ENDED: VmState = VmState::Ended {
        reason: EndReason::Shutdown,
    };

    #[test]
    fn a_guest_is_started_once_it_is_handed_over() {
        let act = |phase| decide(&view(phase, false, 30), &VmState::Idle, None);
        assert_eq!(act(Phase::Scheduling), Act::Wait);
        assert_eq!(act(Phase::Scheduled), Act::Start);
        // A launcher that came anew before QEMU did.
        assert_eq!(act(Phase::Running), Act::Start);
    }

    #[test]
    fn what_was_deleted_before_it_started_is_never_started() {
        let act = decide(&view(Phase::Scheduled, true, 30), &VmState::Idle, None);
        assert_eq!(act, Act::Finish);
    }

    #[test]
    fn a_guest_is_asked_to_stop_once_and_again_with_less_time() {
        let deleted = |grace| view(Phase::Running, true, grace);
        assert_eq!(decide(&deleted(30), &VmState::Running, None), Act::Stop(30));
        assert_eq!(
            decide(&deleted(30), &VmState::Stopping, Some(30)),
            Act::Publish
        );
        assert_eq!(
            decide(&deleted(0), &VmState::Stopping, Some(30)),
            Act::Stop(0)
        );
        assert_eq!(
            decide(&deleted(30), &VmState::Starting, None),
            Act::Stop(30)
        );
    }

    #[test]
    fn an_end_is_said_before_the_launcher_goes() {
        assert_eq!(
            decide(&view(Phase::Running, false, 30), &ENDED, None),
            Act::End
        );
        assert_eq!(
            decide(&view(Phase::Succeeded, false, 30), &ENDED, None),
            Act::Finish
        );
    }

    #[test]
    fn a_run_that_is_called_over_is_ended() {
        let over = view(Phase::Failed, false, 30);
        assert_eq!(decide(&over, &VmState::Running, None), Act::Stop(30));
        assert_eq!(decide(&over, &VmState::Running, Some(30)), Act::Wait);
    }
}
