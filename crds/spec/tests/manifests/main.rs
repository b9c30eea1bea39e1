//! Manifests in, machines or messages out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod host_ports;
mod hotplug;

use catamaran_spec::read::{virtual_machine, virtual_machine_instance};
use catamaran_spec::{
    Binding, Bootloader, Bus, CloudInitData, Context, CpuModel, DiskTarget, IoThreads, MachineSpec,
    NicModel, PullPolicy, VolumeSource,
};
use serde_json::{Value, json};

/// A VirtualMachine with a disk, whose instance spec is changed by the merge patch.
fn vm(patch: &Value) -> Value {
    let mut spec = json!({
        "domain": {
            "memory": { "guest": "128Mi" },
            "devices": { "disks": [{ "name": "root", "disk": { "bus": "virtio" } }] },
        },
        "volumes": [{ "name": "root", "containerDisk": { "image": "example.org/minimal:1" } }],
    });
    merge(&mut spec, patch);
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": { "name": "demo" },
        "spec": { "runStrategy": "Always", "template": { "metadata": { "labels": { "app": "demo" } }, "spec": spec } },
    })
}

fn merge(into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => {
            if !into.is_object() {
                *into = json!({});
            }
            for (key, value) in patch {
                if value.is_null() {
                    into.as_object_mut().unwrap().remove(key);
                } else {
                    merge(&mut into[key], value);
                }
            }
        }
        other => *into = other.clone(),
    }
}

fn good(patch: &Value) -> MachineSpec {
    virtual_machine(&vm(patch), Context::Play)
        .unwrap_or_else(|e| panic!("{e}"))
        .1
}

/// The messages of a refused manifest, without the path of the template's spec.
fn messages(manifest: &Value) -> Vec<String> {
    let errors = virtual_machine(manifest, Context::Play)
        .map(|(_, machine, _)| machine)
        .expect_err("the manifest is refused");
    errors
        .0
        .iter()
        .map(|e| e.to_string().replacen("spec.template.spec.", "", 1))
        .collect()
}

/// The only message of a refused manifest.
fn message(patch: &Value) -> String {
    let messages = messages(&vm(patch));
    assert_eq!(messages.len(), 1, "{messages:#?}");
    messages[0].clone()
}

fn devices(devices: &Value) -> Value {
    json!({ "domain": { "devices": devices } })
}

fn volume(source: &Value) -> Value {
    let mut volume = json!({ "name": "root" });
    merge(&mut volume, source);
    json!({ "volumes": [volume] })
}

#[test]
fn a_small_machine_gets_every_default() {
    let machine = good(&json!({}));
    assert_eq!(
        (
            machine.namespace.as_str(),
            machine.name.as_str(),
            machine.hostname.as_str()
        ),
        ("default", "demo", "demo")
    );
    assert_eq!(machine.labels["app"], "demo");
    assert_eq!(
        (
            machine.cpu.sockets,
            machine.cpu.cores,
            machine.cpu.threads,
            machine.cpu.count()
        ),
        (1, 1, 1, 1)
    );
    assert_eq!(machine.cpu.model, CpuModel::HostModel);
    assert_eq!(machine.memory.guest, 128 << 20);
    assert_eq!(machine.machine_type, "q35");
    assert_eq!(
        machine.firmware.bootloader,
        Bootloader::Bios { use_serial: false }
    );
    assert_eq!(machine.interfaces.len(), 1);
    assert_eq!(
        (
            machine.interfaces[0].name.as_str(),
            &machine.interfaces[0].binding,
            machine.interfaces[0].model
        ),
        ("default", &Binding::Bridge, NicModel::Virtio)
    );
    assert_eq!(machine.termination_grace_period_seconds, 30);
    assert!(machine.features.acpi && machine.features.apic && machine.features.smm.is_none());
    assert!(
        machine.devices.serial_console
            && machine.devices.graphics
            && machine.devices.balloon
            && !machine.devices.rng
    );
    let VolumeSource::ContainerDisk { pull_policy, .. } = &machine.volumes[0].source else {
        panic!("{:?}", machine.volumes)
    };
    assert_eq!(*pull_policy, PullPolicy::IfNotPresent);
}

