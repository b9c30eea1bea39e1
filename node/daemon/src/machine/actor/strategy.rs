//! The run strategy: what the machine's object asks of its instance.

use std::time::{Duration, Instant};

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use catamaran_lifecycle::{Action, Decision, Facts, VmView, VmiView};
use uuid::Uuid;

use super::{Actor, Run, now, store_error, typed, word};
use crate::machine::error::StartError;
use crate::machine::status::restarts;
use crate::machine::{record, status};
use crate::serve::store::{Stored, digest};
use crate::serve::time;

impl Actor {
    /// What the run strategy asks for.
    pub(super) fn decide(
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
            },
            now,
        )?;
        match &decision.action {
            Action::Create { paused } => {
                self.create(&vm, *paused)?;
                return Ok(Decided::Changed);
            }
            Action::Delete { reason, uid } => {
                if instance_view
                    .as_ref()
                    .is_some_and(|instance| restarts::follows(&view, instance))
                {
                    let end = vmi.map_or("", |stored| word(&stored.object, "/status/reason"));
                    self.daemon
                        .store
                        .edit(&self.vm_key(), |vm| restarts::note(vm, uid, end))
                        .map_err(store_error)?;
                }
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
    fn create(&mut self, vm: &VirtualMachine, paused: bool) -> Result<(), StartError> {
        let mut instance = serde_json::to_value(catamaran_lifecycle::instance(vm, paused))
            .map_err(|error| StartError::Plan(error.to_string()))?;
        // What an API server would add.
        let metadata = &mut instance["metadata"];
        metadata["uid"] = Uuid::new_v4().to_string().into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = time::now().into();
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
}

/// What [`Actor::decide`] came to.
pub(super) enum Decided {
    /// Stored objects were changed: look again.
    Changed,
    /// The machine may go.
    Finalize,
    /// Nothing now; look again then.
    Nothing(Option<Instant>),
}

/// A number from 0 to 1000, different each time: the low bits of a random uuid.
fn jitter() -> u32 {
    u32::try_from(Uuid::new_v4().as_u128() % 1001).unwrap_or(0)
}
