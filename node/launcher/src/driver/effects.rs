//! What follows from a step of the machine: tasks whose results come back as [`Done`].

use std::path::PathBuf;

use catamaran_plan::{Plan, paths};
use catamaran_sandbox::records;
use catamaran_wire::{ErrorKind, VmState, WireError};

use super::{AGENT_RETRY, Done, Driver, End};
use crate::hypervisor::{Press, Start};
use crate::machine::{Effect, Input};
use crate::{agent, guest_log, prepare};

/// Free space that counts as "there is space again", bytes.
const SPACE_ENOUGH: u64 = 64 << 20;

impl Driver {
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Prepare => self.prepare(),
                Effect::Start => self.start(),
                Effect::Press(button) => self.press(button),
                Effect::SoftReboot => self.soft_reboot(),
                Effect::Save => self.save(),
                Effect::LookForSpace(file) => {
                    self.tasks
                        .spawn_blocking(move || Done::Input(Input::Space(has_space(&file))));
                }
                Effect::KeepLog => self.keep_log(),
                Effect::RecordEnd => self.record_end(),
            }
        }
    }

    fn prepare(&mut self) {
        let Some(steps) = self.plan.as_ref().map(|plan| plan.prepare.clone()) else {
            return;
        };
        let places = self.places.clone();
        self.tasks.spawn_blocking(move || {
            Done::Prepared(prepare::run(&steps, &places).map_err(|error| error.to_string()))
        });
    }

    fn start(&mut self) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let control = self.control.clone();
        let from = self.saved_memory(&plan);
        self.tasks.spawn(async move {
            let start = async |from: Option<PathBuf>| {
                let plan = plan.clone();
                let start = control.call(move |hypervisor| {
                    let Plan {
                        domain,
                        domain_xml,
                        start_paused,
                        ..
                    } = &*plan;
                    let from = from.as_deref();
                    hypervisor.start(Start {
                        domain,
                        xml: domain_xml,
                        paused: *start_paused,
                        from,
                    })
                });
                start.await
            };
            let mut result = start(from.clone()).await;
            if let Some(file) = from {
                // Used once: memory that went on running must never be restored again.
                let _ = std::fs::remove_file(&file);
                if let Err(error) = &result {
                    tracing::warn!(%error, "the saved memory cannot be used; the guest boots");
                    result = start(None).await;
                }
            }
            Done::Input(Input::Started(
                result
                    .map(|f| (f.pid, f.state))
                    .map_err(|error| error.to_string()),
            ))
        });
    }

    /// Memory saved by an earlier run, if it is of this very machine and its disks are the same.
    fn saved_memory(&self, plan: &Plan) -> Option<PathBuf> {
        let file = self.places.memory();
        let of: String = records::load(&self.places.memory_of()).ok().flatten()?;
        if !file.exists() {
            return None;
        }
        if of == plan.generation.spec_digest && !self.fresh_disks {
            return Some(file);
        }
        tracing::warn!(
            "memory saved earlier belongs to another spec or other disks; it is removed"
        );
        let _ = std::fs::remove_file(file);
        None
    }

    fn press(&mut self, button: Press) {
        let control = self.control.clone();
        self.tasks.spawn(async move {
            let result = control
                .call(move |hypervisor| hypervisor.press(button))
                .await;
            Done::Pressed(button, result.map_err(WireError::from))
        });
    }

    fn soft_reboot(&mut self) {
        let control = self.control.clone();
        let agent = self.agent.is_some();
        self.tasks.spawn(async move {
            let by = |button| control.call(move |hypervisor| hypervisor.press(button));
            let mut result = if agent {
                by(Press::AgentReboot).await
            } else {
                by(Press::Reboot).await
            };
            if agent && result.is_err() {
                result = by(Press::Reboot).await;
            }
            Done::Pressed(Press::Reboot, result.map_err(WireError::from))
        });
    }

    fn save(&mut self) {
        let Some(digest) = self
            .plan
            .as_ref()
            .map(|plan| plan.generation.spec_digest.clone())
        else {
            return;
        };
        let (file, of) = (self.places.memory(), self.places.memory_of());
        let control = self.control.clone();
        self.tasks.spawn(async move {
            let stored = records::store(&of, &digest).map_err(|error| error.to_string());
            let saved = match stored {
                Ok(()) => {
                    let target = file.clone();
                    let saved = control
                        .call(move |hypervisor| hypervisor.save(&target))
                        .await;
                    saved.map_err(|error| error.to_string())
                }
                Err(error) => Err(error),
            };
            if saved.is_err() {
                let _ = std::fs::remove_file(&file);
            }
            Done::Input(Input::Saved(saved))
        });
    }

    fn keep_log(&mut self) {
        let (pid, machine) = (
            self.machine.pid,
            self.plan.as_ref().map(|plan| plan.hardware.machine.clone()),
        );
        let file = self.places.resolve(paths::CRASH_LOG);
        self.tasks.spawn(async move {
            let kept = match (pid, machine) {
                (Some(pid), Some(machine)) => guest_log::keep(pid, machine, &file).await,
                _ => Err(WireError::new(
                    ErrorKind::Unavailable,
                    "there is no process to read from",
                )),
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "the panicked guest's log could not be kept");
            }
            Done::Input(Input::LogKept)
        });
    }

    pub(super) fn ask_agent(&mut self) {
        self.agent_due = None;
        if self.machine.state != VmState::Running {
            self.agent_due = Some(tokio::time::Instant::now() + AGENT_RETRY);
            return;
        }
        let (control, before) = (self.control.clone(), self.agent.clone());
        self.tasks
            .spawn(async move { Done::Agent(agent::look(&control, before).await.ok()) });
    }

    pub(super) fn grant_access(&mut self) {
        let Some(access) = self.plan.as_ref().map(|plan| plan.agent_access.clone()) else {
            return;
        };
        if access.is_empty() {
            return;
        }
        let (control, places) = (self.control.clone(), self.places.clone());
        self.tasks
            .spawn(async move { Done::Warnings(agent::grant(&control, &access, &places).await) });
    }

    fn record_end(&mut self) {
        self.agent = None;
        self.agent_due = None;
        let VmState::Ended { reason } = self.machine.state else {
            return;
        };
        let end = End {
            generation: self.machine.generation.clone(),
            reason,
            message: self.machine.message.clone(),
            time_ms: self.machine.since_ms,
        };
        if let Err(error) = records::store(&self.places.end(), &end) {
            tracing::error!(%error, "the end is not recorded");
        }
        for (_, answer) in self.waiting.drain(..) {
            let _ = answer.send(Err(WireError::new(
                ErrorKind::Denied,
                "the machine has ended meanwhile",
            )));
        }
    }
}

fn has_space(file: &str) -> bool {
    // QEMU names block devices otherwise; then resuming is tried blindly.
    rustix::fs::statvfs(file).map_or(true, |fs| {
        fs.f_bavail.saturating_mul(fs.f_frsize) >= SPACE_ENOUGH
    })
}
