//! What the last daemon left of a machine.

use std::path::Path;

use catamaran_lifecycle::Phase;
use catamaran_plan::{FileSource, Plan};

use crate::machine::actor::Actor;
use crate::machine::cgroup::Dead;
use crate::machine::claims::{Access, Claims, Hold};
use crate::machine::error::StartError;
use crate::machine::network;
use crate::machine::record::{self, Record, Stage};
use crate::machine::status::phase_of;
use crate::serve::daemon::Daemon;
use crate::serve::layout::Layout;
use crate::serve::store::{Key, Stored};

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Nobody is left. What was there is to be cleared, after `ended` was told: then a guest ran and nobody saw its end.
    Dead {
        /// The proof.
        proof: Dead,
        /// The plan of the run.
        plan: Option<Box<Plan>>,
        /// What is to be told.
        ended: Option<&'static str>,
    },
    /// The guest runs, or its launcher waits to tell how it ended.
    Live(Box<Plan>),
}

/// Looks at the record and at who is alive. A run that had not come to its start is ended; one that had goes on.
///
/// # Errors
/// When the record is not readable or the group can't be looked at: nothing is started then.
pub async fn look(actor: &Actor, vmi: Option<&Stored>) -> Result<Found, StartError> {
    let layout = &actor.layout;
    let written: Option<Record> = record::load(&layout.record())
        .map_err(StartError::io(layout.record().display().to_string()))?;
    let plan = record::plan(layout).map_err(StartError::io(layout.plan().display().to_string()))?;
    let plan = plan.map(Box::new);
    let instance = vmi.and_then(|stored| {
        let uid = stored.object["metadata"]["uid"].as_str()?;
        Some((uid, phase_of(&stored.object)))
    });
    let was = was(written.as_ref(), instance);
    if let Some(proof) = actor.cgroup.prove_dead()? {
        let words = "The guest ended while no daemon was there to see it";
        return Ok(Found::Dead {
            proof,
            plan,
            ended: (was != Was::NeverStarted).then_some(words),
        });
    }
    match plan {
        Some(plan) if was == Was::Started => Ok(Found::Live(plan)),
        plan => Ok(Found::Dead {
            proof: actor.cgroup.kill().await?,
            plan,
            ended: (was != Was::NeverStarted)
                .then_some("The record of the run is lost; what was left of it is killed"),
        }),
    }
}

/// What is known of an instance's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// No guest of it ran.
    NeverStarted,
    /// Its guest was started, and its record tells all of it.
    Started,
    /// Its guest was started, and its record is gone.
    Lost,
}

/// `instance`: UID and phase. The record of a run goes only after its end was told. So an instance that is under way without one, such as
/// after a crash with a full disk, must not be started a second time: its guest may have ended on purpose.
fn was(written: Option<&Record>, instance: Option<(&str, Phase)>) -> Was {
    let Some((uid, phase)) = instance else {
        return Was::NeverStarted;
    };
    let own = written.is_some_and(|written| {
        written.stage == Stage::Started && written.vmi_uid.to_string() == uid
    });
    match phase {
        _ if own => Was::Started,
        Phase::Scheduled | Phase::Running => Was::Lost,
        _ => Was::NeverStarted,
    }
}

/// Clears a run after its death, and after its end was told: network, disks, files. The address is kept.
///
/// # Errors
/// The step that failed; run again when its cause is gone.
pub async fn release(actor: &Actor, proof: &Dead, plan: Option<&Plan>) -> Result<(), StartError> {
    let nics = plan.map(|plan| plan.nics.as_slice()).unwrap_or_default();
    network::detach(&actor.daemon, &actor.layout, &actor.machine, nics).await?;
    record::clear(&actor.layout)
        .map_err(StartError::io(actor.layout.root().display().to_string()))?;
    actor.daemon.claims.release(&actor.machine, proof);
    actor.daemon.images_in_use(&actor.machine, &[]);
    Ok(())
}

