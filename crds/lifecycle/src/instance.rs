//! The instance that a machine's template asks for, and whether a running one still is that.

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Annotation of an instance: generation of the machine that it was made from.
pub const GENERATION_ANNOTATION: &str = "kubevirt.io/vm-generation";

/// Fields that a start, or a stop with another grace period, puts into an instance.
const NOT_OF_THE_TEMPLATE: [&str; 2] = ["startStrategy", "terminationGracePeriodSeconds"];

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

/// Generation of the machine that an instance was made from.
#[must_use]
pub fn instance_generation(vmi: &VirtualMachineInstance) -> Option<i64> {
    let annotations = vmi.metadata.annotations.as_ref()?;
    annotations.get(GENERATION_ANNOTATION)?.parse().ok()
}

/// Whether the instance runs with an older template.
#[must_use]
pub fn outdated(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let value = |spec: Option<&VirtualMachineInstanceSpec>| {
        serde_json::to_value(spec).expect("a wire type has string keys only")
    };
    let wanted = value(vm.spec.template.spec.as_ref());
    let mut running = value(Some(&vmi.spec));
    for field in NOT_OF_THE_TEMPLATE {
        match wanted.get(field) {
            Some(wanted) => running[field] = wanted.clone(),
            None => {
                if let Some(running) = running.as_object_mut() {
                    running.remove(field);
                }
            }
        }
    }
    running != wanted
}

/// Digest of the template, SHA-256 in hexadecimal digits: a changed one clears the back-off.
#[must_use]
pub fn template_digest(vm: &VirtualMachine) -> String {
    let template: Value =
        serde_json::to_value(&vm.spec.template).expect("a wire type has string keys only");
    hex::encode(Sha256::digest(template.to_string()))
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
    fn what_a_start_or_stop_writes_is_no_difference() {
        let vm = machine();
        let mut vmi = instance(&vm, true);
        vmi.spec.termination_grace_period_seconds = Some(1);
        assert!(!outdated(&vm, &vmi));
        vmi.spec.hostname = Some("other".to_owned());
        assert!(outdated(&vm, &vmi));
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
