//! The claim with what a machine's firmware and TPM remember (`efi.persistent`, `tpm.persistent`). It is `/state` in every pod of the machine.
//!
//! It belongs to the machine, not to one of its runs, and goes with it.

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineInstance;
use catamaran_spec::{Bootloader, MachineSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, PostParams};

use crate::error::Error;
use crate::patch::INSTANCE_MANAGER;
use crate::settings::Settings;
use crate::vmi::apply::NotMade;
use crate::world::World;

/// Label of a claim with the name of its machine, and the beginning of its name, as the peer's.
const LABEL: &str = "persistent-state-for";
/// Size that is asked for: variables and TPM state need less, and many drivers round it up.
const SIZE: &str = "10Mi";
/// Annotation of the class for claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The field that asks for state that outlives runs.
fn asking(machine: &MachineSpec) -> Option<&'static str> {
    if let Bootloader::Efi {
        persistent: true, ..
    } = machine.firmware.bootloader
    {
        return Some("spec.domain.firmware.bootloader.efi.persistent");
    }
    let tpm = machine.devices.tpm.as_ref();
    tpm.filter(|tpm| tpm.persistent)
        .map(|_| "spec.domain.devices.tpm.persistent")
}

/// Name of the claim of a machine that has one.
pub(super) fn claim_name(machine: &MachineSpec, name: &str) -> Option<String> {
    asking(machine).map(|_| format!("{LABEL}-{name}"))
}

/// Makes the claim if the machine needs one and has none yet.
pub(super) async fn ensure(
    world: &World,
    vmi: &VirtualMachineInstance,
    machine: &MachineSpec,
    settings: &Settings,
) -> Result<(), NotMade> {
    let (namespace, own) = (vmi.namespace().unwrap_or_default(), vmi.name_any());
    let (Some(field), Some(name)) = (asking(machine), claim_name(machine, &own)) else {
        return Ok(());
    };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &namespace);
    let what = format!("read claim {namespace}/{name}");
    if let Some(there) = api.get_opt(&name).await.map_err(Error::api(what))? {
        return ours(&there, &own).map_err(|source| refused(source.to_string(), source));
    }
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    let classes = classes.list(&ListParams::default()).await;
    let classes = classes.map_err(Error::api("list storage classes"))?.items;
    let class = class(&classes, settings.state_storage_class.as_deref(), field)
        .map_err(|words| refused(words.clone(), Error::Missing { what: words }))?;
    let params = PostParams {
        field_manager: Some(INSTANCE_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let what = format!("create claim {namespace}/{name}");
    let made = api.create(&params, &claim(vmi, name, class)).await;
    match made.map_err(Error::api(what)) {
        Ok(_) => Ok(()),
        Err(error) if error.already_exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn refused(words: String, source: Error) -> NotMade {
    NotMade {
        problem: Some(("FailedCreate".to_owned(), words)),
        source,
    }
}

/// A claim that somebody else has put there under the name is not written to, unless it says that it is meant.
fn ours(there: &PersistentVolumeClaim, machine: &str) -> Result<(), Error> {
    if there.labels().get(LABEL).map(String::as_str) == Some(machine) {
        return Ok(());
    }
    Err(Error::Taken {
        what: format!("claim {}", there.name_any()),
    })
}

/// The storage class to ask for.
fn class(classes: &[StorageClass], wished: Option<&str>, field: &str) -> Result<String, String> {
    let names = || -> String {
        let names: Vec<String> = classes.iter().map(StorageClass::name_any).collect();
        if names.is_empty() {
            "the cluster has none".to_owned()
        } else {
            format!("the cluster has {}", names.join(", "))
        }
    };
    match wished {
        Some(wished) if classes.iter().any(|class| class.name_any() == wished) => {
            Ok(wished.to_owned())
        }
        Some(wished) => Err(format!(
            "{field}: there is no storage class {wished:?}, which the KubeVirt object's vmStateStorageClass names; {}",
            names()
        )),
        None => classes
            .iter()
            .find(|class| {
                class.annotations().get(DEFAULT_CLASS).map(String::as_str) == Some("true")
            })
            .map(StorageClass::name_any)
            .ok_or_else(|| {
                format!(
                    "{field}: needs a storage class, in vmStateStorageClass of the KubeVirt object or as the cluster's default; {}",
                    names()
                )
            }),
    }
}

fn claim(vmi: &VirtualMachineInstance, name: String, class: String) -> PersistentVolumeClaim {
    let metadata = &vmi.metadata;
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners
        .find(|owner| owner.kind == "VirtualMachine" && owner.controller == Some(true))
        .map_or_else(
            || OwnerReference {
                api_version: catamaran_api::API_VERSION.to_owned(),
                kind: "VirtualMachineInstance".to_owned(),
                name: vmi.name_any(),
                uid: metadata.uid.clone().unwrap_or_default(),
                ..OwnerReference::default()
            },
            |machine| OwnerReference {
                controller: None,
                block_owner_deletion: None,
                ..machine.clone()
            },
        );
    let size = Quantity(SIZE.to_owned());
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: metadata.namespace.clone(),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), vmi.name_any())])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                limits: None,
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
            }),
            storage_class_name: Some(class),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn classes(default: bool) -> Vec<StorageClass> {
        let class = json!({
            "metadata": {"name": "slow", "annotations": {DEFAULT_CLASS: default.to_string()}}, "provisioner": "p",
        });
        vec![serde_json::from_value(class).unwrap()]
    }

    #[test]
    fn the_named_class_is_asked_for_else_the_clusters_default() {
        assert_eq!(class(&classes(false), Some("slow"), "f").unwrap(), "slow");
        assert_eq!(class(&classes(true), None, "f").unwrap(), "slow");
    }

    #[test]
    fn without_a_class_the_field_is_refused_and_what_there_is_is_named() {
        let words = class(&classes(true), Some("fast"), "tpm.persistent").unwrap_err();
        assert!(
            words.contains("tpm.persistent")
                && words.contains("\"fast\"")
                && words.contains("slow"),
            "{words}"
        );
        let words = class(&classes(false), None, "f").unwrap_err();
        assert!(words.contains("vmStateStorageClass"), "{words}");
        assert!(class(&[], None, "f").unwrap_err().contains("has none"));
    }

    #[test]
    fn the_claim_belongs_to_the_machine_and_not_to_its_run() {
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "i1", "ownerReferences": [
                {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web", "uid": "m1", "controller": true, "blockOwnerDeletion": true},
            ]},
            "spec": {"domain": {"devices": {}}},
        }))
        .unwrap();
        let claim = claim(
            &vmi,
            "persistent-state-for-web".to_owned(),
            "slow".to_owned(),
        );
        let owners = claim.metadata.owner_references.clone().unwrap();
        assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "m1"));
        assert!(ours(&claim, "web").is_ok() && ours(&claim, "other").is_err());
    }
}
