//! A Pod's status in Kubernetes' words, made from what was observed.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as wire;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use crate::decide::{self, Progress, init_is_done};
use crate::observed::{Exit, Observed, Run, RunState};
use crate::pod::{Container, PodSpec};

/// Time for which a failed pull shows as such; then it shows as waiting for the next one.
const FRESH: std::time::Duration = std::time::Duration::from_secs(3);

/// Phase of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Not every container has been started.
    Pending,
    /// Every container has been started, and at least one runs or will be restarted.
    Running,
    /// Every container has ended with exit code 0 and stays so.
    Succeeded,
    /// Every container has ended, at least one badly, and stays so.
    Failed,
}

impl Phase {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
    /// Nothing runs or will run again.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// State of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ContainerState {
    /// Not running, and it will.
    #[serde(rename_all = "camelCase")]
    Waiting {
        /// One word, as in `CrashLoopBackOff`.
        reason: String,
        /// More for a person.
        message: String,
    },
    /// Running.
    #[serde(rename_all = "camelCase")]
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Ended.
    #[serde(rename_all = "camelCase")]
    Terminated(Termination),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// Exit code; 128 + number of the signal that ended it.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`.
    pub reason: String,
    /// More for a person.
    pub message: String,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

/// Status of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSummary {
    /// Its name.
    pub name: String,
    /// The image, as the manifest names it.
    pub image: String,
    /// The image as the runtime knows it; empty before the first start.
    pub image_id: String,
    /// `containerd://…`; empty before the first start.
    pub container_id: String,
    /// Runs, is started and passes its readiness probe; for an init container: has succeeded.
    pub ready: bool,
    /// Runs and has passed its startup probe.
    pub started: bool,
    /// Number of restarts.
    pub restart_count: u32,
    /// Now.
    #[serde(flatten)]
    pub state: ContainerState,
    /// How the run before ended.
    pub last_termination: Option<Termination>,
}

/// Status of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatusSummary {
    /// Phase.
    pub phase: Phase,
    /// The last failure of the Pod as a whole, as in `FailedCreatePodSandBox`.
    pub reason: Option<String>,
    /// More for a person.
    pub message: Option<String>,
    /// Every container is ready.
    pub ready: bool,
    /// Every init container has succeeded.
    pub initialized: bool,
    /// Addresses of this node.
    pub host_ips: Vec<IpAddr>,
    /// Addresses of the Pod; the first is its primary one.
    pub pod_ips: Vec<String>,
    /// When its sandbox was made.
    pub start_time: Option<Timestamp>,
    /// Init containers in order.
    pub init_containers: Vec<ContainerSummary>,
    /// Containers in order.
    pub containers: Vec<ContainerSummary>,
    /// When to reconcile again although nothing changes.
    pub look_again: Option<Timestamp>,
}

/// The status of what was observed. `runtime` is the runtime's name.
pub(crate) fn summarize(
    pod: &PodSpec,
    observed: &Observed,
    runtime: &str,
    host_ips: &[IpAddr],
    now: Timestamp,
) -> PodStatusSummary {
    let current = observed.is_current(pod);
    let nothing = Observed {
        pod_fault: observed.pod_fault.clone(),
        ..Observed::default()
    };
    // What is there of another Pod says nothing about this one.
    let observed = if current { observed } else { &nothing };
    let phase = match decide::progress(pod, observed) {
        Progress::Pending => Phase::Pending,
        Progress::Running => Phase::Running,
        Progress::Ended { well: true } => Phase::Succeeded,
        Progress::Ended { well: false } => Phase::Failed,
    };
    let initialized = init_is_done(pod, observed) && observed.sandbox().is_some();
    let summary = |container: &Container, init: bool| {
        summarize_container(pod, container, init, observed, runtime, now)
    };
    let containers: Vec<_> = pod
        .containers
        .iter()
        .map(|container| summary(container, false))
        .collect();
    let sandbox = observed.sandbox();
    PodStatusSummary {
        phase,
        reason: observed
            .pod_fault
            .as_ref()
            .map(|fault| fault.reason.to_owned()),
        message: observed
            .pod_fault
            .as_ref()
            .map(|fault| fault.message.clone()),
        ready: phase == Phase::Running && containers.iter().all(|container| container.ready),
        initialized,
        host_ips: host_ips.to_vec(),
        pod_ips: sandbox
            .map(|sandbox| sandbox.ips.clone())
            .unwrap_or_default(),
        start_time: sandbox.map(|sandbox| sandbox.created_at),
        init_containers: pod
            .init_containers
            .iter()
            .map(|container| summary(container, true))
            .collect(),
        containers,
        look_again: decide::decide(pod, observed, now).look_again,
    }
}

