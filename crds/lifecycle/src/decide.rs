//! What is to be done about a machine now.

use crate::back_off::{BackOff, STABLE_SECONDS};
use crate::phase::Phase;
use crate::request::StateChangeRequest;
use crate::strategy::RunStrategy;
use crate::time::Seconds;
use crate::view::{VmView, VmiView};

/// What the shell knows besides the objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// A process of an earlier run is not proved dead, although its instance is gone. No new run on its disks.
    pub earlier_run_alive: bool,
    /// Random number from 0 to 1000 for the back-off.
    pub jitter_permille: u32,
}

/// What is to be done. At most one thing at a time; the shell calls again when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Nothing yet.
    Wait {
        /// For people.
        reason: String,
    },
    /// Make an instance.
    Create {
        /// The guest waits for `unpause`.
        paused: bool,
    },
    /// Ask the instance to go: power button, grace period, kill.
    Delete {
        /// UID of the instance that is meant.
        uid: String,
        /// For people.
        reason: &'static str,
    },
    /// The machine is being deleted and has no instance: let the object go.
    Finalize,
}

/// What is to be done, and what is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub action: Action,
    /// `status.stateChangeRequests` from now on. Stored before the action is carried out.
    pub requests: Vec<StateChangeRequest>,
    /// The back-off from now on.
    pub back_off: BackOff,
    /// `spec.runStrategy` is to be rewritten (a start-paused verb on a halted machine).
    pub rewrite: Option<RunStrategy>,
    /// `status.runStrategy` from now on.
    pub observed_run_strategy: Option<RunStrategy>,
    /// Time alone changes the answer then.
    pub again_at: Option<Seconds>,
}

/// Decides. Pure: the same views give the same decision.
///
/// Invariants: never `Create` while an instance exists or an earlier run may be alive; never `Delete` twice.
#[must_use]
pub fn decide(vm: &VmView, vmi: Option<&VmiView>, facts: &Facts, now: Seconds) -> Decision {
    let back_off = vm.back_off.next(vm, vmi, facts.jitter_permille, now);
    let mut decision = Decision {
        action: Action::Nothing,
        requests: pending(&vm.requests, vmi),
        back_off,
        rewrite: None,
        observed_run_strategy: if vmi.is_some() {
            Some(vm.run_strategy)
        } else {
            vm.observed_run_strategy
        },
        again_at: None,
    };
    match vmi {
        Some(vmi) => present(vm, vmi, &mut decision, now),
        None => absent(vm, facts, &mut decision, now),
    }
    decision
}

/// Requests that are not yet carried out: a Stop whose instance is gone and a Start whose instance is here are done.
fn pending(requests: &[StateChangeRequest], vmi: Option<&VmiView>) -> Vec<StateChangeRequest> {
    let done = |request: &StateChangeRequest| match request {
        StateChangeRequest::Stop { uid } => vmi.is_none_or(|vmi| vmi.uid != *uid),
        StateChangeRequest::Start { .. } => vmi.is_some_and(VmiView::is_live),
    };
    requests.iter().skip_while(|r| done(r)).cloned().collect()
}

fn present(vm: &VmView, vmi: &VmiView, decision: &mut Decision, now: Seconds) {
    if decision.back_off.consecutive > 0
        && let (Phase::Running, Some(since)) = (vmi.phase, vmi.running_since)
    {
        decision.again_at = Some(since.saturating_add(STABLE_SECONDS)).filter(|at| *at > now);
    }
    let stop = matches!(decision.requests.first(), Some(StateChangeRequest::Stop { uid }) if *uid == vmi.uid);
    let ended = vmi.phase.is_final();
    let reason = match vm.run_strategy {
        _ if vm.deleting => Some("the machine is being deleted"),
        RunStrategy::Halted => Some("the machine is halted"),
        RunStrategy::Always if ended => Some("the run is over and the machine is always to run"),
        RunStrategy::RerunOnFailure if ended => Some("the run is over"),
        RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Manual if stop => {
            Some("a stop was asked for")
        }
        _ => None,
    };
    let Some(reason) = reason else { return };
    if vmi.deleting {
        decision.action = Action::Wait {
            reason: format!("the instance is going: {reason}"),
        };
        return;
    }
    if vm.run_strategy == RunStrategy::RerunOnFailure
        && vmi.phase == Phase::Failed
        && !vm.deleting
        && !stop
    {
        let start = StateChangeRequest::Start { paused: false };
        if !decision
            .requests
            .iter()
            .any(|r| matches!(r, StateChangeRequest::Start { .. }))
        {
            decision.requests.push(start);
        }
    }
    decision.action = Action::Delete {
        uid: vmi.uid.clone(),
        reason,
    };
}

fn absent(vm: &VmView, facts: &Facts, decision: &mut Decision, now: Seconds) {
    if vm.deleting {
        decision.action = if facts.earlier_run_alive {
            alive()
        } else {
            Action::Finalize
        };
        return;
    }
    let start = match decision.requests.first() {
        Some(StateChangeRequest::Start { paused }) => Some(*paused),
        _ => None,
    };
    let wanted = match vm.run_strategy {
        RunStrategy::Always | RunStrategy::Once => true,
        RunStrategy::RerunOnFailure => {
            start.is_some() || vm.observed_run_strategy != Some(RunStrategy::RerunOnFailure)
        }
        RunStrategy::Manual => start.is_some(),
        RunStrategy::Halted => {
            if start.is_some() {
                decision.rewrite = Some(RunStrategy::Always);
            }
            false
        }
    };
    if !wanted {
        return;
    }
    if facts.earlier_run_alive {
        decision.action = alive();
        return;
    }
    if let Some(at) = decision
        .back_off
        .retry_after
        .filter(|at| *at > now && vm.run_strategy.starts_by_itself())
    {
        let count = decision.back_off.consecutive;
        decision.action = Action::Wait {
            reason: format!(
                "{count} runs in a row failed; the next begins in {} s",
                at - now
            ),
        };
        decision.again_at = Some(at);
        return;
    }
    decision.action = Action::Create {
        paused: start.unwrap_or(false),
    };
}

fn alive() -> Action {
    Action::Wait {
        reason: "a process of the earlier run is not proved dead".to_owned(),
    }
}
