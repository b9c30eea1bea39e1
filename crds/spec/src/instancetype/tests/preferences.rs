//! What a preference fills in.

use serde_json::{Value, json};

use super::{at, merged};

/// (preference, path in the template's spec, what it becomes, what the machine says instead).
fn preferences() -> Vec<(Value, &'static str, Value, Value)> {
    let devices = |field: &str, value: Value| json!({"devices": {field: value}});
    let features = |field: &str, value: Value| json!({"features": {field: value}});
    let mut all = vec![
        (
            json!({"preferredSubdomain": "sub"}),
            "subdomain",
            json!("sub"),
            json!("mine"),
        ),
        (
            json!({"preferredArchitecture": "amd64"}),
            "architecture",
            json!("amd64"),
            json!("arm64"),
        ),
        (
            json!({"preferredTerminationGracePeriodSeconds": 180}),
            "terminationGracePeriodSeconds",
            json!(180),
            json!(5),
        ),
        (
            json!({"machine": {"preferredMachineType": "pc-q35-9.2"}}),
            "domain.machine.type",
            json!("pc-q35-9.2"),
            json!("q35"),
        ),
        (
            json!({"clock": {"preferredClockOffset": {"timezone": "Europe/Berlin"}}}),
            "domain.clock.timezone",
            json!("Europe/Berlin"),
            json!("UTC"),
        ),
        (
            json!({"clock": {"preferredClockOffset": {"utc": {"offsetSeconds": 60}}}}),
            "domain.clock.utc",
            json!({"offsetSeconds": 60}),
            json!({}),
        ),
        (
            json!({"clock": {"preferredTimer": {"hpet": {"present": false}}}}),
            "domain.clock.timer.hpet",
            json!({"present": false}),
            json!({"present": true}),
        ),
        (
            devices("preferredRng", json!({})),
            "domain.devices.rng",
            json!({}),
            Value::Null,
        ),
        (
            devices("preferredTPM", json!({"persistent": true})),
            "domain.devices.tpm",
            json!({"persistent": true}),
            json!({"enabled": false}),
        ),
        (
            devices("preferredVideoType", json!("virtio")),
            "domain.devices.video.type",
            json!("virtio"),
            json!("vga"),
        ),
        (
            features("preferredAcpi", json!({})),
            "domain.features.acpi",
            json!({}),
            json!({"enabled": false}),
        ),
        (
            features("preferredApic", json!({"endOfInterrupt": true})),
            "domain.features.apic",
            json!({"endOfInterrupt": true}),
            json!({"enabled": false}),
        ),
        (
            features("preferredHyperv", json!({"relaxed": {}})),
            "domain.features.hyperv.relaxed",
            json!({}),
            json!({"enabled": false}),
        ),
        (
            features("preferredKvm", json!({"hidden": true})),
            "domain.features.kvm",
            json!({"hidden": true}),
            json!({"hidden": false}),
        ),
        (
            features("preferredPvspinlock", json!({"enabled": false})),
            "domain.features.pvspinlock",
            json!({"enabled": false}),
            json!({"enabled": true}),
        ),
        (
            features("preferredSmm", json!({})),
            "domain.features.smm",
            json!({}),
            json!({"enabled": false}),
        ),
    ];
    for (preferred, field) in [
        (
            "preferredAutoattachGraphicsDevice",
            "autoattachGraphicsDevice",
        ),
        ("preferredAutoattachInputDevice", "autoattachInputDevice"),
        ("preferredAutoattachMemBalloon", "autoattachMemBalloon"),
        ("preferredAutoattachPodInterface", "autoattachPodInterface"),
        (
            "preferredAutoattachSerialConsole",
            "autoattachSerialConsole",
        ),
        ("preferredBlockMultiQueue", "blockMultiQueue"),
        ("preferredDisableHotplug", "disableHotplug"),
        (
            "preferredNetworkInterfaceMultiQueue",
            "networkInterfaceMultiqueue",
        ),
        ("preferredUseVirtioTransitional", "useVirtioTransitional"),
    ] {
        let path: &'static str = format!("domain.devices.{field}").leak();
        all.push((
            devices(preferred, json!(true)),
            path,
            json!(true),
            json!(false),
        ));
    }
    all
}

#[test]
fn a_preference_fills_what_the_machine_leaves_open() {
    for (prefer, path, value, own) in preferences() {
        let template = merged(&json!({"domain": {}}), None, Some(&prefer));
        assert_eq!(at(&template["spec"], path), &value, "{prefer}");
        if own.is_null() {
            continue;
        }
        let mut machine = own.clone();
        for name in path.rsplit('.') {
            machine = json!({ name: machine });
        }
        if machine["domain"].is_null() {
            machine["domain"] = json!({});
        }
        let template = merged(&machine, None, Some(&prefer));
        assert_eq!(
            at(&template["spec"], path),
            &own,
            "the machine's own beside {prefer}"
        );
    }
}

