//! What an earlier launcher left.

use catamaran_plan::{Plan, paths};
use catamaran_sandbox::records;

use super::{Driver, End, Started, exit_of};
use crate::hypervisor::{DomainState, Found};
use crate::machine::{Effect, Input, Machine};
use crate::request_queue::Request;

impl Driver {
    /// What an earlier launcher left: an end, a running machine, a machine that is gone, or an interrupted start.
    pub(super) async fn adopt(&mut self) -> Vec<Effect> {
        let now = records::now_ms();
        match records::load::<End>(&self.places.end()) {
            Ok(Some(end)) => {
                self.machine = Machine::ended(end.generation, end.reason, end.message, end.time_ms);
                return Vec::new();
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the record of the end is not readable"),
        }
        let plan: Box<Plan> = match records::load(&self.places.plan()) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "the stored plan is not readable");
                return Vec::new();
            }
        };
        let (name, generation, grace) = (
            plan.domain.clone(),
            plan.generation.clone(),
            plan.grace_period_seconds,
        );
        self.machine.expect_plan(grace);
        self.plan = Some(plan);
        let found = self
            .control
            .call(move |hypervisor| hypervisor.adopt(&name))
            .await;
        let started = records::load::<Started>(&self.places.started())
            .ok()
            .flatten();
        match found {
            Ok(Some(Found { pid, state })) if pid.is_none_or(catamaran_host::process::is_alive) => {
                tracing::info!(pid, ?state, "a running machine is adopted");
                self.record_start(pid);
                let (machine, effects) = Machine::adopted(generation, grace, pid, state, now);
                self.machine = machine;
                self.watch(pid);
                // The agent's arrival was told to the launcher before this one.
                self.agent_connected = true;
                self.granted = true;
                self.agent_due = Some(tokio::time::Instant::now());
                effects
            }
            // libvirt lists a machine whose QEMU has died for some seconds more.
            Ok(_) => match started {
                Some(started) => {
                    let (mut machine, _) = Machine::adopted(
                        generation,
                        grace,
                        started.pid,
                        DomainState::Running,
                        started.time_ms,
                    );
                    let how = exit_of(started.pid, &self.places.resolve(paths::EXITS)).await;
                    let mut effects = machine.step(Input::ProcessGone(how), now);
                    effects.extend(machine.step(Input::Tick, u64::MAX / 2));
                    machine.since_ms = now;
                    self.machine = machine;
                    effects
                }
                None => self.machine.request(Request::Start(generation), now).1,
            },
            Err(error) => {
                self.machine.generation = Some(generation);
                self.machine.step(
                    Input::Prepared(Err(format!("look for the machine: {error}"))),
                    now,
                )
            }
        }
    }
}
