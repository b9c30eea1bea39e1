//! Volumes that are plugged into a machine that runs keep their disks and their claims as they are: nothing would follow a changed disk before the
//! next start, and a changed volume would be taken from under the guest. Pure.

use catamaran_api::{VirtualMachine, VirtualMachineStatus};
use catamaran_lifecycle::hot_claim;
use catamaran_spec::{Fault, FieldError, FieldPath};
use serde_json::Value;

use super::review::Request;
use super::validate;
use crate::volumes;

/// What a change of a machine that runs must leave alone.
const WORDS: &str = "a volume that is plugged into a running machine stays as it is; remove the volume and add it again, or stop the machine first";

/// Fields of hotpluggable volumes that a request changes although their machine runs. Another claim is another volume, which is plugged in anew.
pub(super) fn changed(request: &Request) -> Vec<FieldError> {
    if request.kind.kind != "VirtualMachine"
        || request.operation != "UPDATE"
        || !validate::is_judged(request)
    {
        return Vec::new();
    }
    let read = |object: &Value| serde_json::from_value::<VirtualMachine>(object.clone()).ok();
    // What can't be read is told by others, with its paths.
    let (Some(old), Some(new)) = (read(&request.old_object), read(&request.object)) else {
        return Vec::new();
    };
    let runs = old.status.as_ref().is_some_and(runs);
    let (Some(old), Some(new), true) = (old.spec.template.spec, new.spec.template.spec, runs)
    else {
        return Vec::new();
    };
    let path = FieldPath::new("spec.template.spec");
    let mut fields = Vec::new();
    for (at, volume) in new.volumes.iter().enumerate() {
        let before = old.volumes.iter().find(|before| before.name == volume.name);
        let same = before.filter(|before| {
            hot_claim(before).is_some_and(|hot| volumes::claim(volume) == Some(hot))
        });
        let Some(before) = same else {
            continue;
        };
        let place = path.child("volumes").index(at);
        fields.extend(differences(&place, &json(before), &json(volume)));
        let disks = |spec: &catamaran_api::VirtualMachineInstanceSpec| {
            let mut disks = spec.domain.devices.disks.iter().enumerate();
            let found = disks.find(|(_, disk)| disk.name == volume.name);
            found.map(|(at, disk)| (at, json(disk)))
        };
        if let (Some((_, before)), Some((at, after))) = (disks(&old), disks(&new)) {
            let place = path.child("domain.devices.disks").index(at);
            fields.extend(differences(&place, &before, &after));
        }
    }
    let error = |path| FieldError {
        path,
        fault: Fault::Forbidden(WORDS.to_owned()),
    };
    fields.into_iter().map(error).collect()
}

/// Whether there is a guest that volumes are plugged into. An instance that has ended stays with its machine for a while.
fn runs(status: &VirtualMachineStatus) -> bool {
    let said = status.printable_status.as_deref();
    let runs = said.is_some_and(|said| ["Running", "Paused", "Stopping"].contains(&said));
    status.created == Some(true) && (runs || status.ready == Some(true))
}

fn json(part: &impl serde::Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

/// Paths of the fields that differ.
fn differences(path: &FieldPath, old: &Value, new: &Value) -> Vec<FieldPath> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return if old == new {
            Vec::new()
        } else {
            vec![path.clone()]
        };
    };
    let added = after.keys().filter(|key| !before.contains_key(*key));
    let keys = before.keys().chain(added);
    keys.flat_map(|key| differences(&path.child(key), &old[key], &new[key]))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::review::Kind;
    use super::*;

    fn vm(disk: &Value, volume: &Value) -> Value {
        let (mut disk, mut volume) = (disk.clone(), volume.clone());
        disk["name"] = json!("d");
        volume["name"] = json!("d");
        json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a"},
            "spec": {"runStrategy": "Always", "template": {"spec": {
                "domain": {"devices": {"disks": [{"name": "root", "disk": {}}, disk]}},
                "volumes": [{"name": "root", "containerDisk": {"image": "i"}}, volume],
            }}},
            "status": {"created": true, "printableStatus": "Running"},
        })
    }

    fn claim(name: &str, hot: bool) -> Value {
        json!({"persistentVolumeClaim": {"claimName": name, "hotpluggable": hot}})
    }

    fn paths(old: Value, new: Value) -> Vec<String> {
        let request = Request {
            kind: Kind {
                kind: "VirtualMachine".to_owned(),
            },
            operation: "UPDATE".to_owned(),
            object: new,
            old_object: old,
            ..Request::default()
        };
        let found = changed(&request);
        found
            .into_iter()
            .map(|error| error.path.to_string())
            .collect()
    }

    #[test]
    fn a_changed_disk_of_a_plugged_volume_is_refused_with_each_field() {
        let scsi = json!({"disk": {"bus": "scsi"}, "cache": "none"});
        for (disk, expected) in [
            (json!({"cache": "none", "disk": {"bus": "scsi"}}), &[][..]),
            (
                json!({"disk": {"bus": "virtio"}, "cache": "none"}),
                &["disk.bus"],
            ),
            (
                json!({"disk": {"bus": "scsi"}, "cache": "writeback", "serial": "s"}),
                &["cache", "serial"],
            ),
            (json!({"disk": {"bus": "scsi"}}), &["cache"]),
        ] {
            let found = paths(vm(&scsi, &claim("c", true)), vm(&disk, &claim("c", true)));
            let at = "spec.template.spec.domain.devices.disks[1]";
            let expected: Vec<String> = expected.iter().map(|f| format!("{at}.{f}")).collect();
            assert_eq!(found, expected, "{disk}");
        }
    }

    #[test]
    fn a_claim_that_becomes_read_only_is_refused() {
        let disk = json!({"disk": {}});
        let mut read_only = claim("c", true);
        read_only["persistentVolumeClaim"]["readOnly"] = json!(true);
        assert_eq!(
            paths(vm(&disk, &claim("c", true)), vm(&disk, &read_only)),
            ["spec.template.spec.volumes[1].persistentVolumeClaim.readOnly"]
        );
    }

    #[test]
    fn a_claim_that_is_not_to_be_hotpluggable_any_more_is_refused() {
        let disk = json!({"disk": {}});
        assert_eq!(
            paths(vm(&disk, &claim("c", true)), vm(&disk, &claim("c", false))),
            ["spec.template.spec.volumes[1].persistentVolumeClaim.hotpluggable"]
        );
    }

    #[test]
    fn what_is_not_plugged_in_may_change() {
        let (scsi, virtio) = (
            json!({"disk": {"bus": "scsi"}}),
            json!({"disk": {"bus": "virtio"}}),
        );
        let old = || vm(&scsi, &claim("c", true));
        // Another claim comes in place of this one.
        assert!(paths(old(), vm(&virtio, &claim("e", true))).is_empty());
        // From the next start on, as everything else.
        let cold = vm(&scsi, &claim("c", false));
        assert!(paths(cold, vm(&virtio, &claim("c", false))).is_empty());
        let mut halted = old();
        halted["status"]["created"] = Value::Null;
        assert!(paths(halted, vm(&virtio, &claim("c", true))).is_empty());
        // Its instance has ended, and is there still.
        let mut ended = old();
        ended["status"]["printableStatus"] = json!("Stopped");
        assert!(paths(ended, vm(&virtio, &claim("c", true))).is_empty());
        let mut going = vm(&virtio, &claim("c", true));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(paths(old(), going).is_empty());
    }
}
