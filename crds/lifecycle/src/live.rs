//! What of a template takes effect while its machine runs, and what waits for a restart.
//!
//! Volumes that come and go are plugged. Node selector, affinity and tolerations are written into the instance, whose guest stays where it is:
//! they say where it may be brought up next. Everything else, processors and memory among it, is of the next run only.

use catamaran_api::{VirtualMachineInstance, VirtualMachineInstanceSpec};

use crate::hotplug::{cold, follow_volumes};

/// The spec of a running instance with everything of its machine's template that may change while it runs; `None` when it has that already.
#[must_use]
pub fn follow_template(
    template: &VirtualMachineInstanceSpec,
    vmi: &VirtualMachineInstance,
) -> Option<VirtualMachineInstanceSpec> {
    let mut spec = vmi.spec.clone();
    place(&mut spec, template);
    follow_volumes(&mut spec, template, vmi);
    (spec != vmi.spec).then_some(spec)
}

/// The part of a spec that only a restart brings.
#[must_use]
pub fn of_start(spec: &VirtualMachineInstanceSpec) -> VirtualMachineInstanceSpec {
    let mut spec = cold(spec);
    place(&mut spec, &VirtualMachineInstanceSpec::default());
    spec
}

/// Takes over where a machine may run.
fn place(spec: &mut VirtualMachineInstanceSpec, from: &VirtualMachineInstanceSpec) {
    spec.node_selector.clone_from(&from.node_selector);
    spec.affinity.clone_from(&from.affinity);
    spec.tolerations.clone_from(&from.tolerations);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(change: &Value) -> VirtualMachineInstanceSpec {
        let mut spec = json!({
            "domain": {"cpu": {"sockets": 1}, "memory": {"guest": "64Mi"}, "devices": {}},
            "nodeSelector": {"zone": "a"},
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn where_a_machine_may_run_changes_without_a_restart_and_its_hardware_does_not() {
        let key = json!([{"key": "k", "operator": "Exists"}]);
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}});
        let disk = json!([{"name": "d", "disk": {"bus": "scsi"}}]);
        let volume = |hot: bool| json!([{"name": "d", "persistentVolumeClaim": {"claimName": "c", "hotpluggable": hot}}]);
        for (change, expected) in [
            (json!({}), false),
            (json!({"/nodeSelector": {"zone": "b"}}), false),
            (json!({"/nodeSelector": {}}), false),
            (json!({ "/tolerations": key }), false),
            (json!({ "/affinity": affinity }), false),
            (
                json!({ "/domain/devices/disks": disk, "/volumes": volume(true) }),
                false,
            ),
            (
                json!({ "/domain/devices/disks": disk, "/volumes": volume(false) }),
                true,
            ),
            (json!({"/domain/cpu/sockets": 2}), true),
            (json!({"/domain/memory/guest": "128Mi"}), true),
            (
                json!({"/nodeSelector": {"zone": "b"}, "/hostname": "x"}),
                true,
            ),
        ] {
            let (started, wanted) = (of_start(&spec(&json!({}))), of_start(&spec(&change)));
            assert_eq!(started != wanted, expected, "{change}");
        }
    }

    #[test]
    fn an_instance_follows_where_its_machine_may_run_and_nothing_else_of_its_start() {
        let vmi = VirtualMachineInstance {
            spec: spec(&json!({})),
            ..VirtualMachineInstance::default()
        };
        let wanted = spec(&json!({"/nodeSelector": {"zone": "b"}, "/domain/cpu/sockets": 2}));
        let followed = follow_template(&wanted, &vmi).unwrap();
        assert_eq!(followed, spec(&json!({"/nodeSelector": {"zone": "b"}})));
        let sockets = spec(&json!({"/domain/cpu/sockets": 2}));
        assert_eq!(follow_template(&sockets, &vmi), None);
    }
}
