//! The spec that a machine was last started from, kept in a `ControllerRevision`: what the spec of now is compared with.
//!
//! ```text
//!   start ──keep──▶ revision-start-vm-UID-GENERATION ──named in──▶ the instance's status.virtualMachineRevisionName
//!                                   │
//!   spec changed ──▶ digest differs ┴─▶ read it ─▶ only what needs no restart has changed? ─▶ RestartRequired or not
//! ```
//!
//! Revisions are read only where the digest of the template says that something has changed, so that no cache holds the spec of every machine.
//! The name, the owner and `spec` in the data are the peer's. Beside it stands where instancetype and preference of the start are kept: the objects
//! themselves may have changed since, and the machine's status follows what its spec names now.

use std::collections::BTreeMap;

use catamaran_api::{
    InstancetypeStatusRef, VirtualMachine, VirtualMachineInstance, VirtualMachineSpec,
    VirtualMachineStatus,
};
use catamaran_instancetypes::resolve;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Resource as _, ResourceExt as _};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::objects::{Key, only};
use crate::patch::MACHINE_MANAGER;
use crate::vm::fetch::is_owned;
use crate::vm::meaning::needs_restart;
use crate::world::World;

/// Label of a revision: UID of the machine that was started from it.
const LABEL: &str = "catamaran.dev/start-of";

/// What a revision holds.
#[derive(Debug, Serialize, Deserialize)]
struct Start {
    spec: VirtualMachineSpec,
    /// Earlier versions did not say.
    status: Option<Pins>,
}

/// Fields of a machine's status: where instancetype and preference are kept.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pins {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instancetype_ref: Option<InstancetypeStatusRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preference_ref: Option<InstancetypeStatusRef>,
}

/// The revision of a start. Pure.
fn revision(vm: &VirtualMachine) -> ControllerRevision {
    let uid = vm.uid().unwrap_or_default();
    let generation = vm.metadata.generation.unwrap_or_default();
    let status = vm.status.clone().unwrap_or_default();
    let start = Start {
        spec: vm.spec.clone(),
        status: Some(Pins {
            instancetype_ref: status.instancetype_ref,
            preference_ref: status.preference_ref,
        }),
    };
    let data = serde_json::to_value(start).expect("a wire type has string keys only");
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("revision-start-vm-{uid}-{generation}")),
            namespace: vm.namespace(),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), uid)])),
            owner_references: vm.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: generation,
    }
}

/// The machine as it was when it was started. Pure.
fn started(vm: &VirtualMachine, revision: ControllerRevision) -> Option<VirtualMachine> {
    let Start { spec, status } = serde_json::from_value(revision.data?.0).ok()?;
    Some(VirtualMachine {
        metadata: vm.metadata.clone(),
        spec,
        status: match status {
            Some(pins) => Some(VirtualMachineStatus {
                instancetype_ref: pins.instancetype_ref,
                preference_ref: pins.preference_ref,
                ..VirtualMachineStatus::default()
            }),
            None => vm.status.clone(),
        },
    })
}

/// Keeps the machine's spec; answers the revision's name.
pub(super) async fn keep(world: &World, key: &Key, vm: &VirtualMachine) -> Result<String, Error> {
    let new = revision(vm);
    let kept = keep_revision(world, key, vm, new.clone()).await?;
    if kept.data == new.data {
        return Ok(kept.name_any());
    }
    // Of an earlier start from the same spec, by a version that kept less, or with another instancetype. What a revision holds can't be changed.
    let name = kept.name_any();
    let api: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &key.namespace);
    let what = format!("delete ControllerRevision {}/{name}", key.namespace);
    match api
        .delete(&name, &only(kept.uid()))
        .await
        .map_err(Error::api(what))
    {
        Err(error) if !error.not_found() => return Err(error),
        _ => {}
    }
    let kept = keep_revision(world, key, vm, new).await?;
    Ok(kept.name_any())
}