/// Every machine of the last daemon keeps its disks and images, until its own task has proved that it is dead. To be called before anybody
/// starts, deletes or collects anything.
pub fn take_again(daemon: &Daemon) {
    for (machine, images) in take_disks(&daemon.layout, &daemon.claims) {
        daemon.images_in_use(&machine, &images);
    }
}

/// Takes the disks of all recorded runs; returns the images that they use.
fn take_disks(layout: &Layout, claims: &Claims) -> Vec<(Key, Vec<String>)> {
    let mut used = Vec::new();
    for machine in layout.machines() {
        let files = layout.machine(&machine);
        let told = |error: std::io::Error| tracing::error!(%machine, %error, "the record of the run is not readable");
        // One of the two is enough to know the disks.
        let written: Option<Record> = record::load(&files.record())
            .map_err(told)
            .unwrap_or_default();
        let plan = record::plan(&files).map_err(told).unwrap_or_default();
        let (writable, images) = shown(plan.as_ref(), &layout.images());
        let recorded = written.and_then(|written| written.disks);
        for hold in recorded.unwrap_or(writable) {
            if let Err(error) = claims.take(&hold, &machine) {
                tracing::error!(%machine, %error, "two runs have one disk");
            }
        }
        used.push((machine, images));
    }
    used
}

/// Writable files of the host that a plan shows, and names of images.
fn shown(plan: Option<&Plan>, cache: &Path) -> (Vec<Hold>, Vec<String>) {
    let (mut writable, mut images) = (Vec::new(), Vec::new());
    for view in plan.iter().flat_map(|plan| &plan.views) {
        let FileSource::HostFile(path) = &view.source else {
            continue;
        };
        let path = Path::new(path);
        if path.starts_with(cache) {
            let name = path.file_stem().and_then(|stem| stem.to_str());
            images.extend(name.map(str::to_owned));
        } else if view.writable {
            writable.extend(Hold::at(path, Access::Write));
        }
    }
    (writable, images)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::serve::store::Kind;

    fn written(stage: Stage) -> Record {
        Record {
            vmi_uid: Uuid::from_u128(1),
            stage,
            disks: None,
        }
    }

    #[test]
    fn a_guest_that_may_have_run_is_not_started_again() {
        let uid = Uuid::from_u128(1).to_string();
        for (record, phase, expected) in [
            (Some(Stage::Started), Phase::Scheduling, Was::Started),
            (Some(Stage::Started), Phase::Running, Was::Started),
            (Some(Stage::Sandboxed), Phase::Scheduling, Was::NeverStarted),
            (None, Phase::Pending, Was::NeverStarted),
            (None, Phase::Scheduling, Was::NeverStarted),
            // Killed after the record was cleared and before the end was written.
            (None, Phase::Scheduled, Was::Lost),
            (None, Phase::Running, Was::Lost),
            (None, Phase::Succeeded, Was::NeverStarted),
        ] {
            let record = record.map(written);
            let found = was(record.as_ref(), Some((&uid, phase)));
            assert_eq!(found, expected, "{record:?} {phase:?}");
        }
    }

    #[test]
    fn a_record_of_another_run_says_nothing_about_this_one() {
        let (old, uid) = (written(Stage::Started), Uuid::from_u128(2).to_string());
        assert_eq!(
            was(Some(&old), Some((&uid, Phase::Pending))),
            Was::NeverStarted
        );
        assert_eq!(was(Some(&old), None), Was::NeverStarted);
    }

    #[test]
    fn disks_of_all_recorded_runs_are_taken_before_any_machine_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().to_owned());
        let disk = folder.path().join("disk.img");
        std::fs::write(&disk, "x").unwrap();
        let owner = Key::new(Kind::VirtualMachineInstance, "default", "owner");
        let record = Record {
            disks: Some(vec![Hold::at(&disk, Access::Write).unwrap()]),
            ..written(Stage::Started)
        };
        record::save(&layout.machine(&owner).record(), &record).unwrap();
        let claims = Claims::default();
        let used = take_disks(&layout, &claims);
        assert_eq!(used, [(owner.clone(), Vec::new())]);
        assert_eq!(claims.owner(&disk), Some(owner));
    }
}