fn summarize_container(
    pod: &PodSpec,
    container: &Container,
    init: bool,
    observed: &Observed,
    runtime: &str,
    now: Timestamp,
) -> ContainerSummary {
    let name = container.name.as_str();
    let run = observed.run(name);
    let ended_well = run.and_then(Run::exit).is_some_and(|exit| exit.code == 0);
    let (state, last) = state(pod, container, init, observed, now);
    ContainerSummary {
        name: name.to_owned(),
        image: container.image.clone(),
        image_id: run.map(|run| run.image_id.clone()).unwrap_or_default(),
        container_id: run
            .map(|run| format!("{runtime}://{}", run.id))
            .unwrap_or_default(),
        ready: if init {
            ended_well
        } else {
            observed.is_ready(pod, name)
        },
        started: observed.is_started(pod, name),
        restart_count: observed.restarts(name),
        state,
        last_termination: last,
    }
}

/// State now, and how the run before ended.
fn state(
    pod: &PodSpec,
    container: &Container,
    init: bool,
    observed: &Observed,
    now: Timestamp,
) -> (ContainerState, Option<Termination>) {
    let waiting = |reason: &str, message: String| ContainerState::Waiting {
        reason: reason.to_owned(),
        message,
    };
    let run = observed.run(&container.name);
    let fault = observed
        .faults
        .get(&container.name)
        .map(|fault| match fault.reason {
            "ErrImagePull" if now > fault.at + FRESH => waiting(
                "ImagePullBackOff",
                format!(
                    "Back-off pulling image \"{}\": ErrImagePull: {}",
                    container.image, fault.message
                ),
            ),
            reason => waiting(reason, fault.message.clone()),
        });
    let previous = || {
        observed
            .previous(&container.name)
            .and_then(Run::exit)
            .map(termination)
    };
    match run.map(|run| (run, &run.state)) {
        Some((_, RunState::Running { since })) => {
            (ContainerState::Running { started_at: *since }, previous())
        }
        Some((_, RunState::Created)) => (waiting("ContainerCreating", String::new()), previous()),
        Some((_, RunState::Unknown)) => (
            waiting(
                "ContainerStatusUnknown",
                "the runtime has lost track of this container".to_owned(),
            ),
            previous(),
        ),
        Some((run, RunState::Exited(exit))) => {
            let again = decide::restarts(pod.restart_policy, exit) && !(init && exit.code == 0);
            if !again {
                return (ContainerState::Terminated(termination(exit)), previous());
            }
            let wait = decide::back_off(decide::next_level(run, exit)).as_secs();
            let state = fault.unwrap_or_else(|| match exit.reason.as_str() {
                "StartError" => waiting("RunContainerError", exit.message.clone()),
                _ if decide::restart_at(run, exit) > now => waiting(
                    "CrashLoopBackOff",
                    format!(
                        "back-off {wait}s restarting failed container={} pod={}",
                        container.name, pod.key
                    ),
                ),
                // About to be started again: what it was.
                _ => ContainerState::Terminated(termination(exit)),
            });
            (state, Some(termination(exit)))
        }
        None => {
            let held_back =
                !init && !init_is_done(pod, observed) && !pod.init_containers.is_empty();
            let usual = waiting(
                if held_back {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                },
                String::new(),
            );
            (fault.unwrap_or(usual), None)
        }
    }
}

