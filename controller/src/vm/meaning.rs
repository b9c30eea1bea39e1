//! Whether specs that are written differently ask for the same. Pure.
//!
//! An empty object where another spec has nothing is a difference in some places and none in others: `rng: {}` is a device, `cpu: {}` is nothing.
//! What a spec means is known to [`MachineSpec`]; what it does not know goes into the pod, where an empty object is nothing, but for selectors.

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec};
use catamaran_lifecycle::of_start;
use catamaran_spec::{Context, MachineSpec};
use serde_json::Value;

/// Field in which an empty selector selects everything, and none selects nothing.
const SELECTS: &str = "topologySpreadConstraints";

/// Whether what a machine was started from and what is wanted now differ in something that only a restart brings. Both have their instancetype and
/// preference merged into them.
pub(super) fn needs_restart(started: &VirtualMachine, wanted: &VirtualMachine) -> bool {
    let spec = |vm: &VirtualMachine| of_start(&vm.spec.template.spec.clone().unwrap_or_default());
    let (started, now) = (spec(started), spec(wanted));
    started != now && !(written(&started) == written(&now) && same(wanted, started, now))
}

fn same(
    vm: &VirtualMachine,
    one: VirtualMachineInstanceSpec,
    other: VirtualMachineInstanceSpec,
) -> bool {
    let meant = |spec| {
        let mut vmi = VirtualMachineInstance {
            spec,
            ..VirtualMachineInstance::default()
        };
        vmi.metadata.name.clone_from(&vm.metadata.name);
        vmi.metadata.namespace.clone_from(&vm.metadata.namespace);
        MachineSpec::from_vmi(&vmi, Context::Cluster)
    };
    matches!((meant(one), meant(other)), (Ok((one, _)), Ok((other, _))) if one == other)
}

/// A spec without what is empty.
fn written(spec: &VirtualMachineInstanceSpec) -> Value {
    let mut spec = serde_json::to_value(spec).expect("a wire type has string keys only");
    prune(&mut spec);
    spec
}

fn prune(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if name != SELECTS {
                    prune(field);
                }
            }
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine(change: &Value) -> VirtualMachine {
        let mut spec = json!({
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"interfaces": [{"name": "default", "masquerade": {}}]}},
            "networks": [{"name": "default", "pod": {}}],
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"runStrategy": "Always", "template": {"spec": spec}},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_empty_asks_for_a_restart_where_it_means_something() {
        let spread = |selector: &Value| json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
        for (change, expected) in [
            (json!({}), false),
            (json!({"/domain/cpu": {}}), false),
            (json!({"/domain/resources": {}}), false),
            (json!({"/domain/resources": {"requests": {}}}), false),
            (json!({"/domain/features": {}}), false),
            (json!({"/domain/firmware": {"bootloader": {}}}), false),
            (json!({"/dnsConfig": {}}), false),
            (json!({"/dnsConfig": {"nameservers": []}}), false),
            (json!({"/volumes": []}), false),
            (json!({"/domain/devices/rng": {}}), true),
            (json!({"/domain/devices/tpm": {}}), true),
            (json!({"/domain/cpu": {"cores": 2}}), true),
            (json!({"/dnsConfig": {"nameservers": ["192.0.2.1"]}}), true),
            (json!({"/hostname": "other"}), true),
        ] {
            let (one, other) = (machine(&json!({})), machine(&change));
            assert_eq!(needs_restart(&one, &other), expected, "{change}");
            assert_eq!(needs_restart(&other, &one), expected, "back: {change}");
        }
        let (all, none) = (spread(&json!({})), spread(&Value::Null));
        let spread = |selector| machine(&json!({ "/topologySpreadConstraints": selector }));
        assert!(needs_restart(&spread(all), &spread(none)));
    }

    #[test]
    fn what_is_not_understood_counts_as_changed() {
        let (one, other) = (
            machine(&json!({"/domain/memory/guest": "much"})),
            machine(&json!({"/domain/memory/guest": "much", "/domain/cpu": {}})),
        );
        assert!(needs_restart(&one, &other));
        assert!(!needs_restart(&one, &one));
    }
}