#[test]
fn features_and_timers_are_filled_one_by_one() {
    let prefer = json!({
        "features": {"preferredHyperv": {"relaxed": {}, "vapic": {}}},
        "clock": {"preferredTimer": {"hpet": {"present": false}, "pit": {"tickPolicy": "delay"}}},
        "cpu": {"preferredCPUFeatures": [{"name": "vmx", "policy": "require"}, {"name": "pcid"}]},
    });
    let own = json!({"domain": {
        "features": {"hyperv": {"relaxed": {"enabled": false}}},
        "clock": {"utc": {}, "timer": {"hpet": {"present": true}}},
        "cpu": {"features": [{"name": "vmx", "policy": "disable"}]},
    }});
    let domain = merged(&own, None, Some(&prefer))["spec"]["domain"].clone();
    assert_eq!(
        domain["features"]["hyperv"],
        json!({"relaxed": {"enabled": false}, "vapic": {}})
    );
    assert_eq!(
        domain["clock"],
        json!({"utc": {}, "timer": {"hpet": {"present": true}, "pit": {"tickPolicy": "delay"}}})
    );
    assert_eq!(
        domain["cpu"]["features"],
        json!([{"name": "vmx", "policy": "disable"}, {"name": "pcid"}])
    );
}

#[test]
fn a_preference_fills_disks_interfaces_and_inputs() {
    let prefer = json!({"devices": {
        "preferredDiskBus": "sata", "preferredCdromBus": "scsi", "preferredDiskCache": "none", "preferredDiskIO": "native",
        "preferredDiskBlockSize": {"custom": {"logical": 512, "physical": 4096}}, "preferredDiskDedicatedIoThread": true,
        "preferredInputBus": "virtio", "preferredInputType": "tablet", "preferredAutoattachInputDevice": true,
        "preferredInterfaceModel": "e1000e", "preferredInterfaceMasquerade": {}, "preferredPanicDeviceModel": "pvpanic",
    }});
    let own = json!({"domain": {"devices": {
        "disks": [{"name": "a"}, {"name": "b", "disk": {"bus": "virtio"}, "cache": "writeback"}, {"name": "c", "cdrom": {}}],
        "panicDevices": [{}, {"model": "isa"}],
    }}});
    let spec = merged(&own, None, Some(&prefer))["spec"].clone();
    let devices = &spec["domain"]["devices"];
    let size = json!({"custom": {"logical": 512, "physical": 4096}});
    assert_eq!(
        devices["disks"],
        json!([
            {"name": "a", "disk": {"bus": "sata"}, "cache": "none", "io": "native", "blockSize": size},
            {"name": "b", "disk": {"bus": "virtio"}, "cache": "writeback", "io": "native", "blockSize": size, "dedicatedIOThread": true},
            {"name": "c", "cdrom": {"bus": "scsi"}, "cache": "none", "io": "native", "blockSize": size},
        ])
    );
    assert_eq!(
        devices["inputs"],
        json!([{"name": "default-0", "type": "tablet", "bus": "virtio"}])
    );
    assert_eq!(
        devices["panicDevices"],
        json!([{"model": "pvpanic"}, {"model": "isa"}])
    );
    assert_eq!(
        devices["interfaces"],
        json!([{"name": "default", "model": "e1000e", "masquerade": {}}])
    );
    assert_eq!(spec["networks"], json!([{"name": "default", "pod": {}}]));

    let own = json!({
        "networks": [{"name": "n", "pod": {}}],
        "domain": {"devices": {"interfaces": [{"name": "n", "bridge": {}, "model": "virtio"}]}},
    });
    let spec = merged(&own, None, Some(&prefer))["spec"].clone();
    assert_eq!(
        spec["domain"]["devices"]["interfaces"],
        own["domain"]["devices"]["interfaces"]
    );
}

#[test]
fn a_preference_chooses_the_firmware() {
    let firmware = |preferred: Value| json!({"firmware": preferred});
    let own = |loader: Value| json!({"domain": {"firmware": {"bootloader": loader}}});
    let open = json!({"domain": {}});
    for (machine, preferred, expected) in [
        (
            &open,
            json!({"preferredUseBios": true}),
            json!({"bios": {}}),
        ),
        (
            &open,
            json!({"preferredUseBios": true, "preferredUseBiosSerial": true}),
            json!({"bios": {"useSerial": true}}),
        ),
        (&open, json!({"preferredUseEfi": true}), json!({"efi": {}})),
        (
            &open,
            json!({"preferredUseEfi": true, "preferredUseSecureBoot": false}),
            json!({"efi": {"secureBoot": false}}),
        ),
        (
            &open,
            json!({"preferredEfi": {"persistent": true, "secureBoot": false}}),
            json!({"efi": {"persistent": true, "secureBoot": false}}),
        ),
        (
            &own(json!({"bios": {}})),
            json!({"preferredEfi": {"secureBoot": false}}),
            json!({"bios": {}}),
        ),
        (
            &own(json!({"efi": {"secureBoot": true}})),
            json!({"preferredUseBios": true, "preferredUseSecureBoot": false}),
            json!({"efi": {"secureBoot": true}}),
        ),
        (&open, json!({"preferredUseBios": false}), Value::Null),
    ] {
        let template = merged(machine, None, Some(&firmware(preferred.clone())));
        let found = at(&template["spec"], "domain.firmware.bootloader");
        assert_eq!(found, &expected, "{preferred}");
    }
}
