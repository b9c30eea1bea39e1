//! Disks for a machine that runs.

#![allow(clippy::unwrap_used, clippy::panic)] // Everything here is a test, helpers too.

use catamaran_plan::hotplug::{Device, Plugged, plug};
use catamaran_plan::{Format, GivenDisk, HostFacts, Plan, offline_given, plan};
use catamaran_spec::{Context, MachineSpec};
use serde_json::{Value, json};

/// A machine with one disk of its own, and those that come later, as (name, bus).
fn spec(later: &[(&str, &str)]) -> MachineSpec {
    let mut disks = vec![json!({"name": "root", "disk": {"bus": "virtio"}})];
    let mut volumes = vec![json!({"name": "root", "containerDisk": {"image": "i:1"}})];
    for (name, bus) in later {
        disks.push(json!({"name": name, "serial": format!("of-{name}"), "disk": {"bus": bus}}));
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name, "hotpluggable": true}}));
    }
    let manifest: Value = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "domain": {"memory": {"guest": "128Mi"}, "devices": {"disks": disks}},
            "volumes": volumes,
        },
    });
    let read = catamaran_spec::read::virtual_machine_instance(&manifest, Context::Cluster);
    read.unwrap().1
}

fn running(spec: &MachineSpec) -> Plan {
    plan(spec, &HostFacts::offline(), &offline_given(spec)).unwrap()
}

/// Plugs the disk of that name in.
fn add(
    spec: &MachineSpec,
    plan: &Plan,
    name: &str,
    plugged: &Plugged,
) -> Result<(Plugged, Vec<Device>), String> {
    let hot = spec.hotplug.iter().find(|hot| hot.disk.name == name);
    let found = GivenDisk {
        host_path: format!("/vm/hotplug/{name}/disk.img"),
        inside: true,
        block: false,
        format: Format::Raw,
        virtual_size: 1 << 30,
        direct_io: true,
    };
    let identity = offline_given(spec).identity;
    let facts = HostFacts::offline();
    let hot = (hot.unwrap(), &found);
    plug(spec, &facts, &identity, hot, plan, plugged).map_err(|errors| errors[0].to_string())
}

#[test]
fn a_machine_starts_without_what_comes_later() {
    let (with, without) = (spec(&[("d", "scsi")]), spec(&[]));
    assert_eq!(running(&with).domain_xml, running(&without).domain_xml);
}

#[test]
fn a_virtio_disk_gets_a_root_port_that_is_free() {
    let spec = spec(&[("d", "virtio"), ("e", "virtio")]);
    let plan = running(&spec);
    let (first, devices) = add(&spec, &plan, "d", &Plugged::default()).unwrap();
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].alias, "ua-d");
    let address = first.disks["d"].address.clone().unwrap();
    let used: Vec<&String> = plan.hardware.addresses.values().collect();
    assert!(!used.contains(&&address), "{address} of {used:?}");
    for part in [
        "<disk type='file' device='disk'>",
        "<source file='/vm/hotplug/d/disk.img'/>",
        "<target dev='vdb' bus='virtio'/>",
        "<serial>of-d</serial>",
        "cache='none'",
        "<address type='pci'",
    ] {
        assert!(devices[0].xml.contains(part), "{part}: {}", devices[0].xml);
    }
    let (second, _) = add(&spec, &plan, "e", &first).unwrap();
    assert_eq!(second.disks["e"].target, "vdc");
    assert_ne!(second.disks["e"].address, first.disks["d"].address);
}

#[test]
fn the_first_scsi_disk_brings_a_controller_that_stays() {
    let spec = spec(&[("d", "scsi"), ("e", "scsi")]);
    let plan = running(&spec);
    let (first, devices) = add(&spec, &plan, "d", &Plugged::default()).unwrap();
    assert!(devices[0].xml.starts_with("<controller type='scsi'"));
    assert!(devices[1].xml.contains("<target dev='sda' bus='scsi'/>"));
    let (second, again) = add(&spec, &plan, "e", &first).unwrap();
    // It is named anew, so that a launcher that lost it can bring it back; one that has it skips it.
    assert_eq!(again[0], devices[0]);
    assert_eq!(second.controller, first.controller);
    assert_eq!(second.disks["e"].unit, Some(1));
    // The place of a disk that has gone is free again, that of the controller is not.
    let mut gone = second.clone();
    gone.disks.clear();
    let (third, _) = add(&spec, &plan, "e", &gone).unwrap();
    assert_eq!(third.controller, first.controller);
    assert_eq!(third.disks["e"].unit, Some(0));
}

#[test]
fn a_second_try_gives_the_same_device() {
    let spec = spec(&[("d", "virtio")]);
    let plan = running(&spec);
    let first = add(&spec, &plan, "d", &Plugged::default()).unwrap();
    assert_eq!(add(&spec, &plan, "d", &first.0).unwrap(), first);
}

#[test]
fn without_a_free_root_port_the_way_out_is_told() {
    let names: Vec<String> = (0..9).map(|index| format!("d{index}")).collect();
    let disks: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "virtio")).collect();
    let spec = spec(&disks);
    let plan = running(&spec);
    let mut plugged = Plugged::default();
    let refused = names
        .iter()
        .find_map(|name| match add(&spec, &plan, name, &plugged) {
            Ok((after, _)) => {
                plugged = after;
                None
            }
            Err(words) => Some(words),
        });
    let words = refused.unwrap();
    assert!(
        words.contains("no root port of the machine is free"),
        "{words}"
    );
    assert!(words.contains("bus scsi"), "{words}");
}
