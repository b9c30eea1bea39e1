//! The instance that a machine's template asks for, and whether a running one still is that.

use catamaran_api::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::hotplug::cold;

/// Annotation of an instance: generation of the machine that it was made from.
pub const GENERATION_ANNOTATION: &str = "kubevirt.io/vm-generation";

/// Annotation of an instance: digest of the template's spec that it was made from, without volumes that come and go. Admission fills defaults into an instance, so that the specs
/// themselves can't be compared.
pub const TEMPLATE_ANNOTATION: &str = "catamaran.dev/template";
/// Annotation of an instance: hardware of the machine's last run, as its `status.resolvedHardware`.
pub const HARDWARE_ANNOTATION: &str = "catamaran.dev/hardware";
/// Digits of a digest that are kept in an annotation.
const SHORT: usize = 16;

/// A new instance of the machine: name and namespace of the machine, labels and annotations of the template.
#[must_use]
pub fn instance(vm: &VirtualMachine, paused: bool) -> VirtualMachineInstance {
    let template = vm.spec.template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    annotations.insert(
        GENERATION_ANNOTATION.to_owned(),
        vm.metadata.generation.unwrap_or_default().to_string(),
    );
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), spec_digest(vm));
    let status = vm.status.as_ref();
    if let Some(hardware) = status.and_then(|status| status.resolved_hardware.clone()) {
        annotations.insert(HARDWARE_ANNOTATION.to_owned(), hardware);
    }
    let mut spec = template.spec.unwrap_or_default();
    if paused {
        spec.start_strategy = Some("Paused".to_owned());
    }
    VirtualMachineInstance {
        metadata: ObjectMeta {
            name: vm.metadata.name.clone(),
            namespace: vm.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: catamaran_api::API_VERSION.to_owned(),
                block_owner_deletion: Some(true),
                controller: Some(true),
                kind: "VirtualMachine".to_owned(),
                name: vm.metadata.name.clone().unwrap_or_default(),
                uid: vm.metadata.uid.clone().unwrap_or_default(),
            }]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// UID by which a guest is known: its machine's, or that of an instance without one.
#[must_use]
pub fn machine_uid(vmi: &VirtualMachineInstance) -> Option<&str> {
    let mut owners = vmi.metadata.owner_references.iter().flatten();
    let machine = owners.find(|owner| owner.kind == "VirtualMachine");
    let uid = machine.map(|machine| &machine.uid);
    uid.or(vmi.metadata.uid.as_ref()).map(String::as_str)
}

/// Generation of the machine that an instance was made from.
#[must_use]
pub fn instance_generation(vmi: &VirtualMachineInstance) -> Option<i64> {
    let annotations = vmi.metadata.annotations.as_ref()?;
    annotations.get(GENERATION_ANNOTATION)?.parse().ok()
}

/// Whether the instance runs with an older template. One that does not say counts as made from the newest.
#[must_use]
pub fn outdated(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let annotations = vmi.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(TEMPLATE_ANNOTATION))
        .is_some_and(|made_from| *made_from != spec_digest(vm))
}

fn spec_digest(vm: &VirtualMachine) -> String {
    let mut digest = digest(&vm.spec.template.spec.as_ref().map(cold));
    digest.truncate(SHORT);
    digest
}

fn digest<T: Serialize>(object: &T) -> String {
    let value = serde_json::to_value(object).expect("a wire type has string keys only");
    hex::encode(Sha256::digest(value.to_string()))
}

/// Digest of the template, SHA-256 in hexadecimal digits: a changed one clears the back-off.
#[must_use]
pub fn template_digest(vm: &VirtualMachine) -> String {
    digest(&vm.spec.template)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine() -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3, "labels": {"of": "the machine"}},
            "spec": {"runStrategy": "Always", "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"note": "x"}},
                "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "somethingNew": {"a": 1}},
            }},
        }))
        .unwrap()
    }

    #[test]
    fn an_instance_has_the_labels_of_the_template_and_its_owner() {
        let vmi = instance(&machine(), true);
        assert_eq!(vmi.metadata.labels.as_ref().unwrap()["app"], "web");
        assert!(!vmi.metadata.labels.as_ref().unwrap().contains_key("of"));
        assert_eq!(vmi.metadata.annotations.as_ref().unwrap()["note"], "x");
        assert_eq!(instance_generation(&vmi), Some(3));
        assert_eq!(vmi.spec.start_strategy.as_deref(), Some("Paused"));
        assert_eq!(vmi.spec.unknown["somethingNew"], json!({"a": 1}));
        let owner = &vmi.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("u1", Some(true)));
    }

    #[test]
    fn a_volume_that_comes_later_outdates_no_instance() {
        let mut vm = machine();
        let vmi = instance(&vm, false);
        let spec = vm.spec.template.spec.as_mut().unwrap();
        let claim =
            json!({"name": "d", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": true}});
        spec.volumes.push(serde_json::from_value(claim).unwrap());
        let disk = json!({"name": "d", "disk": {"bus": "scsi"}});
        let disks = &mut spec.domain.devices.disks;
        disks.push(serde_json::from_value(disk).unwrap());
        assert!(!outdated(&vm, &vmi));
        let spec = vm.spec.template.spec.as_mut().unwrap();
        let claim = spec.volumes[0].persistent_volume_claim.as_mut();
        claim.unwrap().hotpluggable = None;
        assert!(outdated(&vm, &vmi));
    }

    #[test]
    fn an_instance_is_outdated_when_the_template_has_changed_since() {
        let mut vm = machine();
        let mut vmi = instance(&vm, true);
        // What a start, a stop or admission writes into an instance is no difference.
        vmi.spec.termination_grace_period_seconds = Some(1);
        assert!(!outdated(&vm, &vmi));
        vm.spec.run_strategy = Some("Halted".to_owned());
        assert!(!outdated(&vm, &vmi));
        let before = vm.clone();
        vm.spec.template.spec.as_mut().unwrap().hostname = Some("other".to_owned());
        assert!(outdated(&vm, &vmi));
        assert!(!outdated(&before, &vmi), "reverted");
    }

    #[test]
    fn only_the_template_counts_for_the_digest() {
        let mut vm = machine();
        let before = template_digest(&vm);
        vm.spec.run_strategy = Some("Halted".to_owned());
        assert_eq!(template_digest(&vm), before);
        vm.spec.template.spec.as_mut().unwrap().hostname = Some("other".to_owned());
        assert_ne!(template_digest(&vm), before);
    }
}
