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
    /// Lets the launcher end, and clears the run, whose end was told.
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

    /// Kills everything of the run, tells its end and clears it. Without an end the instance goes on: it is started again, or gone itself.
    pub(super) async fn kill(&mut self, end: Option<(DomainEnd, &str)>) -> Result<(), StartError> {
        if let Run::Starting { task } = std::mem::replace(&mut self.run, Run::Unknown) {
            task.abort();
            // What is cut off ends at its next wait; the sandbox that it may build until then is killed with the rest.
            let _ = task.await;
        }
        self.daemon.machines.set(&self.machine, None);
        let proof = self.cgroup.kill().await?;
        if let Some((end, words)) = end {
            self.end(end, words)?;
        }
        let plan = record::plan(&self.layout).map_err(StartError::io("the plan"))?;
        adopt::release(self, &proof, plan.as_ref()).await?;
        self.run = Run::Dead(proof);
        Ok(())
    }

    /// The run is over. Told before anything of it is cleared: a daemon that is killed in between must not find a machine that never ran. What was
    /// told first stays.
    pub(super) fn end(&mut self, end: DomainEnd, words: &str) -> Result<(), StartError> {
        let stored = self.daemon.store.get(&self.machine);
        if stored.is_some_and(|stored| status::phase_of(&stored.object).is_final()) {
            return Ok(());
        }
        // However politely it went: a guest that was stopped for its health has failed.
        let (end, words) = match self.unhealthy.take() {
            Some(why) => (DomainEnd::Unhealthy, why),
            None => (end, words.to_owned()),
        };
        let phase = end.phase();
        status::ended(&self.daemon.store, &self.machine, phase, &words)?;
        if phase == Phase::Failed {
            self.daemon.events.warning(&self.machine, "Stopped", words);
        } else {
            self.daemon.events.normal(&self.machine, "Stopped", words);
        }
        Ok(())
    }

    /// Neither machine nor instance are left: nothing of it stays.
    pub(super) async fn finalize(&mut self) -> Result<Next, StartError> {
        if !matches!(self.run, Run::Dead(_)) {
            self.kill(None).await?;
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
