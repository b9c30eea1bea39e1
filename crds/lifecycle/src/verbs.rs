//! What a verb may do to a machine or instance, in the peer's words.
//!
//! A verb that asks for what is there already is *ignored*: the command line says so and succeeds, the API answers 409 with the same
//! words, as the peer's clients expect. A verb that contradicts is *denied*.

use crate::phase::Phase;
use crate::request::StateChangeRequest;
use crate::strategy::RunStrategy;
use crate::view::{VmView, VmiView};

/// The answer to a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Carried out by storing these changes, all in one write.
    Accepted(Vec<Change>),
    /// It is so already.
    Ignored(String),
    /// It cannot be.
    Denied {
        /// HTTP status: 400, 403 or 409.
        code: u16,
        /// For people.
        message: String,
    },
}

/// A change that an accepted verb makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `spec.runStrategy`.
    RunStrategy(RunStrategy),
    /// `status.stateChangeRequests`, replaced.
    Requests(Vec<StateChangeRequest>),
    /// `spec.terminationGracePeriodSeconds` of the instance.
    GracePeriod(u32),
    /// The back-off is forgotten.
    ClearBackOff,
    /// The guest's processors stop.
    Pause,
    /// The guest's processors go on.
    Unpause,
    /// The guest is asked to reboot, by its agent where that answers, else by ACPI.
    SoftReboot {
        /// The agent answers.
        by_agent: bool,
    },
    /// The reset button.
    Reset,
    /// The guest's file systems stop writing.
    Freeze,
    /// The guest's file systems go on.
    Unfreeze,
}

const NOT_RUNNING: &str = "VM is not running";
const UNDERWAY: &str = "unable to complete request: stop/start already underway";

fn denied(message: impl Into<String>) -> Verdict {
    Verdict::Denied {
        code: 409,
        message: message.into(),
    }
}

/// `start` a machine.
#[must_use]
pub fn start(vm: &VmView, vmi: Option<&VmiView>, paused: bool) -> Verdict {
    if vmi.is_some_and(|v| !v.phase.is_final() && !matches!(v.phase, Phase::Unknown | Phase::Unset))
    {
        return Verdict::Ignored("VM is already running".to_owned());
    }
    let start = StateChangeRequest::Start { paused };
    match vm.run_strategy {
        RunStrategy::Halted if paused => requests(vm, vec![start]),
        RunStrategy::Halted => Verdict::Accepted(vec![
            Change::RunStrategy(RunStrategy::Always),
            Change::ClearBackOff,
        ]),
        RunStrategy::RerunOnFailure if vmi.is_some_and(|v| v.phase == Phase::Failed) => {
            denied("RerunOnFailure does not support starting VM from failed state")
        }
        RunStrategy::Manual | RunStrategy::RerunOnFailure => {
            let stop = vmi.map(|v| StateChangeRequest::Stop { uid: v.uid.clone() });
            requests(vm, stop.into_iter().chain([start]).collect())
        }
        RunStrategy::Always | RunStrategy::Once => denied(format!(
            "{} does not support manual start requests",
            vm.run_strategy
        )),
    }
}

/// `stop` a machine. `grace_period`: seconds instead of the spec's.
#[must_use]
pub fn stop(vm: &VmView, vmi: Option<&VmiView>, grace_period: Option<u32>) -> Verdict {
    let live = vmi.filter(|v| !v.phase.is_final());
    let grace = grace_period
        .filter(|_| live.is_some())
        .map(Change::GracePeriod);
    match vm.run_strategy {
        RunStrategy::Always | RunStrategy::Once => Verdict::Accepted(
            grace
                .into_iter()
                .chain([Change::RunStrategy(RunStrategy::Halted)])
                .collect(),
        ),
        RunStrategy::Manual | RunStrategy::RerunOnFailure => {
            let Some(live) = live else {
                return Verdict::Ignored(NOT_RUNNING.to_owned());
            };
            match requests(
                vm,
                vec![StateChangeRequest::Stop {
                    uid: live.uid.clone(),
                }],
            ) {
                Verdict::Accepted(changes) => {
                    Verdict::Accepted(grace.into_iter().chain(changes).collect())
                }
                other => other,
            }
        }
        RunStrategy::Halted => match (live, grace_period) {
            (None, _) => Verdict::Ignored(NOT_RUNNING.to_owned()),
            (Some(live), Some(shorter)) if shorter < live.grace_seconds => {
                Verdict::Accepted(vec![Change::GracePeriod(shorter)])
            }
            (Some(_), _) => {
                denied("Halted only supports manual stop requests with a shorter graceperiod")
            }
        },
    }
}

