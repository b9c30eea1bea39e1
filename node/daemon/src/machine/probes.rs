//! Probes of a guest: one task for each asks while the guest runs; the machine's task takes what they found from [`Health`].
//!
//! ```text
//!   Running ──▶ tasks ask ──▶ Health{ready, failed} ──▶ the machine's task: condition Ready, stop of the run
//!      ▲          │
//!      └─ Paused ─┴─ Stopping, Ended: nobody asks; Health stays as it was
//! ```
//!
//! On Kubernetes the kubelet does this; here only the daemon can. What was counted lives in memory: a new daemon counts anew.

pub mod course;

mod ask;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::{Phase, from_time};
use catamaran_spec::{Context, MachineSpec, Probe};
use catamaran_wire::{Verb, VmState};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::machine::launcher::LauncherError;
use crate::machine::probes::ask::{Answer, Guest, Silence};
use crate::machine::probes::course::{Course, Verdict};
use crate::machine::status;
use crate::serve::daemon::Daemon;
use crate::serve::store::Key;
use crate::serve::time;

/// What the probes of a run have found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What the readiness probe says; `None` without one.
    pub ready: Option<bool>,
    /// The liveness probe has failed for good: why.
    pub failed: Option<String>,
}

/// The probes of one run of a guest. Dropping them ends them.
#[derive(Debug)]
pub struct Probes {
    health: watch::Sender<Health>,
    seen: watch::Receiver<Health>,
    tasks: Option<JoinSet<()>>,
}

impl Default for Probes {
    fn default() -> Self {
        let (health, seen) = watch::channel(Health::default());
        Self {
            health,
            seen,
            tasks: None,
        }
    }
}

impl Probes {
    /// Until something new was found since [`Self::follow`] was called last.
    pub async fn changed(&mut self) {
        // The other end is held by `self`.
        let _ = self.seen.changed().await;
    }

    /// Begins to ask a guest that has come to run, ends it with one that does not, and says what was found.
    pub fn follow(&mut self, daemon: &Arc<Daemon>, machine: &Key, state: &VmState) -> Health {
        match state {
            VmState::Running if self.tasks.is_none() => self.begin(daemon, machine),
            VmState::Running => {}
            _ => self.tasks = None,
        }
        self.seen.borrow_and_update().clone()
    }

    fn begin(&mut self, daemon: &Arc<Daemon>, machine: &Key) {
        let tasks = self.tasks.insert(JoinSet::new());
        let vmi = daemon
            .store
            .get(machine)
            .and_then(|stored| stored.typed::<VirtualMachineInstance>().ok());
        let spec = vmi
            .as_ref()
            .and_then(|vmi| MachineSpec::from_vmi(vmi, Context::Play).ok());
        let (Some(vmi), Some((spec, _))) = (vmi, spec) else {
            return;
        };
        let patient = Patient {
            daemon: daemon.clone(),
            machine: machine.clone(),
            age: age(&vmi),
            since: Instant::now(),
            health: self.health.clone(),
        };
        if let Some(probe) = spec.readiness_probe {
            // What is known stays over a pause and over a new daemon; a guest that nobody asked yet is not ready.
            let known = self
                .health
                .borrow()
                .ready
                .unwrap_or_else(|| was_ready(&vmi));
            self.health.send_if_modified(|health| {
                let new = health.ready != Some(known);
                health.ready = Some(known);
                new
            });
            tasks.spawn(patient.clone().readiness(probe, known));
        }
        if let Some(probe) = spec.liveness_probe {
            tasks.spawn(patient.liveness(probe));
        }
    }
}

/// Time since the guest has come to run.
fn age(vmi: &VirtualMachineInstance) -> Duration {
    let status = vmi.status.as_ref();
    let transitions = status.map(|status| status.phase_transition_timestamps.as_slice());
    let running = transitions
        .unwrap_or_default()
        .iter()
        .rfind(|entry| entry.phase.as_deref() == Some(Phase::Running.as_str()))
        .and_then(|entry| entry.phase_transition_timestamp.as_ref());
    let running = running.and_then(|time| u64::try_from(from_time(time)).ok());
    running.map_or(Duration::ZERO, |running| {
        Duration::from_secs(time::seconds().saturating_sub(running))
    })
}

fn was_ready(vmi: &VirtualMachineInstance) -> bool {
    let conditions = vmi.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Who is asked.
#[derive(Debug, Clone)]
struct Patient {
    daemon: Arc<Daemon>,
    machine: Key,
    age: Duration,
    since: Instant,
    health: watch::Sender<Health>,
}

impl Patient {
    /// Time since Running.
    fn now(&self) -> Duration {
        self.age.saturating_add(self.since.elapsed())
    }

    /// Asks when it is due until the verdict is another one.
    async fn next(&self, probe: &Probe, course: &mut Course) -> (Verdict, String) {
        loop {
            tokio::time::sleep(course.due().saturating_sub(self.now())).await;
            let began = self.now();
            let (good, why) = match ask::ask(self, probe).await {
                Answer::Good => (true, String::new()),
                Answer::Bad(why) => (false, why),
                Answer::Unknown(why) => {
                    tracing::debug!(
                        vm.namespace = self.machine.namespace,
                        vm.name = self.machine.name,
                        why,
                        "the guest could not be probed"
                    );
                    course.skip(began);
                    continue;
                }
            };
            if !good {
                tracing::debug!(
                    vm.namespace = self.machine.namespace,
                    vm.name = self.machine.name,
                    why,
                    "a probe failed"
                );
            }
            if let Some(verdict) = course.record(began, good) {
                return (verdict, why);
            }
        }
    }

    fn unhealthy(&self, words: &str) {
        self.daemon
            .events
            .warning(&self.machine, "Unhealthy", words);
    }

    async fn readiness(self, probe: Probe, known: bool) {
        // Not ready is no verdict yet: when the probe says so itself, people want to hear why.
        let mut course = Course::new(&probe, known.then_some(Verdict::Good));
        loop {
            let (verdict, why) = self.next(&probe, &mut course).await;
            if verdict == Verdict::Bad {
                self.unhealthy(&format!("Readiness probe failed: {why}"));
            }
            self.health
                .send_modify(|health| health.ready = Some(verdict == Verdict::Good));
        }
    }

    async fn liveness(self, probe: Probe) {
        let mut course = Course::new(&probe, Some(Verdict::Good));
        let (_, why) = self.next(&probe, &mut course).await;
        let words = format!("Liveness probe failed: {why}");
        self.unhealthy(&format!("{words}; the guest is stopped"));
        self.health
            .send_modify(|health| health.failed = Some(words));
    }
}

impl Guest for Patient {
    fn address(&self) -> Option<IpAddr> {
        status::pod_addresses(&self.daemon, &self.machine)
            .first()
            .copied()
    }

    async fn agent(&self, command: Value, timeout_seconds: u32) -> Result<Value, Silence> {
        let launcher = self.daemon.machines.launcher(&self.machine);
        let launcher = launcher
            .ok_or_else(|| Silence::Way("the launcher is being started anew".to_owned()))?;
        let verb = Verb::Agent {
            command,
            timeout_seconds,
        };
        launcher.ask(verb).await.map_err(|error| match error {
            LauncherError::Refused(refusal) => Silence::Guest(refusal.to_string()),
            error => Silence::Way(catamaran_client::chain(&error)),
        })
    }
}