#[test]
fn a_disk_and_a_cdrom_get_their_buses() {
    let machine = good(&json!({
        "domain": { "devices": { "disks": [{ "name": "root" }, { "name": "seed", "cdrom": {} }] } },
        "volumes": [{ "name": "root", "containerDisk": { "image": "a" } }, { "name": "seed", "cloudInitNoCloud": { "userDataBase64": "I2Nsb3VkLWNvbmZpZwo=" } }],
    }));
    assert_eq!(
        machine.disks[0].target,
        DiskTarget::Disk {
            bus: Bus::Virtio,
            readonly: false
        }
    );
    assert_eq!(
        machine.disks[1].target,
        DiskTarget::Cdrom {
            bus: Bus::Sata,
            tray_open: false,
            readonly: true
        }
    );
    let VolumeSource::CloudInit(seed) = &machine.volumes[1].source else {
        panic!("{:?}", machine.volumes)
    };
    assert_eq!(
        seed.user_data,
        Some(CloudInitData::Inline("#cloud-config\n".to_owned()))
    );
}

#[test]
fn memory_comes_from_requests_and_cpus_from_requests() {
    let machine = good(
        &json!({ "domain": { "memory": null, "resources": { "requests": { "memory": "96M", "cpu": 3 } } } }),
    );
    assert_eq!(machine.memory.guest, 92 << 20, "rounded up to whole MiB");
    assert_eq!(machine.cpu.count(), 3);
    assert_eq!(machine.resources.cpu_request_millis, Some(3000));
    let named = good(
        &json!({ "domain": { "cpu": { "cores": 2 }, "resources": { "requests": { "cpu": "100m" } } } }),
    );
    assert_eq!(named.cpu.count(), 2, "a topology wins over requests");
}

#[test]
fn masquerade_has_the_peers_networks() {
    let machine = good(&json!({
        "networks": [{ "name": "net", "pod": {} }],
        "domain": { "devices": { "interfaces": [{ "name": "net", "masquerade": {}, "macAddress": "02-5E-00-00-00-0a", "ports": [{ "port": 80, "name": "http" }] }] } },
    }));
    let Binding::Masquerade { v4, v6 } = &machine.interfaces[0].binding else {
        panic!("{:?}", machine.interfaces)
    };
    assert_eq!(
        (v4.to_string().as_str(), v6.to_string().as_str()),
        ("10.0.2.0/24", "fd10:0:2::/120")
    );
    assert_eq!(machine.interfaces[0].mac, Some([2, 0x5e, 0, 0, 0, 10]));
}

#[test]
fn what_an_enlightenment_needs_comes_with_it() {
    let machine = good(
        &json!({ "domain": { "features": { "hyperv": { "synictimer": { "direct": {} }, "spinlocks": {} } } } }),
    );
    let hyperv = machine.features.hyperv.unwrap();
    assert_eq!(hyperv.switches, [("vpindex", true), ("synic", true)]);
    assert_eq!(hyperv.stimer, Some((true, Some(true))));
    assert_eq!(hyperv.spinlocks, Some((true, 8191)));
}

#[test]
fn an_io_thread_pool_needs_a_size() {
    let pool = good(
        &json!({ "domain": { "ioThreadsPolicy": "supplementalPool", "ioThreads": { "supplementalPoolThreadCount": 4 } } }),
    );
    assert_eq!(pool.io_threads, IoThreads::SupplementalPool(4));
}

