//! Instancetype and preference of a machine: kept as they were when the machine first named them, so that a changed object changes no machine.
//!
//! A `ControllerRevision` that the machine owns keeps each, and the machine's status says which. A machine that names another one gets another
//! revision; the old ones go with the machine.

use catamaran_api::{VirtualMachine, VirtualMachineStatus};
use catamaran_instancetypes::{Found, Resolved, names_any, resolve, revision};
use catamaran_spec::instancetype::{Role, annotations};
use kube::api::Api;
use serde_json::json;

use crate::error::Error;
use crate::objects::Key;
use crate::patch::{self, MACHINE_MANAGER, Part};
use crate::vm::start_revision::keep_revision;
use crate::world::World;

/// A machine and what it names.
#[derive(Debug)]
pub(super) enum Pinned<'a> {
    /// Something was written: look again.
    Again,
    /// It names nothing.
    Plain(&'a VirtualMachine),
    /// With what it names merged into its template.
    Merged(Box<VirtualMachine>),
}

/// Keeps what the machine names, and merges it.
pub(super) async fn pin<'a>(
    world: &World,
    key: &Key,
    vm: &'a VirtualMachine,
) -> Result<Pinned<'a>, Error> {
    let kept = |status: &VirtualMachineStatus| {
        status.instancetype_ref.is_some() || status.preference_ref.is_some()
    };
    if !names_any(vm) && !vm.status.as_ref().is_some_and(kept) {
        return Ok(Pinned::Plain(vm));
    }
    let resolved = resolve(&world.client, world, &key.namespace, vm).await?;
    // What can't be used is not kept, so that a mended object is.
    let mut machine = resolved.expanded(vm).map_err(Error::Instancetype)?;
    let before = vm.status.clone().unwrap_or_default();
    let mut after = before.clone();
    for role in Role::ALL {
        let reference = match resolved.of(role) {
            Some(found) => Some(found.reference(&keep(world, key, vm, found).await?)),
            None => None,
        };
        match role {
            Role::Instancetype => after.instancetype_ref = reference,
            Role::Preference => after.preference_ref = reference,
        }
    }
    if let Some(change) = patch::difference(&before, &after) {
        let api: Api<VirtualMachine> = Api::namespaced(world.client.clone(), &key.namespace);
        let change = json!({ "status": change });
        let new = patch::merge(&api, vm, change, Part::Status, MACHINE_MANAGER).await?;
        world.machines.put(new);
        return Ok(Pinned::Again);
    }
    note(&resolved, &mut machine);
    Ok(Pinned::Merged(Box::new(machine)))
}

/// Instances say what they were made from.
fn note(resolved: &Resolved, machine: &mut VirtualMachine) {
    let named = |role| resolved.of(role).map(|found| &found.named);
    let notes = annotations(named(Role::Instancetype), named(Role::Preference));
    let metadata = machine.spec.template.metadata.get_or_insert_default();
    metadata.annotations.get_or_insert_default().extend(notes);
}

/// Name of the revision that keeps an object.
async fn keep(
    world: &World,
    key: &Key,
    vm: &VirtualMachine,
    found: &Found,
) -> Result<String, Error> {
    if let Some(revision) = &found.revision {
        return Ok(revision.clone());
    }
    let kept = keep_revision(world, key, vm, revision(vm, found)).await?;
    let name = kept.metadata.name.clone().unwrap_or_default();
    world.revisions.put(kept);
    Ok(name)
}
