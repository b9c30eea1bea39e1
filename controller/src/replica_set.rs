//! `VirtualMachineInstanceReplicaSet`: so many equal instances.
//!
//! Each instance has a place with a name of its own, a function of the set and the place. So an instance can't be made twice, however old a
//! cache is: a place whose instance is over is cleared and filled again.

mod plan;

use std::collections::HashSet;

use catamaran_api::{VirtualMachineInstance, VirtualMachineInstanceReplicaSet};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::runtime::controller::Action as Next;
use serde_json::json;

use crate::error::Error;
use crate::objects::{Key, only};
use crate::patch::{self, Part};
use crate::replica_set::plan::Member;
use crate::world::World;

/// Field manager of everything that is written for sets.
const MANAGER: &str = "catamaran-vmirs";
/// Most instances that are made or deleted in one go.
const BURST: usize = 10;

/// Brings one set to its number.
///
/// # Errors
/// What the API server says. The set is looked at again later.
pub async fn reconcile(world: &World, key: &Key) -> Result<Next, Error> {
    let Some(set) = world.sets.get(key) else {
        return Ok(Next::await_change());
    };
    if set.metadata.deletion_timestamp.is_some() {
        // Its instances are deleted by the API server, whose owner it is.
        return Ok(Next::await_change());
    }
    let mut owned: Vec<Member> = world
        .instances
        .each(|vmi| plan::is_owned(vmi, &set).then(|| Member::of(vmi)));
    // What was just made is known before the watch tells of it.
    let seen: HashSet<String> = owned.iter().map(|member| member.name.clone()).collect();
    for name in plan::names(&set) {
        if !seen.contains(&name)
            && let Some(vmi) = world.instances.get(&key.named(&name))
            && plan::is_owned(&vmi, &set)
        {
            owned.push(Member::of(&vmi));
        }
    }
    let plan = plan::plan(&set, &owned);
    let api: Api<VirtualMachineInstance> = Api::namespaced(world.client.clone(), &key.namespace);
    for member in plan.delete.iter().take(BURST) {
        delete(world, &api, &set, member).await?;
    }
    for name in plan.create.iter().take(BURST) {
        create(world, &api, &set, name).await?;
    }
    let old = set.status.clone().unwrap_or_default();
    let new = plan::status(&set, &owned, Timestamp::now().as_second());
    if let Some(change) = patch::difference(&old, &new) {
        let sets = Api::namespaced(world.client.clone(), &key.namespace);
        let change = json!({ "status": change });
        let new = patch::merge(&sets, &set, change, Part::Status, MANAGER).await?;
        world.sets.put(new);
    }
    let more = plan.create.len() > BURST || plan.delete.len() > BURST;
    Ok(if more {
        Next::requeue(std::time::Duration::from_millis(200))
    } else {
        Next::await_change()
    })
}

async fn create(
    world: &World,
    api: &Api<VirtualMachineInstance>,
    set: &VirtualMachineInstanceReplicaSet,
    name: &str,
) -> Result<(), Error> {
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let answer = api.create(&params, &plan::instance(set, name)).await;
    match answer.map_err(Error::api(format!("create instance {name}"))) {
        Ok(made) => {
            world.instances.put(made);
            let note = format!(
                "Started the virtual machine by creating the new virtual machine instance {name}"
            );
            world.events.normal(set, "SuccessfulCreate", note).await;
            Ok(())
        }
        // The place is taken by one that is on its way out, or the watch is late.
        Err(error) if error.already_exists() => Ok(()),
        Err(error) => {
            world
                .events
                .warning(set, "FailedCreate", error.words())
                .await;
            Err(error)
        }
    }
}

async fn delete(
    world: &World,
    api: &Api<VirtualMachineInstance>,
    set: &VirtualMachineInstanceReplicaSet,
    member: &Member,
) -> Result<(), Error> {
    let name = &member.name;
    let params = only(member.uid.clone());
    let answer = api.delete(name, &params).await;
    match answer.map_err(Error::api(format!("delete instance {name}"))) {
        Ok(answer) => {
            if let Some(going) = answer.left() {
                world.instances.put(going);
            }
            let note = format!(
                "Stopped the virtual machine by deleting the virtual machine instance {name}"
            );
            world.events.normal(set, "SuccessfulDelete", note).await;
            Ok(())
        }
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
