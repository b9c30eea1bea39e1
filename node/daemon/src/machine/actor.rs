//! The task that owns one machine.
//!
//! ```text
//!              look at what is there                 Start{plan}
//!   Unknown ───────────────────────▶ Dead ─────────────────────▶ Starting
//!      │                              ▲  ▲      failed: killed      │
//!      │ guest runs                   │  └──────────────────────────┤
//!      ▼                              │ proof of death              │ accepted
//!     Live ◀──────────────────────────┼─────────────────────────────┘
//!      └── ended (reported or proved) ┘
//! ```
//!
//! Architecture invariant: only this task starts and ends the machine, and only with a proof that the run before is dead.

mod ending;
mod living;
mod starting;
mod strategy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::{BackOff, DomainEnd, VmiView};
use catamaran_plan::Plan;
use catamaran_wire::VmReport;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::machine::actor::living::Stopping;
use crate::machine::actor::strategy::Decided;
use crate::machine::adopt::{self, Found};
use crate::machine::cgroup::{Cgroup, Dead};
use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;
use crate::machine::probes::Probes;
use crate::machine::record;
use crate::serve::daemon::Daemon;
use crate::serve::layout::MachineLayout;
use crate::serve::store::{Key, Kind, Stored};
use crate::serve::time;

/// Pause after a failed start; doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between starts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Pause before a launcher is dialled again: it is being started anew.
const REDIAL: Duration = Duration::from_millis(100);

