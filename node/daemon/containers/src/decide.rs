//! What to do for a Pod: a pure function of what is wanted, what there is, and the time.
//!
//! ```text
//! no sandbox ──────────────> create sandbox ──> init containers, one after the other ──> containers, side by side
//! sandbox of another spec ─> stop containers (grace) ─> stop, remove sandbox, empty volumes ──> no sandbox
//! sandbox dead (reboot) ───> remove it, create the next one; restart counts go on
//! container ended ─────────> policy says restart: wait for the back-off, start the next run; else keep it
//! everything ended for good> stop the sandbox (its address becomes free); logs and exit codes stay
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::observed::{Exit, Observed, Run, RunState};
use crate::pod::{Container, PodSpec, RestartPolicy};

#[cfg(test)]
mod tests;

/// A run of this length clears the back-off.
pub(crate) const STABLE: Duration = Duration::from_secs(600);
const FIRST_WAIT: Duration = Duration::from_secs(10);
const MOST_WAIT: Duration = Duration::from_secs(300);

/// One thing to do, with everything it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ends containers side by side; those that are gone already are no error.
    StopContainers {
        ids: Vec<String>,
        grace: Duration,
        why: String,
    },
    /// Ends a sandbox and gives its address back.
    StopSandbox { id: String },
    /// Removes a sandbox with its containers.
    RemoveSandbox { id: String },
    /// Removes an ended run.
    RemoveContainer { id: String },
    /// Empties the Pod's volumes: another Pod of the same name comes.
    ClearVolumes,
    /// Makes the sandbox.
    CreateSandbox {
        attempt: u32,
        restarts: BTreeMap<String, u32>,
    },
    /// Makes volumes, image and container ready, and starts it.
    Start {
        container: String,
        sandbox: String,
        attempt: u32,
        level: u32,
    },
}

impl Action {
    /// The container it is for, if it is for one.
    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Self::Start { container, .. } => Some(container),
            _ => None,
        }
    }
}

/// What to do now, and when to look again although nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) actions: Vec<Action>,
    pub(crate) look_again: Option<Timestamp>,
}

impl Decision {
    fn wait(&mut self, until: Timestamp) {
        self.look_again = Some(self.look_again.map_or(until, |other| other.min(until)));
    }
}

/// Back-off before the run that follows `level` short runs in a row: none before the first restart, then 10 s,
/// doubled each time, at most 300 s.
pub(crate) fn back_off(level: u32) -> Duration {
    match level {
        0 | 1 => Duration::ZERO,
        level => FIRST_WAIT
            .saturating_mul(1 << (level - 2).min(10))
            .min(MOST_WAIT),
    }
}

/// The level of the run after this one.
pub(crate) fn next_level(run: &Run, exit: &Exit) -> u32 {
    let ran = exit.started_at.map_or(Duration::ZERO, |start| {
        exit.finished_at
            .duration_since(start)
            .try_into()
            .unwrap_or_default()
    });
    if ran >= STABLE {
        1
    } else {
        run.level.saturating_add(1)
    }
}

/// When an ended run may be followed by the next one.
pub(crate) fn restart_at(run: &Run, exit: &Exit) -> Timestamp {
    exit.finished_at + back_off(next_level(run, exit))
}

/// Whether the policy wants another run.
pub(crate) fn restarts(policy: RestartPolicy, exit: &Exit) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit.code != 0,
        RestartPolicy::Never => false,
    }
}

/// How far a Pod is; containers that are being restarted count as running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not every container has been started.
    Pending,
    Running,
    /// Nothing runs or will run again.
    Ended {
        well: bool,
    },
}

/// How far the Pod is.
pub(crate) fn progress(pod: &PodSpec, observed: &Observed) -> Progress {
    let Some(sandbox) = observed.sandbox().filter(|_| observed.is_current(pod)) else {
        return Progress::Pending;
    };
    let exit_of = |container: &Container| observed.run(&container.name).and_then(Run::exit);
    let never = pod.restart_policy == RestartPolicy::Never;
    if !init_is_done(pod, observed) {
        let failed = pod
            .init_containers
            .iter()
            .filter_map(exit_of)
            .any(|exit| exit.code != 0);
        return if never && (failed || is_lost(pod, observed)) {
            Progress::Ended { well: false }
        } else {
            Progress::Pending
        };
    }
    let exits: Vec<_> = pod.containers.iter().map(exit_of).collect();
    if let Some(exits) = exits.iter().copied().collect::<Option<Vec<_>>>()
        && !exits.iter().any(|exit| restarts(pod.restart_policy, exit))
    {
        return Progress::Ended {
            well: exits.iter().all(|exit| exit.code == 0),
        };
    }
    if never && !sandbox.ready {
        return Progress::Ended { well: false };
    }
    let begun = |container: &Container| {
        observed
            .run(&container.name)
            .is_some_and(|run| run.state != RunState::Created)
            || observed.restarts(&container.name) > 0
    };
    if pod.containers.iter().all(begun) {
        Progress::Running
    } else {
        Progress::Pending
    }
}

/// The sandbox of a Pod that may not be restarted is gone, after containers were started in it.
fn is_lost(pod: &PodSpec, observed: &Observed) -> bool {
    pod.restart_policy == RestartPolicy::Never
        && observed.sandbox().is_some_and(|sandbox| !sandbox.ready)
        && !observed.runs.is_empty()
}

