//! The task that owns the machine: it feeds what happens into [`Machine`] and does what follows.
//!
//! ```text
//!   server ──Ask──┐                            ┌── Publisher (one writer) ──> watchers
//!   hypervisor ───┼──> driver: Machine::step ──┤
//!   pidfd, clock ─┘        │        ^          └── record of plan, start, end
//!                          v        │
//!                     effects ── tasks (hypervisor thread, preparation, agent)
//! ```

mod adopt;
mod effects;

use std::os::fd::OwnedFd;
use std::time::Duration;

use catamaran_plan::{Generation, Plan, paths};
use catamaran_wire::{AgentInfo, EndReason, ErrorKind, WireError};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::hypervisor::{Control, Event, Press};
use crate::machine::{Effect, Input, Machine};
use crate::places::Places;
use crate::publish::Publisher;
use crate::request_queue::{Request, Verdict};
use catamaran_sandbox::records;

/// How often the guest agent is asked.
const AGENT_EVERY: Duration = Duration::from_secs(30);
/// How soon an agent that did not answer is asked again.
const AGENT_RETRY: Duration = Duration::from_secs(5);
/// How long after a start the hypervisor's library has given up what the start needed.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// A request to the driver, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// The plan of a start.
    pub plan: Option<Box<Plan>>,
    /// Takes the answer; buttons answer when they were pressed, the others when they were taken.
    pub answer: oneshot::Sender<Result<(), WireError>>,
}

/// What is recorded when QEMU has been started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Its pid in the sandbox; `None` without a process.
    pub pid: Option<i32>,
    /// When, ms of the Unix epoch.
    pub time_ms: u64,
}

/// What is recorded when the machine has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Of which plan.
    pub generation: Option<Generation>,
    /// How.
    pub reason: EndReason,
    /// For people.
    pub message: Option<String>,
    /// When, ms of the Unix epoch.
    pub time_ms: u64,
}

/// What a task of the driver brings back.
#[derive(Debug)]
enum Done {
    Input(Input),
    /// A button that somebody waits for.
    Pressed(Press, Result<(), WireError>),
    Prepared(Result<bool, String>),
    Agent(Option<AgentInfo>),
    /// What the start has used of memory is free by now.
    Settled,
    Warnings(Vec<String>),
}

/// The driver's state besides the machine's own.
#[derive(Debug)]
pub struct Driver {
    machine: Machine,
    plan: Option<Box<Plan>>,
    places: Places,
    control: Control,
    publisher: Publisher,
    asks: mpsc::Receiver<Ask>,
    events: mpsc::UnboundedReceiver<Event>,
    viewers: tokio::sync::watch::Receiver<u32>,
    tasks: JoinSet<Done>,
    qemu: Option<AsyncFd<OwnedFd>>,
    agent: Option<AgentInfo>,
    agent_connected: bool,
    agent_due: Option<tokio::time::Instant>,
    granted: bool,
    fresh_disks: bool,
    warnings: Vec<String>,
    waiting: Vec<(Press, oneshot::Sender<Result<(), WireError>>)>,
}

/// What a driver is given.
#[derive(Debug)]
pub struct Parts {
    /// Where things are.
    pub places: Places,
    /// The hypervisor's thread.
    pub control: Control,
    /// The one publisher.
    pub publisher: Publisher,
    /// Requests.
    pub asks: mpsc::Receiver<Ask>,
    /// The hypervisor's events.
    pub events: mpsc::UnboundedReceiver<Event>,
    /// How many people look.
    pub viewers: tokio::sync::watch::Receiver<u32>,
}

impl Driver {
    /// A driver of what an earlier launcher left, or of nothing yet.
    pub async fn resume(parts: Parts) -> Self {
        let Parts {
            places,
            control,
            publisher,
            asks,
            events,
            viewers,
        } = parts;
        let mut driver = Self {
            machine: Machine::idle(records::now_ms()),
            plan: None,
            places,
            control,
            publisher,
            asks,
            events,
            viewers,
            tasks: JoinSet::new(),
            qemu: None,
            agent: None,
            agent_connected: false,
            agent_due: None,
            granted: false,
            fresh_disks: false,
            warnings: Vec::new(),
            waiting: Vec::new(),
        };
        let effects = driver.adopt().await;
        driver.perform(effects);
        driver.publish();
        driver
    }

    /// Runs until the launcher may end; says whether the machine has failed.
    pub async fn run(mut self) -> bool {
        loop {
            if let Some(failed) = self.machine.finished() {
                return failed;
            }
            let tick = self.machine.next_due().map(|due| {
                tokio::time::Instant::now()
                    + Duration::from_millis(due.saturating_sub(records::now_ms()))
            });
            let effects = tokio::select! {
                Some(ask) = self.asks.recv() => self.ask(ask),
                Some(event) = self.events.recv() => self.event(event),
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.done(done),
                () = process_end(self.qemu.as_ref()), if self.qemu.is_some() => self.process_gone(),
                () = until(self.agent_due), if self.agent_due.is_some() => {
                    self.ask_agent();
                    Vec::new()
                }
                () = until(tick), if tick.is_some() => self.step(Input::Tick),
                Ok(()) = self.viewers.changed() => Vec::new(),
            };
            self.perform(effects);
            self.publish();
        }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.machine.step(input, records::now_ms())
    }