/// The task's memory.
#[derive(Debug)]
pub struct Actor {
    /// The daemon.
    pub daemon: Arc<Daemon>,
    /// Key of the instance.
    pub machine: Key,
    /// Its files.
    pub layout: MachineLayout,
    /// Its processes.
    pub cgroup: Cgroup,
    run: Run,
    back_off: BackOff,
    tries: u32,
    retry_at: Option<Instant>,
    failure: Option<(&'static str, String)>,
    stop: Option<Stopping>,
    /// Why the run is being ended: its liveness probe has failed.
    unhealthy: Option<String>,
}

#[derive(Debug)]
enum Run {
    Unknown,
    Dead(Dead),
    Starting {
        task: JoinHandle<Result<(), StartError>>,
    },
    Live(Box<Live>),
}

#[derive(Debug)]
struct Live {
    plan: Plan,
    connection: Option<Connection>,
    probes: Probes,
    /// What the launcher has warned of, as far as it was told.
    warned: Vec<String>,
}

impl Live {
    fn new(plan: Plan) -> Box<Self> {
        Box::new(Self {
            plan,
            connection: None,
            probes: Probes::default(),
            warned: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct Connection {
    launcher: Launcher,
    reports: watch::Receiver<Option<VmReport>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When to look again without being woken.
enum Next {
    At(Option<Instant>),
    Now,
    Done,
}

/// Runs a machine until neither its objects nor its files are left, or the daemon stops and it is down.
pub async fn run(daemon: Arc<Daemon>, machine: Key) -> Key {
    let layout = daemon.layout.machine(&machine);
    let cgroup = match Cgroup::of(
        &daemon.identity,
        &format!("{}_{}", machine.namespace, machine.name),
    ) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            daemon
                .events
                .warning(&machine, "FailedCreate", catamaran_client::chain(&error));
            tokio::time::sleep(LONGEST_RETRY).await;
            return machine;
        }
    };
    let back_off = record::load(&layout.root().join("backoff.json"))
        .ok()
        .flatten()
        .unwrap_or_default();
    let mut actor = Actor {
        daemon: daemon.clone(),
        machine: machine.clone(),
        layout,
        cgroup,
        run: Run::Unknown,
        back_off,
        tries: 0,
        retry_at: None,
        failure: None,
        stop: None,
        unhealthy: None,
    };
    let (mut changes, mut stopping) = (daemon.store.subscribe(), daemon.stopping());
    loop {
        changes.borrow_and_update();
        stopping.borrow_and_update();
        let at = match actor.step().await {
            Ok(Next::Done) => break,
            Ok(Next::Now) => continue,
            Ok(Next::At(at)) => at,
            Err(error) => {
                actor.daemon.events.warning(
                    &machine,
                    error.reason(),
                    catamaran_client::chain(&error),
                );
                Some(Instant::now() + FIRST_RETRY)
            }
        };
        tokio::select! {
            _ = changes.changed() => {}
            _ = stopping.changed() => {}
            () = actor.run.changed() => {}
            () = catamaran_client::until(at) => {}
        }
    }
    machine
}

impl Run {
    /// Until something about the run itself changes.
    async fn changed(&mut self) {
        match self {
            Self::Starting { task } => {
                while !task.is_finished() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Self::Live(live) => match &mut live.connection {
                Some(connection) => tokio::select! {
                    _ = connection.reports.changed() => {}
                    () = live.probes.changed() => {}
                },
                None => tokio::time::sleep(REDIAL).await,
            },
            Self::Unknown | Self::Dead(_) => std::future::pending().await,
        }
    }
}

impl Actor {
    fn vm_key(&self) -> Key {
        self.machine.with_kind(Kind::VirtualMachine)
    }

    /// Looks at everything once and does the next thing.
    async fn step(&mut self) -> Result<Next, StartError> {
        let down = *self.daemon.stopping().borrow();
        if down.is_some_and(|how| how.delete) {
            for key in [self.vm_key(), self.machine.clone()] {
                let _ = self.daemon.store.mark_deleted(&key, &time::now());
            }
        }
        let mut vmi = self.daemon.store.get(&self.machine);
        if down.is_some()
            && let Some(stored) = vmi.as_ref()
            && stored.object["metadata"]["ownerReferences"].is_array()
        {
            // The run is ended on purpose: it is deleted first, so that its end does not count as a failure.
            let _ = self.daemon.store.mark_deleted(&self.machine, &time::now());
            vmi = self.daemon.store.get(&self.machine);
        }
        if matches!(self.run, Run::Unknown) {
            return self.look(vmi.as_ref()).await;
        }
        let mut again = None;
        if let Some(vm) = self.daemon.store.get(&self.vm_key()) {
            match self.decide(&vm, vmi.as_ref(), down.is_some())? {
                Decided::Changed => return Ok(Next::Now),
                Decided::Finalize => return self.finalize().await,
                Decided::Nothing(at) => again = at,
            }
        }
        let Some(vmi) = vmi else {
            // The instance went away under a run that was never asked to end: the run may not outlive it.
            if !matches!(self.run, Run::Dead(_)) {
                self.kill(None).await?;
                return Ok(Next::Now);
            }
            if self.daemon.store.get(&self.vm_key()).is_none() {
                return self.finalize().await;
            }
            return Ok(if down.is_some() {
                Next::Done
            } else {
                Next::At(again)
            });
        };
        self.drive(&vmi, down.is_some(), again).await
    }

    /// The state left by the last daemon.
    async fn look(&mut self, vmi: Option<&Stored>) -> Result<Next, StartError> {
        match adopt::look(self, vmi).await? {
            Found::Live(plan) => {
                self.daemon.events.normal(
                    &self.machine,
                    "Adopted",
                    "The guest goes on under a new daemon",
                );
                self.run = Run::Live(Live::new(*plan));
            }
            Found::Dead { proof, plan, ended } => {
                if let Some(words) = ended {
                    self.end(DomainEnd::Vanished, words)?;
                }
                adopt::release(self, &proof, plan.as_deref()).await?;
                self.run = Run::Dead(proof);
            }
        }
        Ok(Next::Now)
    }

    /// Brings the instance to what it is to be.
    async fn drive(
        &mut self,
        stored: &Stored,
        down: bool,
        again: Option<Instant>,
    ) -> Result<Next, StartError> {
        let vmi: VirtualMachineInstance = typed(stored)?;
        let view = VmiView::of(&vmi);
        let leaving = view.deleting || down;
        match std::mem::replace(&mut self.run, Run::Unknown) {
            Run::Dead(proof) => {
                self.stop = None;
                self.unhealthy = None;
                self.run = Run::Dead(proof);
                self.dead(stored, &view, leaving, down, again).await
            }
            Run::Starting { task } if leaving => {
                self.run = Run::Starting { task };
                let end = DomainEnd::Destroyed {
                    acpi: false,
                    grace_seconds: 0,
                };
                self.kill(Some((end, "Deleted before it was started")))
                    .await?;
                Ok(Next::Now)
            }
            Run::Starting { task } if !task.is_finished() => {
                self.run = Run::Starting { task };
                Ok(Next::At(again))
            }
            Run::Starting { task } => self.started(task.await).await,
            Run::Live(live) => self.live(live, &view, leaving, again).await,
            Run::Unknown => Ok(Next::Now),
        }
    }
}

fn typed<T: serde::de::DeserializeOwned>(stored: &Stored) -> Result<T, StartError> {
    stored
        .typed()
        .map_err(|error| StartError::Plan(format!("the stored object is not readable: {error}")))
}

pub(super) fn store_error(error: crate::serve::store::StoreError) -> StartError {
    StartError::Io {
        what: "the object store".to_owned(),
        source: std::io::Error::other(error),
    }
}

fn now() -> i64 {
    i64::try_from(time::seconds()).unwrap_or(i64::MAX)
}

/// A field of a stored object as text.
pub(super) fn word<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
