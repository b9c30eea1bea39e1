//! The end of a run and of the machine.

use std::time::Duration;

use catamaran_lifecycle::{DomainEnd, Phase};
use catamaran_plan::Plan;
use catamaran_wire::Verb;

use super::{Actor, Next, Run, store_error};
use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;
use crate::machine::{adopt, network, record, status};

/// Time for a launcher to end after its guest, before it is killed.
const FINISH: Duration = Duration::from_secs(10);

impl Actor {
    /// Lets the launcher end, and clears the run.
    pub(super) async fn finish(
        &mut self,
        launcher: &Launcher,
        plan: &Plan,
    ) -> Result<(), StartError> {
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
    pub(super) async fn kill(&mut self) -> Result<(), StartError> {
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
    pub(super) fn end(&mut self, end: DomainEnd, words: &str) -> Result<(), StartError> {
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
    pub(super) async fn finalize(&mut self) -> Result<Next, StartError> {
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
