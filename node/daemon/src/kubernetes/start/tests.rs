//! Plans from what is found in pods.

use catamaran_plan::Format;
use catamaran_wire::{FoundDisk, InspectedDisk};
use serde_json::json;

use super::*;
use crate::kubernetes::instance::tests::instance;

fn machine() -> Instance {
    instance(
        "Scheduled",
        json!({"spec": {
            "domain": {"memory": {"guest": "128Mi"}, "devices": {
                "disks": [
                    {"name": "root", "disk": {"bus": "virtio"}},
                    {"name": "keys", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}}],
            }},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [
                {"name": "root", "containerDisk": {"image": "guest:1"}},
                {"name": "keys", "secret": {"secretName": "keys", "optional": true}},
            ],
        }}),
    )
}

fn attachment() -> Attachment {
    Attachment {
        netns: "/proc/self/fd/9".into(),
        interface: "eth0".into(),
        mac: "0a:58:0a:f4:00:05".parse().unwrap(),
        addresses: vec![
            "10.244.0.5/24".parse().unwrap(),
            "fd00::5/64".parse().unwrap(),
        ],
        gateway_v4: "10.244.0.1".parse().unwrap(),
        gateway_v6: None,
        gateway_link_local: None,
        mtu: 1450,
    }
}

fn found() -> Inspected {
    Inspected {
        disks: vec![InspectedDisk {
            volume: "root".into(),
            found: Some(FoundDisk {
                path: "/disks/root/disk/guest.qcow2".into(),
                format: Format::Qcow2,
                virtual_size: 1 << 30,
                direct_io: true,
                block: false,
            }),
            error: None,
        }],
        ..Default::default()
    }
}

#[test]
fn a_pods_disks_are_planned_where_they_are() {
    let machine = machine();
    let spec = validated(&machine).unwrap();
    let facts = HostFacts::offline();
    let nics = given(&spec, &machine.identity(), &attachment());
    let plan = plan(&machine, &spec, &facts, nics, &found()).unwrap();
    assert!(plan.views.is_empty(), "{:?}", plan.views);
    assert!(plan.domain_xml.contains("/disks/root/disk/guest.qcow2"));
    // The Secret is missing and optional.
    assert!(!plan.domain_xml.contains("keys"));
    assert_eq!(plan.nics[0].mtu, 1450);
    let volumes = volumes(&spec, &plan, &BTreeMap::new(), &found());
    assert_eq!(
        (volumes[0].name.as_str(), volumes[0].target.as_str()),
        ("root", "vda")
    );
}

#[test]
fn a_disk_that_cant_be_used_is_named() {
    let machine = machine();
    let spec = validated(&machine).unwrap();
    let mut inspected = found();
    inspected.disks[0].found = None;
    inspected.disks[0].error = Some("it is vmdk".into());
    let facts = HostFacts::offline();
    let nics = given(&spec, &machine.identity(), &attachment());
    let error = plan(&machine, &spec, &facts, nics, &inspected).unwrap_err();
    assert_eq!(error.to_string(), "volume root: it is vmdk");
}

#[test]
fn hardware_of_the_last_run_is_used_whatever_node_it_was_on() {
    let mut machine = machine();
    let digest = machine.spec_digest();
    let known = format!(
        r#"{{"spec_digest":"{digest}","machine":"pc-q35-8.0","cpu_model":null,"addresses":{{}}}}"#
    );
    let annotations = [("catamaran.dev/hardware".to_owned(), known)];
    machine.object.metadata.annotations = Some(annotations.into());
    let (mut inspected, mut other) = (found(), hardware(&machine, &found()).unwrap());
    assert_eq!(other.machine, "pc-q35-8.0");
    // What a pod remembers of another spec counts less.
    other.spec_digest = "another".to_owned();
    other.machine = "pc-q35-7.0".to_owned();
    inspected.hardware = Some(other);
    assert_eq!(
        hardware(&machine, &inspected).unwrap().machine,
        "pc-q35-8.0"
    );
}

#[test]
fn a_file_system_keeps_some_room_for_itself() {
    let bytes = without_overhead(1 << 30);
    assert!(bytes < (1 << 30) && bytes > (1 << 30) / 10 * 9 && bytes.is_multiple_of(1 << 20));
}
