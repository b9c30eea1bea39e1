//! What the last daemon left of a machine.

use catamaran_plan::{FileSource, Plan};

use crate::machine::actor::Actor;
use crate::machine::cgroup::Dead;
use crate::machine::error::StartError;
use crate::machine::network;
use crate::machine::record::{self, Record, Stage};

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// Nobody is left, and what was there is cleared. `was_started`: a guest ran and nobody saw its end.
    Dead {
        /// The proof.
        proof: Dead,
        /// A guest ran.
        was_started: bool,
    },
    /// The guest runs, or its launcher waits to tell how it ended.
    Live(Box<Plan>),
}

/// Looks at the record and at who is alive. A run that had not come to its start is ended; one that had goes on.
///
/// # Errors
/// When the record is not readable or the group can't be looked at: nothing is started then.
pub async fn look(actor: &Actor, vmi_uid: Option<&str>) -> Result<Found, StartError> {
    let layout = &actor.layout;
    let written: Option<Record> = record::load(&layout.record())
        .map_err(StartError::io(layout.record().display().to_string()))?;
    let plan = record::plan(layout).map_err(StartError::io(layout.plan().display().to_string()))?;
    let started = written
        .as_ref()
        .is_some_and(|written| written.stage == Stage::Started);
    let wanted = written
        .as_ref()
        .is_some_and(|written| vmi_uid == Some(written.vmi_uid.to_string().as_str()));
    if let Some(proof) = actor.cgroup.prove_dead()? {
        release(actor, &proof, plan.as_ref()).await?;
        return Ok(Found::Dead {
            proof,
            was_started: started && wanted,
        });
    }
    match plan {
        Some(plan) if started && wanted => {
            take_again(actor, &plan)?;
            Ok(Found::Live(Box::new(plan)))
        }
        plan => {
            let proof = actor.cgroup.kill().await?;
            release(actor, &proof, plan.as_ref()).await?;
            Ok(Found::Dead {
                proof,
                was_started: false,
            })
        }
    }
}

/// Clears a run after its death: network, disks, files. The address is kept.
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

/// A running machine keeps its disks and images over a restart of the daemon.
fn take_again(actor: &Actor, plan: &Plan) -> Result<(), StartError> {
    let cache = actor.daemon.layout.images();
    let mut images = Vec::new();
    for view in &plan.views {
        let FileSource::HostFile(path) = &view.source else {
            continue;
        };
        let path = std::path::Path::new(path);
        if path.starts_with(&cache) {
            images.extend(
                path.file_stem()
                    .and_then(|stem| stem.to_str())
                    .map(str::to_owned),
            );
        } else if view.writable {
            actor.daemon.claims.take(path, &actor.machine)?;
        }
    }
    actor.daemon.images_in_use(&actor.machine, &images);
    Ok(())
}
