//! From a dead run to a started one.

use std::time::Instant;

use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::{DomainEnd, Phase, VmiView};
use catamaran_plan::Identity;
use catamaran_spec::{Context, MachineSpec};
use uuid::Uuid;

use super::{Actor, FIRST_RETRY, LONGEST_RETRY, Live, Next, Run, store_error, typed};
use crate::machine::error::StartError;
use crate::machine::start::{self, Start};
use crate::machine::{record, status};
use crate::serve::store::{Stored, digest, uid};
use crate::serve::time;

impl Actor {
    /// Nobody runs: start, or let the instance go.
    pub(super) async fn dead(
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
            counter: u64::from(self.tries) + 1,
            identity: Identity::of_uid(uid(&owner)),
        })
    }

    /// What became of the start.
    pub(super) async fn started(
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
                self.daemon.events.left_out(&self.machine, &plan.notes);
                self.run = Run::Live(Live::new(plan));
            }
            Err(error) => {
                let text = catamaran_client::chain(&error);
                self.daemon
                    .events
                    .warning(&self.machine, error.reason(), text.clone());
                self.kill(None).await?;
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
}
