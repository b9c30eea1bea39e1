//! What is written is read back as it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use catamaran_api::metal3::BareMetalHost;
use catamaran_api::{Quantity, VirtualMachine, VirtualMachineInstance};
use serde_json::{Value, json};

fn vmi(spec: &Value) -> Value {
    json!({ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": { "name": "a" }, "spec": spec })
}

fn survives(spec: &Value) {
    let manifest = vmi(spec);
    let typed: VirtualMachineInstance =
        serde_json::from_value(manifest.clone()).unwrap_or_else(|e| panic!("{e}: {manifest}"));
    assert_eq!(serde_json::to_value(&typed).unwrap(), manifest);
}

#[test]
fn objects_that_mean_something_by_being_present_survive() {
    let devices = |devices: Value| json!({ "domain": { "devices": devices } });
    let domain = |key: &str, value: Value| json!({ "domain": { "devices": {}, key: value } });
    let beside = |key: &str, value: Value| json!({ "domain": { "devices": {} }, key: value });
    for spec in [
        beside("networks", json!([{ "name": "n", "pod": {} }])),
        beside(
            "networks",
            json!([{ "name": "n", "multus": { "networkName": "x" } }]),
        ),
        devices(json!({ "disks": [{ "name": "d", "disk": {} }] })),
        devices(json!({ "disks": [{ "name": "d", "cdrom": {} }] })),
        devices(json!({ "disks": [{ "name": "d", "lun": {} }] })),
        devices(
            json!({ "interfaces": [{ "name": "n", "masquerade": {} }, { "name": "m", "bridge": {} }] }),
        ),
        devices(json!({ "rng": {} })),
        devices(json!({ "tpm": {} })),
        devices(json!({ "watchdog": { "name": "w", "i6300esb": {} } })),
        devices(json!({ "sound": { "name": "s" } })),
        devices(json!({ "panicDevices": [{}] })),
        domain("firmware", json!({ "bootloader": { "efi": {} } })),
        domain("firmware", json!({ "bootloader": { "bios": {} } })),
        domain(
            "features",
            json!({ "acpi": {}, "apic": {}, "smm": {}, "hyperv": { "relaxed": {}, "synictimer": { "direct": {} } } }),
        ),
        domain("clock", json!({ "utc": {}, "timer": { "hyperv": {} } })),
        domain("launchSecurity", json!({ "sev": {} })),
        domain("cpu", json!({ "realtime": {} })),
        beside(
            "volumes",
            json!([{ "name": "v", "cloudInitNoCloud": {} }, { "name": "w", "cloudInitConfigDrive": {} }]),
        ),
        beside(
            "accessCredentials",
            json!([{ "sshPublicKey": { "propagationMethod": { "noCloud": {} }, "source": { "secret": { "secretName": "s" } } } }]),
        ),
        beside(
            "accessCredentials",
            json!([{ "userPassword": { "propagationMethod": { "qemuGuestAgent": {} }, "source": { "secret": { "secretName": "s" } } } }]),
        ),
        beside("livenessProbe", json!({ "guestAgentPing": {} })),
    ] {
        survives(&spec);
    }
}

#[test]
fn unknown_fields_are_kept_at_every_depth() {
    survives(&json!({
        "colour": "red",
        "domain": { "devices": { "disks": [{ "name": "d", "disk": { "bus": "virtio", "shape": [1, { "a": null }] } }] }, "cpu": { "corse": 2 } },
    }));
}

#[test]
fn a_server_is_written_as_it_was_read() {
    let manifest = json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": { "name": "a" },
        "spec": {
            "online": true,
            "bmc": {
                "address": "redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1", "credentialsName": "a-bmc",
                "disableCertificateVerification": true
            },
            "bootMACAddress": "52:54:00:00:00:01", "bootMode": "UEFISecureBoot", "automatedCleaningMode": "metadata",
            "image": { "url": "http://a/b.qcow2", "checksum": "c", "checksumType": "sha256", "format": "qcow2" },
            "rootDeviceHints": { "minSizeGigabytes": 8, "wwnVendorExtension": "x" },
            "raid": { "hardwareRAIDVolumes": [], "softwareRAIDVolumes": [{ "level": "1", "physicalDisks": [{ "hctl": "0:0:0:0" }] }] },
            "consumerRef": { "kind": "Metal3Machine", "name": "m", "namespace": "n" },
            "userData": { "name": "u", "namespace": "n" },
            "customDeploy": { "method": "m" }, "taints": [{ "key": "k", "effect": "NoExecute" }],
            "networkInterfaces": [{ "name": "e", "switchPort": { "portID": "1", "switchID": "52:54:00:00:00:02" } }],
        },
        "status": {
            "operationalStatus": "OK", "errorCount": 0, "errorMessage": "", "poweredOn": true, "provisioningFailCount": 0,
            "provisioning": { "state": "available", "ID": "x" },
            "hardware": { "nics": [{ "mac": "52:54:00:00:00:01", "speedGbps": 10, "lldp": { "switchID": "s" } }], "ramMebibytes": 1024 },
        },
    });
    let typed: BareMetalHost = serde_json::from_value(manifest.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), manifest);
}

#[test]
fn null_metadata_of_generators_is_read() {
    let vm: VirtualMachine = serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": { "name": "a", "creationTimestamp": null },
        "spec": { "runStrategy": "Always", "template": { "metadata": { "creationTimestamp": null, "labels": { "a": "b" } }, "spec": { "domain": { "devices": {} } } } },
    }))
    .unwrap();
    let labels = vm.spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["a"], "b");
}

#[test]
fn a_quantity_may_be_a_bare_number() {
    let read = |v: Value| serde_json::from_value::<Quantity>(v).unwrap();
    assert_eq!(read(json!(2)).as_str(), "2");
    assert_eq!(read(json!(0.5)).as_str(), "0.5");
    assert_eq!(read(json!("512Mi")).as_str(), "512Mi");
}