/// Every init container has succeeded in this sandbox; once a container was started, they had.
pub(crate) fn init_is_done(pod: &PodSpec, observed: &Observed) -> bool {
    let begun = pod
        .containers
        .iter()
        .any(|container| observed.run(&container.name).is_some());
    begun
        || pod.init_containers.iter().all(|container| {
            observed
                .run(&container.name)
                .and_then(Run::exit)
                .is_some_and(|exit| exit.code == 0)
        })
}

/// What to do for the Pod now.
pub(crate) fn decide(pod: &PodSpec, observed: &Observed, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if let Some(fault) = observed
        .pod_fault
        .as_ref()
        .filter(|fault| fault.retry_at > now)
    {
        decision.wait(fault.retry_at);
        return decision;
    }
    for old in observed.sandboxes.iter().skip(1) {
        decision
            .actions
            .push(Action::StopSandbox { id: old.id.clone() });
        decision
            .actions
            .push(Action::RemoveSandbox { id: old.id.clone() });
    }
    let Some(sandbox) = observed.sandbox() else {
        decision.actions.push(Action::CreateSandbox {
            attempt: 0,
            restarts: BTreeMap::new(),
        });
        return decision;
    };
    if !observed.is_current(pod) {
        let running: Vec<_> = observed
            .runs
            .iter()
            .filter(|run| run.exit().is_none())
            .map(|run| run.id.clone())
            .collect();
        if !running.is_empty() {
            decision.actions.push(Action::StopContainers {
                ids: running,
                grace: pod.grace,
                why: "the Pod has changed".to_owned(),
            });
        }
        decision.actions.push(Action::StopSandbox {
            id: sandbox.id.clone(),
        });
        decision.actions.push(Action::RemoveSandbox {
            id: sandbox.id.clone(),
        });
        decision.actions.push(Action::ClearVolumes);
        return decision;
    }
    let ended = matches!(progress(pod, observed), Progress::Ended { .. });
    match (sandbox.ready, ended) {
        (false, true) => {}
        (true, true) => decision.actions.push(Action::StopSandbox {
            id: sandbox.id.clone(),
        }),
        (false, false) => {
            let names = pod
                .init_containers
                .iter()
                .chain(&pod.containers)
                .map(|container| &container.name);
            let next = |name: &String| {
                observed
                    .run(name)
                    .map_or_else(|| observed.restarts(name), |run| run.attempt + 1)
            };
            let restarts = names
                .map(|name| (name.clone(), next(name)))
                .filter(|(_, count)| *count > 0)
                .collect();
            decision.actions.push(Action::StopSandbox {
                id: sandbox.id.clone(),
            });
            decision.actions.push(Action::RemoveSandbox {
                id: sandbox.id.clone(),
            });
            decision.actions.push(Action::CreateSandbox {
                attempt: sandbox.attempt + 1,
                restarts,
            });
        }
        (true, false) if init_is_done(pod, observed) => {
            for container in &pod.containers {
                advance(pod, container, &sandbox.id, observed, now, &mut decision);
            }
        }
        (true, false) => {
            let done = |container: &&Container| {
                observed
                    .run(&container.name)
                    .and_then(Run::exit)
                    .is_some_and(|exit| exit.code == 0)
            };
            if let Some(container) = pod
                .init_containers
                .iter()
                .find(|container| !done(container))
            {
                advance(pod, container, &sandbox.id, observed, now, &mut decision);
            }
        }
    }
    decision
}

/// One container: from what it is to its next run.
fn advance(
    pod: &PodSpec,
    container: &Container,
    sandbox: &str,
    observed: &Observed,
    now: Timestamp,
    decision: &mut Decision,
) {
    let start = |attempt, level| Action::Start {
        container: container.name.clone(),
        sandbox: sandbox.to_owned(),
        attempt,
        level,
    };
    // The run before the newest one is kept for its exit code and log; older ones go.
    let old = observed
        .runs
        .iter()
        .filter(|run| run.name == container.name)
        .skip(2);
    decision
        .actions
        .extend(old.map(|run| Action::RemoveContainer { id: run.id.clone() }));
    if let Some(fault) = observed
        .faults
        .get(&container.name)
        .filter(|fault| fault.retry_at > now)
        && !matches!(
            observed.run(&container.name).map(|run| &run.state),
            Some(RunState::Running { .. })
        )
    {
        decision.wait(fault.retry_at);
        return;
    }
    let Some(run) = observed.run(&container.name) else {
        decision
            .actions
            .push(start(observed.restarts(&container.name), 0));
        return;
    };
    match &run.state {
        RunState::Created => {
            decision
                .actions
                .push(Action::RemoveContainer { id: run.id.clone() });
            decision.actions.push(start(run.attempt, run.level));
        }
        RunState::Unknown => decision.actions.push(Action::StopContainers {
            ids: vec![run.id.clone()],
            grace: Duration::ZERO,
            why: "its state is unknown".to_owned(),
        }),
        RunState::Running { .. } => {
            if let Some(failure) = observed
                .probes
                .get(&run.id)
                .and_then(|health| health.failed.as_ref())
            {
                let why = format!(
                    "Container {} failed {} probe: {}",
                    container.name,
                    failure.probe.to_lowercase(),
                    failure.message
                );
                decision.actions.push(Action::StopContainers {
                    ids: vec![run.id.clone()],
                    grace: failure.grace.unwrap_or(pod.grace),
                    why,
                });
            }
        }
        // An init container is wanted until it succeeds, whatever the policy says of successful ends.
        RunState::Exited(exit) if restarts(pod.restart_policy, exit) => match restart_at(run, exit)
        {
            at if at > now => decision.wait(at),
            _ => decision
                .actions
                .push(start(run.attempt + 1, next_level(run, exit))),
        },
        RunState::Exited(_) => {}
    }
}