    fn publish(&self) {
        let viewers = *self.viewers.borrow();
        self.publisher
            .publish(&self.machine, self.agent.as_ref(), viewers, &self.warnings);
    }

    fn ask(&mut self, ask: Ask) -> Vec<Effect> {
        let Ask {
            request,
            plan,
            answer,
        } = ask;
        if let Some(plan) = &plan
            && self.plan.is_none()
        {
            self.machine.expect_plan(plan.grace_period_seconds);
        }
        let now = records::now_ms();
        let (verdict, mut effects) = self.machine.request(request, now);
        match verdict {
            Verdict::Denied(error) => {
                let _ = answer.send(Err(error));
            }
            Verdict::Ignored(why) => {
                tracing::debug!(why, "nothing to do");
                let _ = answer.send(Ok(()));
            }
            Verdict::Queued => {
                if let Some(plan) = plan
                    && let Err(error) = self.take_plan(plan)
                {
                    let _ = answer.send(Err(WireError::new(ErrorKind::Failed, error.clone())));
                    return self.step(Input::Prepared(Err(error)));
                }
                match effects.first() {
                    // Somebody wants to know whether it worked.
                    Some(Effect::Press(button)) if *button != Press::Destroy => {
                        self.waiting.push((*button, answer));
                    }
                    Some(Effect::SoftReboot) => self.waiting.push((Press::Reboot, answer)),
                    _ => {
                        let _ = answer.send(Ok(()));
                    }
                }
                effects.extend(self.machine.step(Input::Tick, now));
            }
        }
        effects
    }

    /// Stored before anything is done with it: a launcher that is killed now goes on with it.
    fn take_plan(&mut self, plan: Box<Plan>) -> Result<(), String> {
        let file = self.places.plan();
        records::store(&file, &plan)
            .map_err(|error| format!("store the plan in {}: {error}", file.display()))?;
        self.warnings.clear();
        self.plan = Some(plan);
        Ok(())
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Agent { connected } => {
                self.agent_connected = connected;
                self.agent_due = connected.then(tokio::time::Instant::now);
                if !connected {
                    self.agent = None;
                    self.granted = false;
                }
            }
            Event::Rebooted => self.granted = false,
            _ => {}
        }
        self.step(Input::Event(event))
    }

    fn process_gone(&mut self) -> Vec<Effect> {
        self.qemu = None;
        let (pid, record) = (self.machine.pid, self.places.resolve(paths::EXITS));
        self.tasks
            .spawn(async move { Done::Input(Input::ProcessGone(exit_of(pid, &record).await)) });
        Vec::new()
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Vec<Effect> {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "a task of the driver has failed");
                return Vec::new();
            }
        };
        match done {
            Done::Input(Input::Started(result)) => {
                if let Ok((pid, _)) = &result {
                    self.watch(*pid);
                    self.record_start(*pid);
                }
                self.step(Input::Started(result))
            }
            Done::Input(input) => self.step(input),
            Done::Prepared(result) => {
                self.fresh_disks = result.clone().unwrap_or(true);
                self.step(Input::Prepared(result.map(drop)))
            }
            Done::Pressed(button, result) => {
                if let Some(at) = self
                    .waiting
                    .iter()
                    .position(|(waiting, _)| *waiting == button)
                {
                    let _ = self.waiting.remove(at).1.send(result.clone());
                }
                self.step(Input::Pressed(
                    button,
                    result.map_err(|error| error.message),
                ))
            }
            Done::Agent(info) => {
                let pause = if info.is_some() {
                    AGENT_EVERY
                } else {
                    AGENT_RETRY
                };
                self.agent_due = self
                    .agent_connected
                    .then(|| tokio::time::Instant::now() + pause);
                if info.is_some() && !self.granted {
                    self.granted = true;
                    self.grant_access();
                }
                self.agent = info;
                Vec::new()
            }
            Done::Settled => {
                catamaran_libvirt::trim_memory();
                catamaran_libvirt::release_code();
                Vec::new()
            }
            Done::Warnings(warnings) => {
                self.warnings.extend(warnings);
                Vec::new()
            }
        }
    }

    #[expect(
        deprecated,
        reason = "the safe constructor; an OwnedFd is not closed while it is registered"
    )]
    fn watch(&mut self, pid: Option<i32>) {
        self.qemu = pid
            .and_then(rustix::process::Pid::from_raw)
            .and_then(|pid| {
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok()
            })
            .and_then(|fd| AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).ok());
    }

    fn record_start(&mut self, pid: Option<i32>) {
        self.tasks.spawn(async {
            tokio::time::sleep(SETTLED_AFTER).await;
            Done::Settled
        });
        let started = Started {
            pid,
            time_ms: records::now_ms(),
        };
        if let Err(error) = records::store(&self.places.started(), &started) {
            tracing::error!(%error, "the start is not recorded");
        }
    }
}

/// How a process that is gone has ended. init writes that down within moments of the end.
async fn exit_of(pid: Option<i32>, record: &std::path::Path) -> String {
    let unknown = || "exit status unknown".to_owned();
    let Some(pid) = pid else { return unknown() };
    for _ in 0..50 {
        if let Some(exit) = records::find_exit(record, pid) {
            return exit.to_string();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unknown()
}

async fn until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

async fn process_end(process: Option<&AsyncFd<OwnedFd>>) {
    match process {
        // An error means that the descriptor cannot be polled, which counts as an end no more than silence does.
        Some(process) if process.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
