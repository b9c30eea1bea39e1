//! Writing the status: merge patches on the version that was read, so that nobody else's change is lost.

use std::sync::Arc;

use catamaran_api::VirtualMachineInstanceStatus;
use catamaran_wire::{EndReason, VmReport, VmState};
use kube::api::Patch;
use serde_json::json;

use super::Task;
use crate::kubernetes::as_daemon;
use crate::kubernetes::events::{self, Kind};
use crate::kubernetes::instance::Instance;
use crate::kubernetes::status;
use crate::machine::error::StartError;
use crate::machine::status::seconds;
use crate::serve::events::GUEST_ACCESS;

/// Tries of one write; each conflict means that somebody else wrote in between.
const TRIES: usize = 5;

impl Task {
    /// The guest runs, as the launcher says.
    pub(super) async fn publish_running(
        &mut self,
        instance: &Arc<Instance>,
        report: &VmReport,
    ) -> Result<(), StartError> {
        let Some(session) = self.session.clone() else {
            return Ok(());
        };
        let probed = instance.object.spec.readiness_probe.is_some();
        let before = instance.status();
        let started = before.phase.as_deref() != Some("Running");
        self.publish(|before| status::running(before, &session, report, probed, seconds()))
            .await?;
        if started {
            self.tell(
                instance,
                Kind::Normal,
                "Started",
                "VirtualMachineInstance started.",
            );
        }
        if let Some((reason, message)) = status::pause_event(&before, report) {
            self.tell(instance, Kind::Warning, reason, &message);
        }
        for warning in &report.warnings {
            self.tell(instance, Kind::Warning, GUEST_ACCESS, warning);
        }
        Ok(())
    }

    /// The guest has ended.
    pub(super) async fn publish_end(
        &mut self,
        instance: &Arc<Instance>,
        report: &VmReport,
    ) -> Result<(), StartError> {
        let reason = match &report.state {
            VmState::Ended { reason } => *reason,
            _ => EndReason::Other,
        };
        let asked = self.stop.map(|(grace, _)| grace);
        let phase = status::domain_end(reason, &instance.view(), asked).phase();
        let words = report
            .message
            .clone()
            .unwrap_or_else(|| format!("The guest ended: {reason:?}"));
        if self
            .publish(|before| status::ended(before, phase, &words))
            .await?
        {
            let kind = if phase == catamaran_lifecycle::Phase::Failed {
                Kind::Warning
            } else {
                Kind::Normal
            };
            self.tell(instance, kind, "Stopped", &words);
        }
        Ok(())
    }

    /// The guest has ended with its pod, and nobody saw how.
    pub(super) async fn publish_vanished(
        &mut self,
        instance: &Arc<Instance>,
    ) -> Result<(), StartError> {
        let words = "The launcher pod is gone, and nothing of it is left on its node";
        let phase = catamaran_lifecycle::Phase::Failed;
        if self
            .publish(|before| status::ended(before, phase, words))
            .await?
        {
            self.tell(instance, Kind::Warning, "Stopped", words);
        }
        Ok(())
    }

    /// Writes what `change` makes of the status, if that is something else; whether anything was written.
    pub(super) async fn publish(
        &mut self,
        change: impl Fn(&VirtualMachineInstanceStatus) -> VirtualMachineInstanceStatus,
    ) -> Result<bool, StartError> {
        let params = as_daemon();
        for _ in 0..TRIES {
            let Some(instance) = self.latest.clone() else {
                return Ok(false);
            };
            let before = instance.status();
            let patch = status::difference(&before, &change(&before));
            if patch.is_empty() {
                return Ok(false);
            }
            let body = json!({
                "metadata": {"uid": instance.uid.to_string(), "resourceVersion": instance.version},
                "status": patch,
            });
            let api = self.world.instances_in(&instance.key.namespace);
            let name = &instance.key.name;
            match api.patch(name, &params, &Patch::Merge(&body)).await {
                Ok(object) => {
                    self.read(object)?;
                    return Ok(true);
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(false),
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    match api.get_opt(name).await {
                        Ok(Some(object)) => {
                            let uid = instance.uid;
                            self.read(object)?;
                            if self.latest.as_ref().is_some_and(|latest| latest.uid != uid) {
                                return Ok(false);
                            }
                        }
                        Ok(None) => return Ok(false),
                        Err(error) => return Err(refused(error)),
                    }
                }
                Err(error) => return Err(refused(error)),
            }
        }
        Err(StartError::Overdue(
            "the status was changed by others at each try to write it".to_owned(),
        ))
    }

    fn read(&mut self, object: kube::api::DynamicObject) -> Result<(), StartError> {
        let read = Instance::read(object, &self.world.node);
        let read = read.map_err(|error| StartError::Plan(error.to_string()))?;
        self.latest = Some(Arc::new(read));
        Ok(())
    }

    pub(super) fn tell(&self, instance: &Arc<Instance>, kind: Kind, reason: &str, message: &str) {
        events::tell(&self.world, &self.said, instance, kind, reason, message);
    }
}

fn refused(error: kube::Error) -> StartError {
    StartError::Io {
        what: "the API server".to_owned(),
        source: std::io::Error::other(error),
    }
}
