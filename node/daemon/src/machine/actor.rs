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

use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use catamaran_lifecycle::{Action, BackOff, Decision, DomainEnd, Facts, Phase, VmView, VmiView};
use catamaran_plan::{Identity, Plan};
use catamaran_spec::{Context, MachineSpec};
use catamaran_wire::{EndReason, Verb, VmReport, VmState};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use uuid::Uuid;

use crate::machine::adopt::{self, Found};
use crate::machine::cgroup::{Cgroup, Dead};
use crate::machine::error::StartError;
use crate::machine::launcher::{self, Launcher};
use crate::machine::probes::Probes;
use crate::machine::record;
use crate::machine::start::{self, Start};
use crate::machine::{network, status};
use crate::serve::daemon::Daemon;
use crate::serve::layout::MachineLayout;
use crate::serve::store::{Key, Kind, Stored, digest, uid};
use crate::serve::time;

/// Pause after a failed start; doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between starts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Pause before a launcher is dialled again: it is being started anew.
const REDIAL: Duration = Duration::from_millis(100);
/// Time for a launcher to end after its guest, before it is killed.
const FINISH: Duration = Duration::from_secs(10);
/// Time beyond the grace period after which a machine is killed from outside.
const OVERDUE: Duration = Duration::from_secs(20);

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
    stop: Option<(u32, Instant)>,
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
            () = sleep_until(at) => {}
        }
    }
    machine
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
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
        let uid = vmi
            .as_ref()
            .and_then(|stored| stored.object["metadata"]["uid"].as_str());
        if matches!(self.run, Run::Unknown) {
            return self.look(uid).await;
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
                self.kill().await?;
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
    async fn look(&mut self, uid: Option<&str>) -> Result<Next, StartError> {
        match adopt::look(self, uid).await? {
            Found::Live(plan) => {
                self.daemon.events.normal(
                    &self.machine,
                    "Adopted",
                    "The guest goes on under a new daemon",
                );
                self.run = Run::Live(Box::new(Live {
                    plan: *plan,
                    connection: None,
                    probes: Probes::default(),
                }));
            }
            Found::Dead { proof, was_started } => {
                self.run = Run::Dead(proof);
                if was_started {
                    self.end(
                        DomainEnd::Vanished,
                        "The guest ended while no daemon was there to see it",
                    )?;
                }
            }
        }
        Ok(Next::Now)
    }

    /// What the run strategy asks for.
    fn decide(
        &mut self,
        stored: &Stored,
        vmi: Option<&Stored>,
        down: bool,
    ) -> Result<Decided, StartError> {
        let vm: VirtualMachine = typed(stored)?;
        let instance: Option<VirtualMachineInstance> = vmi.map(typed).transpose()?;
        let template_digest = digest(&stored.object["spec"]["template"]);
        let view = VmView::of(&vm, &template_digest, self.back_off.clone())
            .map_err(|error| StartError::Plan(error.to_string()))?;
        let instance_view = instance.as_ref().map(VmiView::of);
        let facts = Facts {
            earlier_run_alive: instance.is_none() && !matches!(self.run, Run::Dead(_)),
            jitter_permille: jitter(),
        };
        let now = now();
        let mut decision = catamaran_lifecycle::decide(&view, instance_view.as_ref(), &facts, now);
        if down && matches!(decision.action, Action::Create { .. }) {
            decision.action = Action::Wait {
                reason: "the daemon is going down".to_owned(),
            };
            decision.again_at = None;
        }
        self.remember(&decision);
        let rewritten = status::write_vm(
            &self.daemon.store,
            &self.vm_key(),
            &status::VmStatus {
                vm: &vm,
                view: &view,
                vmi: instance.as_ref(),
                decision: &decision,
                template_digest: &template_digest,
            },
            now,
        )?;
        match &decision.action {
            Action::Create { paused } => {
                self.create(stored, *paused)?;
                return Ok(Decided::Changed);
            }
            Action::Delete { reason, .. } => {
                self.daemon.events.normal(
                    &self.vm_key(),
                    "SuccessfulDelete",
                    format!("Stopped the virtual machine by deleting its instance: {reason}"),
                );
                self.daemon
                    .store
                    .mark_deleted(&self.machine, &time::now())
                    .map_err(store_error)?;
                return Ok(Decided::Changed);
            }
            Action::Finalize => return Ok(Decided::Finalize),
            Action::Wait { .. } | Action::Nothing => {}
        }
        if rewritten {
            return Ok(Decided::Changed);
        }
        let at = decision
            .again_at
            .and_then(|at| u64::try_from(at - now).ok())
            .map(|seconds| Instant::now() + Duration::from_secs(seconds + 1));
        Ok(Decided::Nothing(at))
    }

    fn remember(&mut self, decision: &Decision) {
        if decision.back_off != self.back_off {
            self.back_off = decision.back_off.clone();
            if let Err(error) =
                record::save(&self.layout.root().join("backoff.json"), &self.back_off)
            {
                tracing::warn!(error = %error, "the back-off could not be stored");
            }
        }
    }

    /// Makes the instance from the template.
    fn create(&mut self, stored: &Stored, paused: bool) -> Result<(), StartError> {
        let vm = &stored.object;
        let template = &vm["spec"]["template"];
        let mut spec = template["spec"].clone();
        if paused {
            spec["startStrategy"] = "Paused".into();
        }
        let mut annotations = template["metadata"]["annotations"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        annotations.insert(
            "kubevirt.io/vm-generation".to_owned(),
            vm["metadata"]["generation"].to_string().into(),
        );
        let instance = json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {
                "name": self.machine.name, "namespace": self.machine.namespace, "uid": Uuid::new_v4().to_string(),
                "generation": 1, "creationTimestamp": time::now(),
                "labels": template["metadata"]["labels"].as_object().cloned().unwrap_or_default(), "annotations": annotations,
                "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": self.machine.name, "uid": vm["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}],
            },
            "spec": spec,
        });
        self.daemon
            .store
            .put(&self.machine, instance)
            .map_err(store_error)?;
        self.tries = 0;
        self.retry_at = None;
        self.daemon.events.normal(
            &self.vm_key(),
            "SuccessfulCreate",
            format!(
                "Started the virtual machine by creating the new virtual machine instance {}",
                self.machine.name
            ),
        );
        Ok(())
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
                task.abort();
                let _ = task.await;
                self.kill().await?;
                self.end(
                    DomainEnd::Destroyed {
                        acpi: false,
                        grace_seconds: 0,
                    },
                    "Deleted before it was started",
                )?;
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

    /// Nobody runs: start, or let the instance go.
    async fn dead(
        &mut self,
        stored: &Stored,
        view: &VmiView,
        leaving: bool,
        down: bool,
        again: Option<Instant>,
    ) -> Result<Next, StartError> {
        if view.deleting {
            if !view.phase.is_final() {
                self.end(
                    DomainEnd::Destroyed {
                        acpi: false,
                        grace_seconds: 0,
                    },
                    "Deleted",
                )?;
            }
            self.daemon
                .store
                .remove(&self.machine)
                .map_err(store_error)?;
            return Ok(Next::Now);
        }
        if leaving || view.phase.is_final() {
            let owned = stored.object["metadata"]["ownerReferences"].is_array();
            if down && owned {
                self.daemon
                    .store
                    .mark_deleted(&self.machine, &time::now())
                    .map_err(store_error)?;
                return Ok(Next::Now);
            }
            return Ok(if down { Next::Done } else { Next::At(again) });
        }
        if let Some(at) = self.retry_at.filter(|at| *at > Instant::now()) {
            return Ok(Next::At(Some(again.map_or(at, |again| again.min(at)))));
        }
        let vm = self.daemon.store.get(&self.vm_key());
        let start = self.plan_start(stored, vm.as_ref())?;
        status::phase(&self.daemon.store, &self.machine, Phase::Scheduling)?;
        let Run::Dead(proof) = std::mem::replace(&mut self.run, Run::Unknown) else {
            return Ok(Next::Now);
        };
        let (daemon, cgroup) = (self.daemon.clone(), self.cgroup.clone());
        let task = tokio::runtime::Handle::current()
            .spawn(async move { start::run(&daemon, &start, &cgroup, &proof).await });
        self.run = Run::Starting { task };
        Ok(Next::Now)
    }

    fn plan_start(&self, stored: &Stored, vm: Option<&Stored>) -> Result<Start, StartError> {
        let vmi: VirtualMachineInstance = typed(stored)?;
        let (spec, _) = MachineSpec::from_vmi(&vmi, Context::Play)
            .map_err(|errors| StartError::Plan(errors.to_string()))?;
        let vmi_uid = vmi
            .metadata
            .uid
            .as_deref()
            .and_then(|uid| Uuid::parse_str(uid).ok())
            .unwrap_or_else(|| uid(&self.machine));
        // A guest keeps its identity over runs, and over `delete` and `apply`: it is a function of the name.
        let owner = if vm.is_some() {
            self.vm_key()
        } else {
            self.machine.clone()
        };
        Ok(Start {
            machine: self.machine.clone(),
            digest: digest(&stored.object["spec"]),
            spec,
            vmi_uid,
            identity: Identity::of_uid(uid(&owner)),
        })
    }

    /// What became of the start.
    async fn started(
        &mut self,
        result: Result<Result<(), StartError>, tokio::task::JoinError>,
    ) -> Result<Next, StartError> {
        let result = result.unwrap_or_else(|error| {
            Err(StartError::Plan(format!("the start was cut off: {error}")))
        });
        match result {
            Ok(()) => {
                let plan = record::plan(&self.layout).map_err(StartError::io("the plan"))?;
                let plan =
                    plan.ok_or_else(|| StartError::Plan("the plan of the run is gone".to_owned()))?;
                self.failure = None;
                status::synchronized(&self.daemon.store, &self.machine, None)?;
                status::phase(&self.daemon.store, &self.machine, Phase::Scheduled)?;
                status::hardware(&self.daemon, &self.machine, &plan)?;
                self.run = Run::Live(Box::new(Live {
                    plan,
                    connection: None,
                    probes: Probes::default(),
                }));
            }
            Err(error) => {
                let text = catamaran_client::chain(&error);
                self.daemon
                    .events
                    .warning(&self.machine, error.reason(), text.clone());
                self.kill().await?;
                let pause = FIRST_RETRY
                    .saturating_mul(1 << self.tries.min(10))
                    .min(LONGEST_RETRY);
                self.tries = self.tries.saturating_add(1);
                self.retry_at = Some(Instant::now() + pause);
                let reason = if self.tries > 1 && error.reason() == "ErrImagePull" {
                    "ImagePullBackOff"
                } else {
                    error.reason()
                };
                status::synchronized(&self.daemon.store, &self.machine, Some((reason, &text)))?;
                self.failure = Some((reason, text));
            }
        }
        Ok(Next::Now)
    }

    /// A guest runs, or did until a moment ago.
    async fn live(
        &mut self,
        mut live: Box<Live>,
        view: &VmiView,
        leaving: bool,
        again: Option<Instant>,
    ) -> Result<Next, StartError> {
        if live
            .connection
            .as_ref()
            .is_none_or(|connection| !connection.launcher.connected())
        {
            live.connection = None;
            self.daemon.machines.set(&self.machine, None);
            if let Some(proof) = self.cgroup.prove_dead()? {
                adopt::release(self, &proof, Some(&live.plan)).await?;
                self.run = Run::Dead(proof);
                self.end(DomainEnd::Vanished, "QEMU is gone and nobody shut it down")?;
                return Ok(Next::Now);
            }
            live.connection = self.connect(&live.plan).await;
        }
        let report = live
            .connection
            .as_mut()
            .and_then(|connection| connection.reports.borrow_and_update().clone());
        let launcher = live
            .connection
            .as_ref()
            .map(|connection| connection.launcher.clone());
        let plan = live.plan.clone();
        let mut ready = None;
        if let Some(report) = &report {
            let health = live
                .probes
                .follow(&self.daemon, &self.machine, &report.state);
            ready = health.ready;
            self.unhealthy = health.failed;
        }
        let leaving = leaving || self.unhealthy.is_some();
        self.run = Run::Live(live);
        let Some(launcher) = launcher else {
            return Ok(Next::At(again));
        };
        if let Some(report) = report {
            match &report.state {
                VmState::Ended { reason } => {
                    let end = domain_end(*reason, view, self.stop.map(|(grace, _)| grace));
                    let words = report
                        .message
                        .clone()
                        .unwrap_or_else(|| format!("The guest ended: {reason:?}"));
                    self.finish(&launcher, &plan).await?;
                    self.end(end, &words)?;
                    return Ok(Next::Now);
                }
                // A launcher that came anew before QEMU did does not know its plan.
                VmState::Idle if !leaving => {
                    launcher
                        .ask(Verb::Start {
                            plan: Box::new(plan),
                        })
                        .await?;
                    return Ok(Next::At(again));
                }
                _ => status::report(&self.daemon, &self.machine, &report, ready)?,
            }
        }
        if leaving {
            self.ask_to_stop(&launcher, view.grace_seconds, again).await
        } else {
            Ok(Next::At(again))
        }
    }

    /// Asks once, again when the grace period gets shorter, and kills from outside what does not end even so.
    async fn ask_to_stop(
        &mut self,
        launcher: &Launcher,
        grace: u32,
        again: Option<Instant>,
    ) -> Result<Next, StartError> {
        let now = Instant::now();
        let deadline = match self.stop {
            Some((asked, deadline)) if asked <= grace => deadline,
            _ => {
                launcher
                    .ask(Verb::Stop {
                        grace_period_seconds: Some(grace),
                    })
                    .await?;
                let deadline = now + Duration::from_secs(u64::from(grace)) + OVERDUE;
                self.stop = Some((grace, deadline));
                deadline
            }
        };
        if now >= deadline {
            self.daemon.events.warning(
                &self.machine,
                "Overdue",
                "The launcher did not end the guest in time; everything in its sandbox is killed",
            );
            self.kill().await?;
            self.end(
                DomainEnd::Destroyed {
                    acpi: true,
                    grace_seconds: grace,
                },
                "Killed: the grace period was over",
            )?;
            return Ok(Next::Now);
        }
        Ok(Next::At(Some(
            again.map_or(deadline, |again| again.min(deadline)),
        )))
    }

    /// Connects to the launcher and gives it the sockets of the DHCP servers; `None` = not now.
    async fn connect(&self, plan: &Plan) -> Option<Connection> {
        let (launcher, task) = launcher::connect(&self.layout.run()).await.ok()?;
        let task = self.daemon.streams.spawn(task);
        let connection = Connection {
            reports: launcher.reports(),
            launcher,
            task,
        };
        let served = async {
            let bound = start::rebind(&self.daemon, &self.layout, &self.machine, plan).await?;
            let netns = network::attach(&self.daemon, &self.machine).await?.netns;
            network::serve(&connection.launcher, &netns, &bound).await
        };
        if let Err(error) = served.await {
            self.daemon.events.warning(
                &self.machine,
                "NetworkNotServed",
                catamaran_client::chain(&error),
            );
        }
        self.daemon
            .machines
            .set(&self.machine, Some(&connection.launcher));
        Some(connection)
    }

    /// Lets the launcher end, and clears the run.
    async fn finish(&mut self, launcher: &Launcher, plan: &Plan) -> Result<(), StartError> {
        let _ = launcher.ask(Verb::Finish).await;
        let proof = match tokio::time::timeout(FINISH, self.cgroup.dead()).await {
            Ok(proof) => proof?,
            Err(_) => self.cgroup.kill().await?,
        };
        self.daemon.machines.set(&self.machine, None);
        adopt::release(self, &proof, Some(plan)).await?;
        self.run = Run::Dead(proof);
        Ok(())
    }

    /// Kills everything of the run and clears it.
    async fn kill(&mut self) -> Result<(), StartError> {
        if let Run::Starting { task } = &self.run {
            task.abort();
        }
        self.daemon.machines.set(&self.machine, None);
        let proof = self.cgroup.kill().await?;
        let plan = record::plan(&self.layout).map_err(StartError::io("the plan"))?;
        adopt::release(self, &proof, plan.as_ref()).await?;
        self.run = Run::Dead(proof);
        Ok(())
    }

    /// The run is over.
    fn end(&mut self, end: DomainEnd, words: &str) -> Result<(), StartError> {
        // However politely it went: a guest that was stopped for its health has failed.
        let unhealthy = self.unhealthy.take();
        let (end, words) = match &unhealthy {
            Some(why) => (DomainEnd::Unhealthy, why.as_str()),
            None => (end, words),
        };
        let phase = end.phase();
        if phase == Phase::Failed {
            self.daemon.events.warning(&self.machine, "Stopped", words);
        } else {
            self.daemon.events.normal(&self.machine, "Stopped", words);
        }
        status::ended(&self.daemon.store, &self.machine, phase, words)
    }

    /// Neither machine nor instance are left: nothing of it stays.
    async fn finalize(&mut self) -> Result<Next, StartError> {
        if !matches!(self.run, Run::Dead(_)) {
            self.kill().await?;
        }
        network::release(&self.daemon, &self.machine).await?;
        record::ignore_missing(std::fs::remove_dir_all(self.layout.root()))
            .map_err(StartError::io(self.layout.root().display().to_string()))?;
        self.daemon
            .store
            .remove(&self.vm_key())
            .map_err(store_error)?;
        for key in [self.vm_key(), self.machine.clone()] {
            self.daemon.events.forget(&key);
        }
        Ok(Next::Done)
    }
}

/// What [`Actor::decide`] came to.
enum Decided {
    /// Stored objects were changed: look again.
    Changed,
    /// The machine may go.
    Finalize,
    /// Nothing now; look again then.
    Nothing(Option<Instant>),
}

fn domain_end(reason: EndReason, view: &VmiView, asked_with: Option<u32>) -> DomainEnd {
    match reason {
        EndReason::Shutdown => DomainEnd::Shutdown,
        EndReason::Saved => DomainEnd::Saved,
        EndReason::Destroyed => DomainEnd::Destroyed {
            acpi: view.acpi,
            grace_seconds: asked_with.unwrap_or(view.grace_seconds),
        },
        EndReason::Panicked => DomainEnd::Panicked,
        EndReason::FailedToStart => DomainEnd::NeverStarted,
        EndReason::Crashed | EndReason::Other => DomainEnd::Crashed,
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

/// A number from 0 to 1000, different each time: the low bits of a random uuid.
fn jitter() -> u32 {
    u32::try_from(Uuid::new_v4().as_u128() % 1001).unwrap_or(0)
}

/// A field of a stored object as text.
pub(super) fn word<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
