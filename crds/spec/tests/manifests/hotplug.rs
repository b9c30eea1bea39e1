//! Volumes that come and go while the guest runs.

use super::*;

fn with_hot(disk: &Value, more: &Value) -> Value {
    let mut devices = json!({ "disks": [{ "name": "root" }, disk] });
    for (name, value) in more.as_object().unwrap() {
        devices[name] = value.clone();
    }
    json!({
        "domain": { "devices": devices },
        "volumes": [
            { "name": "root", "containerDisk": { "image": "x" } },
            { "name": "d", "persistentVolumeClaim": { "claimName": "c", "hotpluggable": true } },
        ],
    })
}

fn on_cluster(patch: &Value) -> Result<MachineSpec, Vec<String>> {
    let vm = serde_json::from_value(vm(patch)).unwrap();
    let read = MachineSpec::from_vm(&vm, Context::Cluster);
    let message = |error: &catamaran_spec::FieldError| error.to_string();
    read.map(|(machine, _)| machine)
        .map_err(|errors| errors.0.iter().map(message).collect())
}

#[test]
fn hotpluggable_volumes_are_told_from_those_of_the_start() {
    let manifest = with_hot(
        &json!({ "name": "d", "disk": { "bus": "scsi" } }),
        &json!({}),
    );
    let machine = on_cluster(&manifest).unwrap();
    assert_eq!((machine.disks.len(), machine.volumes.len()), (1, 1));
    assert_eq!(machine.hotplug.len(), 1);
    assert_eq!(
        (
            machine.hotplug[0].disk.name.as_str(),
            machine.hotplug[0].claim.as_str()
        ),
        ("d", "c")
    );
    // Without Kubernetes nothing comes later.
    let played = good(&manifest);
    assert_eq!((played.disks.len(), played.hotplug.len()), (2, 0));
}

#[test]
fn what_can_not_be_plugged_in_is_refused_by_its_field() {
    let scsi = json!({ "name": "d", "disk": { "bus": "scsi" } });
    for (disk, more, expected) in [
        (
            json!({ "name": "d", "disk": { "bus": "sata" } }),
            json!({}),
            "disks[1].disk.bus: Unsupported value: \"sata\": supported values: \"virtio\", \"scsi\"",
        ),
        (
            json!({ "name": "d", "cdrom": {} }),
            json!({}),
            "disks[1].cdrom: Forbidden",
        ),
        (
            json!({ "name": "d", "bootOrder": 1 }),
            json!({}),
            "disks[1].bootOrder: Forbidden",
        ),
        (
            scsi.clone(),
            json!({ "disableHotplug": true }),
            "volumes[1].persistentVolumeClaim.hotpluggable: Forbidden: nothing can be plugged into a running machine with disableHotplug",
        ),
        (
            scsi,
            json!({ "useVirtioTransitional": true }),
            "hotpluggable: Forbidden",
        ),
    ] {
        let found = on_cluster(&with_hot(&disk, &more)).unwrap_err();
        assert!(found.iter().any(|m| m.contains(expected)), "{found:?}");
    }
}
