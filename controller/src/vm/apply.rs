//! The writes of a machine's life.

use catamaran_api::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec,
    VirtualMachineInstanceStatus,
};
use catamaran_lifecycle::{
    Phase, RunStrategy, instance, instance_ready, set_instance_condition, to_time,
};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::error::Error;
use crate::finalizers;
use crate::objects::{Key, only};
use crate::patch::{self, MACHINE_MANAGER, Part};
use crate::vm::fetch::is_owned;
use crate::vm::start_revision;
use crate::vm::status::{self, Input};
use crate::vmi::decide::not_migratable;
use crate::world::World;

fn machines(world: &World, vm: &VirtualMachine) -> Api<VirtualMachine> {
    Api::namespaced(world.client.clone(), &vm.namespace().unwrap_or_default())
}

/// Keeps the machine until its run is proved dead.
pub(super) async fn hold(world: &World, vm: &VirtualMachine) -> Result<(), Error> {
    let change = finalizers::add(&vm.metadata, finalizers::MACHINE);
    let api = machines(world, vm);
    let new = patch::merge(&api, vm, change, Part::Main, MACHINE_MANAGER).await?;
    world.machines.put(new);
    Ok(())
}

/// Lets the machine go.
pub(super) async fn release(world: &World, vm: &VirtualMachine) -> Result<(), Error> {
    let change = finalizers::remove(&vm.metadata, finalizers::MACHINE);
    let api = machines(world, vm);
    match patch::merge(&api, vm, change, Part::Main, MACHINE_MANAGER).await {
        Ok(new) => world.machines.put(new),
        Err(error) if error.not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Writes the status if it has changed.
pub(super) async fn status(
    world: &World,
    input: &Input<'_>,
    failure: Option<(&str, &str)>,
) -> Result<(), Error> {
    let old = input.vm.status.clone().unwrap_or_default();
    let new = status::next(input, failure);
    let Some(change) = patch::difference(&old, &new) else {
        return Ok(());
    };
    let same_word = old.printable_status == new.printable_status;
    if same_word && input.vm.metadata.deletion_timestamp.is_some() {
        // Nobody reads the last breaths of a machine that goes.
        return Ok(());
    }
    if old.printable_status != new.printable_status {
        tracing::info!(
            vm.namespace = input.vm.metadata.namespace,
            vm.name = input.vm.metadata.name,
            vm.uid = input.vm.metadata.uid,
            from = old.printable_status,
            to = new.printable_status,
            "machine"
        );
    }
    let api = machines(world, input.vm);
    let change = json!({ "status": change });
    let new = patch::merge(&api, input.vm, change, Part::Status, MACHINE_MANAGER).await?;
    world.machines.put(new);
    Ok(())
}

/// An instance could not be made: it is said once in an event, and in the status as long as it lasts.
pub(super) async fn failed(world: &World, input: &Input<'_>, words: &str) -> Result<(), Error> {
    let known = input.vm.status.iter().any(|status| {
        let mut conditions = status.conditions.iter();
        conditions.any(|c| c.type_ == "Failure" && c.message.as_deref() == Some(words))
    });
    if !known {
        world.events.warning(input.vm, "FailedCreate", words).await;
    }
    status(world, input, Some(("FailedCreate", words))).await
}

/// Makes the instance of a machine; `machine` is the same with instancetype and preference merged into it. The instance is born with its finalizer
/// and in phase Pending, so that neither costs a write.
pub(super) async fn create(
    world: &World,
    key: &Key,
    vm: &VirtualMachine,
    machine: &VirtualMachine,
    paused: bool,
) -> Result<(), Error> {
    let revision = start_revision::keep(world, key, vm).await?;
    let mut new = instance(machine, paused);
    new.metadata.finalizers = Some(vec![finalizers::INSTANCE.to_owned()]);
    let mut status = pending(Timestamp::now().as_second());
    status.virtual_machine_revision_name = Some(revision.clone());
    new.status = Some(status);
    let api: Api<VirtualMachineInstance> = Api::namespaced(world.client.clone(), &key.namespace);
    let params = PostParams {
        field_manager: Some(MACHINE_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let what = format!("create instance {key}");
    match api.create(&params, &new).await.map_err(Error::api(what)) {
        Ok(made) => {
            world.instances.put(made);
            let note = format!(
                "Started the virtual machine by creating the new virtual machine instance {}",
                key.name
            );
            world.events.normal(vm, "SuccessfulCreate", note).await;
            start_revision::drop_older(world, key, vm, &revision).await;
            Ok(())
        }
        Err(error) if error.already_exists() => {
            let there = api.get(&key.name).await;
            let there = there.map_err(Error::api(format!("read instance {key}")))?;
            if !is_owned(&there, vm.metadata.uid.as_deref()) {
                return Err(Error::Taken {
                    what: format!("instance {key}"),
                });
            }
            world.instances.put(there);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Status of an instance that was just made.
fn pending(now: i64) -> VirtualMachineInstanceStatus {
    let mut status = VirtualMachineInstanceStatus {
        phase: Some(Phase::Pending.as_str().to_owned()),
        ..VirtualMachineInstanceStatus::default()
    };
    status.phase_transition_timestamps.push(
        catamaran_api::VirtualMachineInstancePhaseTransitionTimestamp {
            phase: status.phase.clone(),
            phase_transition_timestamp: Some(to_time(now)),
        },
    );
    let (holds, reason, message) = instance_ready(Phase::Pending, false, None);
    set_instance_condition(&mut status.conditions, "Ready", holds, reason, message, now);
    not_migratable(&mut status, now);
    status
}

/// Asks the instance to go.
pub(super) async fn delete(
    world: &World,
    key: &Key,
    vm: &VirtualMachine,
    uid: &str,
    reason: &str,
) -> Result<(), Error> {
    let api: Api<VirtualMachineInstance> = Api::namespaced(world.client.clone(), &key.namespace);
    let params = only(Some(uid.to_owned()));
    let what = format!("delete instance {key}");
    match api
        .delete(&key.name, &params)
        .await
        .map_err(Error::api(what))
    {
        Ok(answer) => {
            if let Some(going) = answer.left() {
                world.instances.put(going);
            }
            let note = format!("Stopped the virtual machine by deleting its instance: {reason}");
            world.events.normal(vm, "SuccessfulDelete", note).await;
            Ok(())
        }
        Err(error) if error.not_found() => Ok(()),
        Err(error) => {
            world
                .events
                .warning(vm, "FailedDelete", error.words())
                .await;
            Err(error)
        }
    }
}

/// Writes into a run what its machine has changed since and needs no restart.
pub(super) async fn follow(
    world: &World,
    vmi: &VirtualMachineInstance,
    spec: &VirtualMachineInstanceSpec,
) -> Result<(), Error> {
    let Some(change) = patch::difference(&vmi.spec, spec) else {
        return Ok(());
    };
    let namespace = vmi.namespace().unwrap_or_default();
    let api: Api<VirtualMachineInstance> = Api::namespaced(world.client.clone(), &namespace);
    let change = json!({ "spec": change });
    let new = patch::merge(&api, vmi, change, Part::Main, MACHINE_MANAGER).await?;
    world.instances.put(new);
    Ok(())
}

/// Writes another run strategy into the spec, where the spec has it.
pub(super) async fn rewrite(world: &World, key: &Key, strategy: RunStrategy) -> Result<(), Error> {
    let Some(vm) = world.machines.get(key) else {
        return Ok(());
    };
    let mut spec = vm.spec.clone();
    strategy.write(&mut spec);
    let Some(change) = patch::difference(&vm.spec, &spec) else {
        return Ok(());
    };
    let api = machines(world, &vm);
    let change = json!({ "spec": change });
    let new = patch::merge(&api, &vm, change, Part::Main, MACHINE_MANAGER).await?;
    world.machines.put(new);
    Ok(())
}
