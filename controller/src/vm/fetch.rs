//! What there is of a machine's run.

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

use crate::objects::Key;
use crate::vmi;
use crate::world::World;

/// The run of a machine.
#[derive(Debug)]
pub(super) struct Found {
    /// Its instance.
    pub(super) instance: Option<VirtualMachineInstance>,
    /// The instance is gone, but its pod is not proved dead. It happens when somebody has taken the finalizer away.
    pub(super) earlier_run_alive: bool,
}

/// Looks into the caches.
pub(super) fn fetch(world: &World, key: &Key, vm: &VirtualMachine) -> Found {
    let instance = world
        .instances
        .get(key)
        .filter(|vmi| is_owned(vmi, vm.metadata.uid.as_deref()));
    let earlier_run_alive = instance.is_none() && world.pods.any_in(key, |pod| !vmi::is_over(pod));
    Found {
        instance,
        earlier_run_alive,
    }
}

/// Whether the machine is the controller of the object.
pub(super) fn is_owned<K: Resource>(object: &K, uid: Option<&str>) -> bool {
    let owner = |owner: &&OwnerReference| owner.controller == Some(true);
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(owner)
        .is_some_and(|owner| Some(owner.uid.as_str()) == uid)
}