#[test]
fn all_mistakes_come_at_once() {
    let manifest = vm(&json!({
        "domain": {
            "cpu": { "corse": 2, "model": "host model" },
            "devices": { "disks": [{ "name": "a" }, { "name": "a" }, { "name": "b", "disk": { "bus": "ide" }, "bootOrder": 0 }] },
            "memory": { "guest": "12 Gi" },
        },
        "volumes": [{ "name": "a", "containerDisk": { "image": "x" } }, { "name": "a", "emptyDisk": { "capacity": "1Gi" } }, { "name": "c" }],
    }));
    let expected = [
        "domain.cpu.corse: Unknown field: \"corse\"",
        "domain.cpu.model: Invalid value: \"host model\": must be host-model, host-passthrough or a model's name",
        "domain.memory.guest: Invalid value: \"12 Gi\": must be a positive quantity such as 512Mi",
        "domain.devices.disks[2].disk.bus: Unsupported value: \"ide\": supported values: \"virtio\", \"sata\", \"scsi\", \"usb\"",
        "volumes[1].name: Duplicate value: \"a\"",
        "volumes[2]: Required value: must have exactly one source type set",
        "domain.devices.disks[1].name: Duplicate value: \"a\"",
        "domain.devices.disks[2].name: Invalid value: \"b\": no volume of this name in spec.template.spec.volumes",
        "domain.devices.disks[2].bootOrder: Invalid value: \"0\": must be greater than 0",
    ];
    let found = messages(&manifest);
    for message in expected {
        assert!(
            found.iter().any(|m| m == message),
            "{message}\nnot in {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn each_mistake_has_one_precise_message() {
    let cases = [
        (
            json!({ "volumes": [] }),
            "domain.devices.disks[0].name: Invalid value: \"root\": no volume of this name in spec.template.spec.volumes",
        ),
        (
            json!({ "volumes": [{ "name": "Root", "containerDisk": { "image": "x" } }], "domain": { "devices": { "disks": [{ "name": "Root" }] } } }),
            "volumes[0].name: Invalid value: \"Root\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
        ),
        (
            volume(&json!({ "containerDisk": { "image": "x", "path": "/disk/../../etc/shadow" } })),
            "volumes[0].containerDisk.path: Invalid value: \"/disk/../../etc/shadow\": must be an absolute path without '..', control characters or more than 1024 bytes",
        ),
        (
            volume(&json!({ "containerDisk": { "image": "x", "path": "disk.img" } })),
            "volumes[0].containerDisk.path: Invalid value: \"disk.img\": must be an absolute path without '..', control characters or more than 1024 bytes",
        ),
        (
            volume(
                &json!({ "containerDisk": { "image": "x" }, "emptyDisk": { "capacity": "1Gi" } }),
            ),
            "volumes[0].emptyDisk: Forbidden: must have exactly one source type set",
        ),
        (
            volume(&json!({ "containerDisk": null, "hostDisk": { "path": "/a", "type": "File" } })),
            "volumes[0].hostDisk.type: Unsupported value: \"File\": supported values: \"Disk\", \"DiskOrCreate\"",
        ),
        (
            volume(
                &json!({ "containerDisk": null, "cloudInitNoCloud": { "userData": "x", "secretRef": { "name": "y" } } }),
            ),
            "volumes[0].cloudInitNoCloud.secretRef: Forbidden: userData is set already: only one source can be given",
        ),
        (
            volume(
                &json!({ "containerDisk": null, "cloudInitNoCloud": { "userData": "x".repeat(20_000) } }),
            ),
            "volumes[0].cloudInitNoCloud.userData: Invalid value: \"<20000 bytes>\": must be at most 16384 bytes; put larger data into a Secret",
        ),
        (
            volume(&json!({ "containerDisk": null, "memoryDump": { "claimName": "x" } })),
            "volumes[0].memoryDump: Forbidden: not supported: memory dumps are not available",
        ),
        (
            devices(&json!({ "interfaces": [{ "name": "a", "masquerade": {} }] })),
            "domain.devices.interfaces[0].name: Invalid value: \"a\": no network of this name in spec.template.spec.networks",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": {} }] }),
            "networks[0].name: Invalid value: \"a\": no interface of this name in spec.template.spec.domain.devices.interfaces",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": {} }], "domain": { "devices": { "interfaces": [{ "name": "a", "masquerade": {}, "macAddress": "02:00:00:00:00:0g" }] } } }),
            "domain.devices.interfaces[0].macAddress: Invalid value: \"02:00:00:00:00:0g\": must be a MAC address such as 02:5e:00:00:00:01",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": {} }], "domain": { "devices": { "interfaces": [{ "name": "a", "masquerade": {}, "macAddress": "02:00:00:00:00:00" }] } } }),
            "domain.devices.interfaces[0].macAddress: Invalid value: \"02:00:00:00:00:00\": The requested MAC address is reserved for the in-pod bridge. Please choose another one.",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": {} }], "domain": { "devices": { "interfaces": [{ "name": "a", "sriov": {} }] } } }),
            "domain.devices.interfaces[0].sriov: Forbidden: not supported: device passthrough is not available",
        ),
        (
            json!({ "networks": [{ "name": "a", "multus": { "networkName": "x" } }], "domain": { "devices": { "interfaces": [{ "name": "a", "bridge": {} }] } } }),
            "networks[0].multus.networkName: Forbidden: not supported: one machine without Kubernetes has one network",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": { "vmNetworkCIDR": "10.0.2.0/31" } }], "domain": { "devices": { "interfaces": [{ "name": "a", "masquerade": {} }] } } }),
            "networks[0].pod.vmNetworkCIDR: Invalid value: \"10.0.2.0/31\": must be an IPv4 network of at least 8 addresses such as 10.0.2.0/24",
        ),
        (
            json!({ "networks": [{ "name": "a", "pod": {} }], "domain": { "devices": { "interfaces": [{ "name": "a", "masquerade": {}, "ports": [{ "port": 70000 }] }] } } }),
            "domain.devices.interfaces[0].ports[0].port: Invalid value: \"70000\": must be between 1 and 65535, inclusive",
        ),
        (
            json!({ "domain": { "firmware": { "bootloader": { "efi": {} } } } }),
            "domain.firmware.bootloader.efi.secureBoot: Invalid value: \"true\": SecureBoot requires SMM: set features.smm, or secureBoot: false (it is true by default)",
        ),
        (
            json!({ "domain": { "firmware": { "uuid": "5" } } }),
            "domain.firmware.uuid: Invalid value: \"5\": must be a UUID such as 6a1a24a1-4061-4607-8bf4-a3963d0c5895",
        ),
        (
            json!({ "domain": { "firmware": { "kernelBoot": { "kernelArgs": "quiet" } } } }),
            "domain.firmware.kernelBoot.container: Required value: kernel arguments cannot be provided without an external kernel",
        ),
        (
            json!({ "domain": { "firmware": { "kernelBoot": { "container": { "image": "x", "kernelPath": "/../vmlinuz" } } } } }),
            "domain.firmware.kernelBoot.container.kernelPath: Invalid value: \"/../vmlinuz\": must be an absolute path without '..', control characters or more than 1024 bytes",
        ),
        (
            json!({ "domain": { "memory": null } }),
            "domain.memory.guest: Required value: set memory.guest, or resources.requests.memory, or resources.limits.memory",
        ),
        (
            json!({ "domain": { "resources": { "limits": { "memory": "64Mi" } } } }),
            "domain.memory.guest: Invalid value: \"134217728\": must be less than or equal to the memory limit, 67108864",
        ),
        (
            json!({ "domain": { "memory": { "hugepages": { "pageSize": "4Ki" } } } }),
            "domain.memory.hugepages.pageSize: Unsupported value: \"4Ki\": supported values: \"2Mi\", \"1Gi\"",
        ),
        (
            json!({ "domain": { "cpu": { "sockets": 64, "cores": 16 } } }),
            "domain.cpu: Invalid value: \"1024\": must be less than or equal to 512 vCPUs (sockets x cores x threads)",
        ),
        (
            json!({ "domain": { "cpu": { "cores": "two" } } }),
            "domain.cpu.cores: Invalid value: \"string\": must be of type integer",
        ),
        (
            json!({ "domain": { "cpu": { "cores": -1 } } }),
            "domain.cpu.cores: Invalid value: \"-1\": must be between 0 and 4294967295, inclusive",
        ),
        (
            json!({ "domain": { "cpu": { "dedicatedCpuPlacement": true } } }),
            "domain.cpu.dedicatedCpuPlacement: Forbidden: not supported: pinning is not available",
        ),
        (
            json!({ "domain": { "devices": { "disks": [{ "name": "root", "disk": { "bus": "virtio", "bsu": 1 } }] } } }),
            "domain.devices.disks[0].disk.bsu: Unknown field: \"bsu\"",
        ),
        (
            json!({ "livenessProbe": { "httpGet": { "port": 80, "prot": 1 } } }),
            "livenessProbe.httpGet.prot: Unknown field: \"prot\"",
        ),
        (
            json!({ "hostname": "a.b" }),
            "hostname: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
        ),
        (
            json!({ "startStrategy": "Now" }),
            "startStrategy: Unsupported value: \"Now\": supported values: \"Paused\"",
        ),
        (
            json!({ "architecture": "s390x" }),
            "architecture: Unsupported value: \"s390x\": supported values: \"amd64\"",
        ),
        (
            json!({ "accessCredentials": [{ "sshPublicKey": { "source": { "secret": { "secretName": "k" } }, "propagationMethod": { "noCloud": {} } } }] }),
            "volumes: Required value: a cloudInitNoCloud volume must exist when the noCloud propagationMethod is in use",
        ),
        (
            devices(&json!({ "watchdog": { "name": "w" } })),
            "domain.devices.watchdog.i6300esb: Required value",
        ),
        (
            devices(&json!({ "filesystems": [{ "name": "f", "virtiofs": {} }] })),
            "domain.devices.filesystems: Forbidden: not supported: virtiofs is not available; use a disk",
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(message(&patch), expected);
    }
}

#[test]
fn a_presence_object_written_as_null_is_refused() {
    let mut manifest = vm(&json!({}));
    manifest["spec"]["template"]["spec"]["domain"]["devices"]["rng"] = Value::Null;
    assert_eq!(
        messages(&manifest),
        ["domain.devices.rng: Invalid value: \"null\": must be of type object"]
    );
}

#[test]
fn running_and_run_strategy_exclude_each_other() {
    let mut manifest = vm(&json!({}));
    manifest["spec"]["running"] = json!(true);
    assert_eq!(
        messages(&manifest),
        ["spec.running: Forbidden: Running and RunStrategy are mutually exclusive"]
    );
    manifest["spec"]["running"] = Value::Null;
    manifest["spec"].as_object_mut().unwrap().remove("running");
    manifest["spec"]["runStrategy"] = json!("Sometimes");
    assert_eq!(
        messages(&manifest),
        [
            "spec.runStrategy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Halted\", \"Manual\", \"RerunOnFailure\", \"Once\""
        ]
    );
}

#[test]
fn unresolved_instancetypes_and_misspelt_metadata_are_refused_by_name() {
    let mut manifest = vm(&json!({}));
    manifest["spec"]["instancetype"] = json!({ "name": "u1.small" });
    manifest["metadata"]["lables"] = json!({});
    manifest["spce"] = json!({});
    assert_eq!(
        messages(&manifest),
        [
            "spce: Unknown field: \"spce\"",
            "metadata.lables: Unknown field: \"lables\"",
            "spec.instancetype: Forbidden: is resolved before a machine is read; this one was not",
        ]
    );
}

#[test]
fn harmless_fields_are_accepted_with_a_warning() {
    let manifest = vm(
        &json!({ "nodeSelector": { "zone": "a" }, "evictionStrategy": "LiveMigrate", "domain": { "cpu": { "dedicatedCpuPlacement": false } } }),
    );
    let (_, _, warnings) =
        virtual_machine(&manifest, Context::Play).unwrap_or_else(|e| panic!("{e}"));
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "spec.template.spec.evictionStrategy: a drained guest is asked to power off; there is no live migration",
            "spec.template.spec.nodeSelector: one machine has nothing to schedule",
        ]
    );
}

#[test]
fn an_instance_is_read_with_its_own_paths() {
    let mut manifest = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": { "name": "one", "namespace": "lab", "labels": { "a": "b" } },
        "spec": { "domain": { "memory": { "guest": "64Mi" }, "devices": {} } },
    });
    let (_, machine, _) =
        virtual_machine_instance(&manifest, Context::Play).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(machine.domain_name(), "lab_one");
    assert_eq!(machine.labels["a"], "b");
    manifest["spec"]["domain"]["devices"]["sound"] = json!({ "name": "s" });
    let errors = virtual_machine_instance(&manifest, Context::Play)
        .map(|_| ())
        .expect_err("refused");
    assert_eq!(
        errors.to_string(),
        "spec.domain.devices.sound: Forbidden: not supported: sound is not available"
    );
}

#[test]
fn user_data_is_not_shown_in_messages() {
    let text = message(&volume(
        &json!({ "containerDisk": null, "cloudInitNoCloud": { "userDataBase64": "secret!" } }),
    ));
    assert_eq!(
        text,
        "volumes[0].cloudInitNoCloud.userDataBase64: Invalid value: \"<redacted>\": must be base64 of UTF-8 text"
    );
}