/// Makes a revision that the machine owns, or finds it where it was made before.
pub(super) async fn keep_revision(
    world: &World,
    key: &Key,
    vm: &VirtualMachine,
    new: ControllerRevision,
) -> Result<ControllerRevision, Error> {
    let name = new.name_any();
    let api: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &key.namespace);
    let params = PostParams {
        field_manager: Some(MACHINE_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let what = format!("create ControllerRevision {}/{name}", key.namespace);
    match api.create(&params, &new).await.map_err(Error::api(what)) {
        // Made by a round that was cut short, or by an earlier start from the same spec.
        Err(error) if error.already_exists() => {
            let what = format!("read ControllerRevision {}/{name}", key.namespace);
            let there = api.get(&name).await.map_err(Error::api(what))?;
            if !is_owned(&there, vm.metadata.uid.as_deref()) {
                return Err(Error::Taken {
                    what: format!("ControllerRevision {}/{name}", key.namespace),
                });
            }
            Ok(there)
        }
        other => other,
    }
}

/// Removes the revisions of earlier starts. One that is left goes at the next start, or with the machine.
pub(super) async fn drop_older(world: &World, key: &Key, vm: &VirtualMachine, kept: &str) {
    let first = vm.status.as_ref().is_none_or(|s| s.run_strategy.is_none());
    let Some(uid) = vm.uid().filter(|_| !first) else {
        return;
    };
    let api: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &key.namespace);
    let all = ListParams::default()
        .labels(&format!("{LABEL}={uid}"))
        .match_any();
    let removed = async {
        for old in api.list_metadata(&all).await? {
            if old.name_any() != kept && is_owned(&old, Some(&uid)) {
                api.delete(&old.name_any(), &DeleteParams::default())
                    .await?;
            }
        }
        Ok::<_, kube::Error>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(
            vm.namespace = key.namespace,
            vm.name = key.name,
            error = crate::error::chain(&error),
            "revisions of earlier starts could not be removed"
        );
    }
}

/// Whether the instance runs with something that only a restart changes. `machine` has its instancetype and preference merged into it.
pub(super) async fn outdated(
    world: &World,
    key: &Key,
    machine: &VirtualMachine,
    vmi: &VirtualMachineInstance,
) -> Result<bool, Error> {
    if !catamaran_lifecycle::outdated(machine, vmi) {
        return Ok(false);
    }
    let status = vmi.status.as_ref();
    // A pod that waits for a node is not made anew: for it a changed placement comes with a restart.
    if status.is_none_or(|status| status.node_name.is_none()) {
        return Ok(true);
    }
    let Some(name) = status.and_then(|s| s.virtual_machine_revision_name.as_deref()) else {
        // Started by an earlier version, which kept the digest only.
        return Ok(true);
    };
    let api: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &key.namespace);
    let what = format!("read ControllerRevision {}/{name}", key.namespace);
    let kept = api.get_opt(name).await.map_err(Error::api(what))?;
    let owned = kept.filter(|kept| is_owned(kept, machine.metadata.uid.as_deref()));
    let Some(before) = owned.and_then(|kept| started(machine, kept)) else {
        return Ok(true);
    };
    let resolved = match resolve(&world.client, world, &key.namespace, &before).await {
        Ok(resolved) => resolved,
        Err(catamaran_instancetypes::Problem::Fields(_)) => return Ok(true),
        Err(problem) => return Err(problem.into()),
    };
    let Ok(before) = resolved.expanded(&before) else {
        return Ok(true);
    };
    Ok(needs_restart(&before, machine))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn kept_in(revision: &str) -> Value {
        json!({"kind": "VirtualMachineInstancetype", "name": "small", "controllerRevisionRef": {"name": revision}})
    }

    fn machine() -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3},
            "spec": {
                "runStrategy": "Always", "instancetype": {"name": "small"},
                "template": {"spec": {"hostname": "a", "domain": {"devices": {}}}},
            },
            "status": {"instancetypeRef": kept_in("r1")},
        }))
        .unwrap()
    }

    #[test]
    fn a_revision_holds_the_spec_of_its_start_and_goes_with_its_machine() {
        let mut vm = machine();
        let kept = revision(&vm);
        assert_eq!(kept.name_any(), "revision-start-vm-u1-3");
        assert_eq!(kept.revision, 3);
        assert!(is_owned(&kept, Some("u1")));
        let data = &kept.data.as_ref().unwrap().0;
        assert_eq!(data["spec"]["template"]["spec"]["hostname"], "a");
        vm.spec.template.spec.as_mut().unwrap().hostname = Some("b".to_owned());
        assert_eq!(started(&vm, kept), Some(machine()));
    }

    #[test]
    fn a_start_knows_where_its_instancetype_is_kept_after_the_machine_names_another_one() {
        let mut vm = machine();
        let kept = revision(&vm);
        vm.spec.instancetype.as_mut().unwrap().name = Some("large".to_owned());
        let status = vm.status.as_mut().unwrap();
        status.instancetype_ref = serde_json::from_value(kept_in("r2")).unwrap();
        assert_eq!(started(&vm, kept), Some(machine()));
    }

    #[test]
    fn a_revision_of_an_earlier_version_is_read_with_what_the_machine_says_now() {
        let mut kept = revision(&machine());
        let data = &mut kept.data.as_mut().unwrap().0;
        data.as_object_mut().unwrap().remove("status");
        assert_eq!(started(&machine(), kept), Some(machine()));
    }

    #[test]
    fn a_revision_that_holds_no_spec_says_nothing() {
        let mut kept = revision(&machine());
        kept.data = Some(RawExtension(json!({"spec": 1})));
        assert_eq!(started(&machine(), kept), None);
    }
}
