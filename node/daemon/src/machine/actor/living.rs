//! A run that lives: its launcher is dialled, followed and asked to stop.

use std::time::{Duration, Instant};

use catamaran_lifecycle::{DomainEnd, VmiView};
use catamaran_plan::Plan;
use catamaran_wire::{EndReason, Verb, VmState};

use super::{Actor, Connection, FIRST_RETRY, Live, Next, Run};
use crate::machine::error::StartError;
use crate::machine::launcher::{self, Launcher};
use crate::machine::{adopt, network, start, status};

/// Time beyond the grace period after which a machine is killed from outside.
const OVERDUE: Duration = Duration::from_secs(20);
/// Longest wait for a launcher to take the wish to stop. It is asked again, until the machine is overdue.
const TAKEN: Duration = Duration::from_secs(5);

/// A machine on its way out.
#[derive(Debug)]
pub(super) struct Stopping {
    /// Seconds for the guest.
    grace: u32,
    /// The launcher knows.
    asked: bool,
    /// When everything is killed from outside.
    deadline: Instant,
}

impl Actor {
    /// A guest runs, or did until a moment ago.
    pub(super) async fn live(
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
                self.end(DomainEnd::Vanished, "QEMU is gone and nobody shut it down")?;
                adopt::release(self, &proof, Some(&live.plan)).await?;
                self.run = Run::Dead(proof);
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
            let events = &self.daemon.events;
            events.guest_access(&self.machine, &live.warned, &report.warnings);
            live.warned.clone_from(&report.warnings);
        }
        let leaving = leaving || self.unhealthy.is_some();
        self.run = Run::Live(live);
        if let (Some(launcher), Some(report)) = (&launcher, report) {
            match &report.state {
                VmState::Ended { reason } => {
                    let end = domain_end(
                        *reason,
                        view,
                        self.stop.as_ref().map(|stopping| stopping.grace),
                    );
                    let words = report
                        .message
                        .clone()
                        .unwrap_or_else(|| format!("The guest ended: {reason:?}"));
                    self.end(end, &words)?;
                    self.finish(launcher, &plan).await?;
                    return Ok(Next::Now);
                }
                // What was called over stays so, whatever its launcher says.
                _ if view.phase.is_final() => {
                    self.kill(None).await?;
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
                _ => status::report(&self.daemon, &self.machine, &report, ready, leaving)?,
            }
        }
        if leaving {
            self.ask_to_stop(launcher.as_ref(), view.grace_seconds, again)
                .await
        } else {
            Ok(Next::At(again))
        }
    }

    /// Asks until the launcher has taken it, again when the grace period gets shorter, and kills from outside what does not end even so: a
    /// launcher that never answers does not keep a machine for ever.
    async fn ask_to_stop(
        &mut self,
        launcher: Option<&Launcher>,
        grace: u32,
        again: Option<Instant>,
    ) -> Result<Next, StartError> {
        let now = Instant::now();
        let overdue = now + Duration::from_secs(u64::from(grace)) + OVERDUE;
        let stopping = self.stop.get_or_insert(Stopping {
            grace,
            asked: false,
            deadline: overdue,
        });
        if grace < stopping.grace {
            *stopping = Stopping {
                grace,
                asked: false,
                deadline: overdue.min(stopping.deadline),
            };
        }
        if now >= stopping.deadline {
            self.daemon.events.warning(
                &self.machine,
                "Overdue",
                "The launcher did not end the guest in time; everything in its sandbox is killed",
            );
            let end = DomainEnd::Destroyed {
                acpi: true,
                grace_seconds: grace,
            };
            self.kill(Some((end, "Killed: the grace period was over")))
                .await?;
            return Ok(Next::Now);
        }
        if let Some(launcher) = launcher.filter(|_| !stopping.asked) {
            let verb = Verb::Stop {
                grace_period_seconds: Some(grace),
            };
            match tokio::time::timeout(TAKEN, launcher.ask(verb)).await {
                Ok(Ok(_)) => stopping.asked = true,
                Ok(Err(error)) => self.daemon.events.warning(
                    &self.machine,
                    "StopNotTaken",
                    catamaran_client::chain(&error),
                ),
                Err(_) => tracing::warn!(machine = %self.machine, "the launcher does not answer"),
            }
        }
        let mut at = stopping.deadline;
        if !stopping.asked {
            at = at.min(Instant::now() + FIRST_RETRY);
        }
        Ok(Next::At(Some(again.map_or(at, |again| again.min(at)))))
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