/// `restart` a machine. `grace_period`: absent, or 0 to kill at once.
#[must_use]
pub fn restart(vm: &VmView, vmi: Option<&VmiView>, grace_period: Option<u32>) -> Verdict {
    if grace_period.is_some_and(|g| g != 0) {
        return Verdict::Denied {
            code: 400,
            message: "For force restart, only gracePeriod=0 is supported for now".to_owned(),
        };
    }
    if matches!(vm.run_strategy, RunStrategy::Halted | RunStrategy::Once) {
        return denied(format!(
            "{} does not support manual restart requests",
            vm.run_strategy
        ));
    }
    let Some(vmi) = vmi else {
        return denied(NOT_RUNNING);
    };
    let both = vec![
        StateChangeRequest::Stop {
            uid: vmi.uid.clone(),
        },
        StateChangeRequest::Start { paused: false },
    ];
    match requests(vm, both) {
        Verdict::Accepted(changes) => Verdict::Accepted(
            grace_period
                .map(|_| Change::GracePeriod(1))
                .into_iter()
                .chain(changes)
                .collect(),
        ),
        other => other,
    }
}

/// Requests wait for those before them; only a lone Stop may be replaced.
fn requests(vm: &VmView, requests: Vec<StateChangeRequest>) -> Verdict {
    match vm.requests.as_slice() {
        [] | [StateChangeRequest::Stop { .. }] => {
            Verdict::Accepted(vec![Change::Requests(requests), Change::ClearBackOff])
        }
        _ => denied(UNDERWAY),
    }
}

fn running(vmi: &VmiView) -> Result<(), Verdict> {
    if vmi.phase == Phase::Running {
        Ok(())
    } else {
        Err(denied("VMI is not running"))
    }
}

/// `pause` an instance.
#[must_use]
pub fn pause(vmi: &VmiView) -> Verdict {
    match running(vmi) {
        Err(verdict) => verdict,
        Ok(()) if vmi.liveness_probe => Verdict::Denied {
            code: 403,
            message: "Pausing VMIs with LivenessProbe is currently not supported".to_owned(),
        },
        Ok(()) if vmi.paused => Verdict::Ignored("VMI is already paused".to_owned()),
        Ok(()) => Verdict::Accepted(vec![Change::Pause]),
    }
}

/// `unpause` an instance.
#[must_use]
pub fn unpause(vmi: &VmiView) -> Verdict {
    match running(vmi) {
        Err(verdict) => verdict,
        Ok(()) if !vmi.paused => Verdict::Ignored("VMI is not paused".to_owned()),
        Ok(()) => Verdict::Accepted(vec![Change::Unpause]),
    }
}

/// `softreboot` an instance.
#[must_use]
pub fn soft_reboot(vmi: &VmiView) -> Verdict {
    match running(vmi) {
        Err(verdict) => verdict,
        Ok(()) if vmi.paused => denied("VMI is paused"),
        Ok(()) if !vmi.agent_connected && !vmi.acpi => {
            denied("VMI neither have the agent connected nor the ACPI feature enabled")
        }
        Ok(()) => Verdict::Accepted(vec![Change::SoftReboot {
            by_agent: vmi.agent_connected,
        }]),
    }
}

/// `reset` an instance.
#[must_use]
pub fn reset(vmi: &VmiView) -> Verdict {
    running(vmi)
        .err()
        .unwrap_or_else(|| Verdict::Accepted(vec![Change::Reset]))
}

/// `freeze` the file systems of an instance.
#[must_use]
pub fn freeze(vmi: &VmiView) -> Verdict {
    running(vmi)
        .err()
        .unwrap_or_else(|| Verdict::Accepted(vec![Change::Freeze]))
}

/// `unfreeze` the file systems of an instance.
#[must_use]
pub fn unfreeze(vmi: &VmiView) -> Verdict {
    running(vmi)
        .err()
        .unwrap_or_else(|| Verdict::Accepted(vec![Change::Unfreeze]))
}