fn termination(exit: &Exit) -> Termination {
    let reason = match (exit.reason.as_str(), exit.code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    Termination {
        exit_code: exit.code,
        reason: reason.to_owned(),
        message: exit.message.clone(),
        started_at: exit.started_at,
        finished_at: exit.finished_at,
    }
}

impl PodStatusSummary {
    /// One word for a table, as `kubectl get pods` has it.
    pub fn printable(&self) -> String {
        let done = self.init_containers.iter().filter(|container| matches!(&container.state, ContainerState::Terminated(end) if end.exit_code == 0)).count();
        for container in &self.init_containers {
            match &container.state {
                ContainerState::Terminated(end) if end.exit_code == 0 => {}
                ContainerState::Terminated(end) => return format!("Init:{}", end.reason),
                ContainerState::Waiting { reason, .. } if reason != "ContainerCreating" => {
                    return format!("Init:{reason}");
                }
                _ if self
                    .containers
                    .iter()
                    .all(|container| container.container_id.is_empty()) =>
                {
                    return format!("Init:{done}/{}", self.init_containers.len());
                }
                _ => {}
            }
        }
        let mut word = None;
        for container in self.containers.iter().rev() {
            match &container.state {
                ContainerState::Waiting { reason, .. } => word = Some(reason.clone()),
                ContainerState::Terminated(end) => word = Some(end.reason.clone()),
                ContainerState::Running { .. } => {}
            }
        }
        let running = self
            .containers
            .iter()
            .any(|container| matches!(container.state, ContainerState::Running { .. }));
        match word.as_deref() {
            Some("Completed") if running => {
                if self.ready { "Running" } else { "NotReady" }.to_owned()
            }
            Some(word) => word.to_owned(),
            None => self.phase.as_str().to_owned(),
        }
    }

    /// Ready containers and all containers.
    pub fn ready_count(&self) -> (usize, usize) {
        (
            self.containers
                .iter()
                .filter(|container| container.ready)
                .count(),
            self.containers.len(),
        )
    }

    /// The status as Kubernetes' own type.
    pub fn to_wire(&self) -> wire::PodStatus {
        let condition = |type_: &str, on: bool, reason: Option<&str>| wire::PodCondition {
            type_: type_.to_owned(),
            status: if on { "True" } else { "False" }.to_owned(),
            reason: reason.filter(|_| !on).map(str::to_owned),
            ..wire::PodCondition::default()
        };
        let not_ready = match self.phase {
            Phase::Succeeded => "PodCompleted",
            Phase::Failed => "PodFailed",
            _ => "ContainersNotReady",
        };
        let ips = |list: &[IpAddr]| {
            list.iter()
                .map(|ip| wire::HostIP { ip: ip.to_string() })
                .collect::<Vec<_>>()
        };
        let statuses = |list: &[ContainerSummary]| {
            Some(
                list.iter()
                    .map(ContainerSummary::to_wire)
                    .collect::<Vec<_>>(),
            )
            .filter(|list| !list.is_empty())
        };
        wire::PodStatus {
            phase: Some(self.phase.as_str().to_owned()),
            reason: self.reason.clone(),
            message: self.message.clone(),
            conditions: Some(vec![
                condition("PodReadyToStartContainers", !self.pod_ips.is_empty(), None),
                condition(
                    "Initialized",
                    self.initialized,
                    Some("ContainersNotInitialized"),
                ),
                condition("Ready", self.ready, Some(not_ready)),
                condition("ContainersReady", self.ready, Some(not_ready)),
                condition("PodScheduled", true, None),
            ]),
            host_ip: self.host_ips.first().map(ToString::to_string),
            host_ips: Some(ips(&self.host_ips)).filter(|list| !list.is_empty()),
            pod_ip: self.pod_ips.first().cloned(),
            pod_ips: Some(
                self.pod_ips
                    .iter()
                    .map(|ip| wire::PodIP { ip: ip.clone() })
                    .collect::<Vec<_>>(),
            )
            .filter(|list| !list.is_empty()),
            start_time: self.start_time.map(Time),
            init_container_statuses: statuses(&self.init_containers),
            container_statuses: statuses(&self.containers),
            ..wire::PodStatus::default()
        }
    }
}

impl Termination {
    fn to_wire(&self) -> wire::ContainerStateTerminated {
        wire::ContainerStateTerminated {
            exit_code: self.exit_code,
            reason: Some(self.reason.clone()),
            message: Some(self.message.clone()).filter(|text| !text.is_empty()),
            started_at: self.started_at.map(Time),
            finished_at: Some(Time(self.finished_at)),
            ..wire::ContainerStateTerminated::default()
        }
    }
}

impl ContainerSummary {
    fn to_wire(&self) -> wire::ContainerStatus {
        let state = match &self.state {
            ContainerState::Waiting { reason, message } => wire::ContainerState {
                waiting: Some(wire::ContainerStateWaiting {
                    reason: Some(reason.clone()),
                    message: Some(message.clone()).filter(|text| !text.is_empty()),
                }),
                ..wire::ContainerState::default()
            },
            ContainerState::Running { started_at } => wire::ContainerState {
                running: Some(wire::ContainerStateRunning {
                    started_at: Some(Time(*started_at)),
                }),
                ..wire::ContainerState::default()
            },
            ContainerState::Terminated(end) => wire::ContainerState {
                terminated: Some(end.to_wire()),
                ..wire::ContainerState::default()
            },
        };
        let last = self
            .last_termination
            .as_ref()
            .map(|end| wire::ContainerState {
                terminated: Some(end.to_wire()),
                ..wire::ContainerState::default()
            });
        wire::ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            container_id: Some(self.container_id.clone()).filter(|id| !id.is_empty()),
            ready: self.ready,
            started: Some(self.started),
            restart_count: i32::try_from(self.restart_count).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: last,
            ..wire::ContainerStatus::default()
        }
    }
}
