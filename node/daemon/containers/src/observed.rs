//! What there is of a Pod: sandboxes and containers as the runtime lists them, and what this process remembers of
//! failures and probes. Everything that must survive the daemon is in the runtime's labels and annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::pod::PodSpec;

/// A Pod as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Newest first.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// Runs of containers in the newest sandbox, newest first.
    pub(crate) runs: Vec<Run>,
    /// Last failure to make a container, by the container's name.
    pub(crate) faults: BTreeMap<String, Fault>,
    /// Last failure to make the sandbox or to stop it.
    pub(crate) pod_fault: Option<Fault>,
    /// What probes say, by the container's id.
    pub(crate) probes: BTreeMap<String, Health>,
}

/// A sandbox: the network and the namespaces of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) uid: String,
    pub(crate) digest: String,
    pub(crate) ready: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) ips: Vec<String>,
    /// Restart counts at which this sandbox's containers begin.
    pub(crate) restarts: BTreeMap<String, u32>,
}

/// One run of a container: a restart makes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Number of restarts before it.
    pub(crate) attempt: u32,
    /// Number of short runs in a row before it.
    pub(crate) level: u32,
    pub(crate) state: RunState,
    pub(crate) image: String,
    pub(crate) image_id: String,
}

/// State of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Made and not started: the daemon ended between the two.
    Created,
    Running {
        since: Timestamp,
    },
    Exited(Exit),
    /// The runtime has lost track of it.
    Unknown,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// `None` when the first process was never started.
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
}

/// Something that failed and is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A reason in Kubernetes' words, as in `ErrImagePull`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// Failures in a row.
    pub(crate) count: u32,
    pub(crate) at: Timestamp,
    pub(crate) retry_at: Timestamp,
}

impl Fault {
    /// The fault after `previous`, tried again after `first`, twice that, … up to `most`.
    pub(crate) fn after(
        previous: Option<&Self>,
        reason: &'static str,
        message: String,
        first: Duration,
        most: Duration,
        now: Timestamp,
    ) -> Self {
        let count = previous
            .filter(|fault| fault.reason == reason)
            .map_or(0, |fault| fault.count)
            + 1;
        let wait = first.saturating_mul(1 << (count - 1).min(20)).min(most);
        Self {
            reason,
            message,
            count,
            at: now,
            retry_at: now + wait,
        }
    }
}

/// What probes say of a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(crate) ready: bool,
    /// A startup or liveness probe has failed for good.
    pub(crate) failed: Option<ProbeFailure>,
}

/// Why a container is to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeFailure {
    /// `Liveness` or `Startup`.
    pub(crate) probe: &'static str,
    pub(crate) message: String,
    pub(crate) grace: Option<Duration>,
}

impl Observed {
    /// The sandbox that counts.
    pub(crate) fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest run of a container.
    pub(crate) fn run(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }

    /// The run before the newest one.
    pub(crate) fn previous(&self, name: &str) -> Option<&Run> {
        self.runs.iter().filter(|run| run.name == name).nth(1)
    }

    /// The newest sandbox was made for this very Pod.
    pub(crate) fn is_current(&self, pod: &PodSpec) -> bool {
        self.sandbox()
            .is_some_and(|sandbox| sandbox.uid == pod.uid && sandbox.digest == pod.digest)
    }

    /// The restart count of a container.
    pub(crate) fn restarts(&self, name: &str) -> u32 {
        let begin = || {
            self.sandbox()
                .and_then(|sandbox| sandbox.restarts.get(name))
                .copied()
                .unwrap_or(0)
        };
        self.run(name).map_or_else(begin, |run| run.attempt)
    }

    /// Whether a running container passes its startup and readiness probes.
    pub(crate) fn is_ready(&self, pod: &PodSpec, name: &str) -> bool {
        let (Some(run), Some(container)) = (self.run(name), pod.container(name)) else {
            return false;
        };
        let health = self.probes.get(&run.id);
        let without = container.startup.is_none() && container.readiness.is_none();
        matches!(run.state, RunState::Running { .. })
            && health.map_or(without, |health| health.started && health.ready)
    }

    /// Whether a running container has passed its startup probe.
    pub(crate) fn is_started(&self, pod: &PodSpec, name: &str) -> bool {
        let (Some(run), Some(container)) = (self.run(name), pod.container(name)) else {
            return false;
        };
        matches!(run.state, RunState::Running { .. })
            && self
                .probes
                .get(&run.id)
                .map_or(container.startup.is_none(), |health| health.started)
    }
}

impl Run {
    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.state {
            RunState::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}
