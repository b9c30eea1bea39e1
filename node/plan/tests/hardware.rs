//! What a guest sees stays as it is while its spec does, whatever happens to the host.

#![allow(clippy::unwrap_used, clippy::panic)] // Everything here is a test, helpers too.

use std::path::Path;

use catamaran_plan::{Accelerator, Given, Hardware, HostFacts, offline_given, overhead, plan};
use catamaran_spec::{Context, MachineSpec};
use serde_json::{Value, json};

fn manifest(case: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(case)
        .join("vm.yaml");
    serde_yaml_ng::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn spec(manifest: &Value) -> MachineSpec {
    catamaran_spec::read::virtual_machine(manifest, Context::Play)
        .unwrap()
        .1
}

fn again(given: &Given, hardware: Hardware) -> Given {
    Given {
        hardware: Some(hardware),
        ..given.clone()
    }
}

/// A host after an upgrade: newer machine types, another closest CPU model.
fn upgraded() -> HostFacts {
    let mut facts = HostFacts::offline();
    facts.qemu_version = (11, 1, 0);
    facts.machine_types.insert(0, "pc-q35-11.1".into());
    facts.host_cpu_model = "EPYC".into();
    facts.host_cpu_features = vec![("ssbd".into(), "require".into())];
    facts
}

fn hardware_elements(xml: &str) -> Vec<&str> {
    let marks = [
        "<type arch",
        "<model",
        "<feature ",
        "<address",
        "<cpu",
        "<topology",
    ];
    xml.lines()
        .filter(|line| marks.iter().any(|mark| line.trim_start().starts_with(mark)))
        .collect()
}

#[test]
fn an_upgraded_host_gives_a_known_machine_the_hardware_it_had() {
    let spec = spec(&manifest("minimal"));
    let given = offline_given(&spec);
    let first = plan(&spec, &HostFacts::offline(), &given).unwrap();
    let second = plan(&spec, &upgraded(), &again(&given, first.hardware.clone())).unwrap();
    assert_eq!(second.hardware, first.hardware);
    assert_eq!(second.domain_xml, first.domain_xml);
    // Without the stored hardware it would have been another machine, so the test can fail.
    let forgotten = plan(&spec, &upgraded(), &given).unwrap();
    assert_eq!(forgotten.hardware.machine, "pc-q35-11.1");
    assert_ne!(
        hardware_elements(&forgotten.domain_xml),
        hardware_elements(&first.domain_xml)
    );
}

#[test]
fn a_changed_spec_gets_new_hardware_at_the_old_addresses() {
    let mut manifest = manifest("minimal");
    let before = spec(&manifest);
    let given = offline_given(&before);
    let first = plan(&before, &HostFacts::offline(), &given).unwrap();

    let instance = &mut manifest["spec"]["template"]["spec"];
    let disks = instance["domain"]["devices"]["disks"]
        .as_array_mut()
        .unwrap();
    disks.insert(0, json!({"name": "extra", "disk": {"bus": "virtio"}}));
    instance["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "extra", "emptyDisk": {"capacity": "1Gi"}}));
    instance["domain"]["devices"]["watchdog"] = json!({"name": "dog", "i6300esb": {}});
    let after = spec(&manifest);
    let second = plan(
        &after,
        &upgraded(),
        &again(&offline_given(&after), first.hardware.clone()),
    )
    .unwrap();

    assert_eq!(second.hardware.machine, "pc-q35-11.1");
    for (device, address) in &first.hardware.addresses {
        assert_eq!(
            second.hardware.addresses.get(device),
            Some(address),
            "{device}"
        );
    }
    assert!(second.hardware.addresses.contains_key("ua-extra"));
}

#[test]
fn a_machine_type_that_the_host_lost_is_an_error_and_not_another_machine() {
    let spec = spec(&manifest("minimal"));
    let given = offline_given(&spec);
    let first = plan(&spec, &HostFacts::offline(), &given).unwrap();
    let mut facts = HostFacts::offline();
    facts.machine_types = vec!["pc-q35-11.1".into()];
    let errors = plan(&spec, &facts, &again(&given, first.hardware)).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].field, "spec.domain.machine.type");
    assert!(
        errors[0].message.contains("pc-q35-10.0") && errors[0].message.contains("pc-q35-11.1"),
        "{}",
        errors[0]
    );
}

#[test]
fn every_mistake_is_reported_at_once_with_its_path() {
    let mut manifest = manifest("cpu-model-unknown");
    manifest["spec"]["template"]["spec"]["domain"]["devices"]["tpm"] = json!({});
    let spec = spec(&manifest);
    let facts = HostFacts {
        swtpm: false,
        ..HostFacts::offline()
    };
    let mut given = offline_given(&spec);
    given.disks.clear();
    given.nics.clear();
    let errors = plan(&spec, &facts, &given).unwrap_err();
    let mut fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "spec.domain.cpu.model",
            "spec.domain.devices.interfaces[0]",
            "spec.domain.devices.tpm",
            "spec.volumes[0]"
        ]
    );
    let first = errors[0].clone().in_template();
    assert!(
        first.to_string().starts_with("spec.template.spec."),
        "{first}"
    );
}

#[test]
fn control_characters_are_refused_before_they_reach_the_xml() {
    let mut manifest = manifest("minimal");
    manifest["spec"]["template"]["spec"]["domain"]["chassis"] = json!({"asset": "bell\u{7}"});
    let spec = spec(&manifest);
    let errors = plan(&spec, &HostFacts::offline(), &offline_given(&spec)).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "spec.domain.chassis.asset: holds the control character U+0007"
    );
}

#[test]
fn user_data_and_secrets_are_not_printed() {
    let spec = spec(&manifest("minimal"));
    let plan = plan(&spec, &HostFacts::offline(), &offline_given(&spec)).unwrap();
    let text = catamaran_plan::describe(&plan).unwrap();
    assert!(!text.contains("password"), "{text}");
    assert!(text.contains("bytes of the manifest"));
}

#[test]
fn the_overhead_is_the_sum_of_its_parts_and_counts_the_translators_buffer() {
    let spec = spec(&manifest("minimal"));
    let given = offline_given(&spec);
    let native = plan(&spec, &HostFacts::offline(), &given).unwrap();
    let facts = HostFacts {
        accelerator: Accelerator::Tcg,
        ..HostFacts::offline()
    };
    let emulated = plan(&spec, &facts, &given).unwrap();
    assert!(
        emulated
            .domain_xml
            .contains("<tb-cache unit='MiB'>32</tb-cache>")
    );
    assert!(emulated.overhead >= native.overhead + (32 << 20));
    let parts = overhead::parts(&spec, overhead::Load::default());
    assert_eq!(
        overhead::total(&spec, overhead::Load::default()),
        parts.iter().map(|(_, bytes)| bytes).sum::<u64>()
    );
    // A small machine must stay small: the peer's estimate begins at about 250 MiB.
    assert!(native.overhead < 128 << 20, "{}", native.overhead);
}

#[test]
fn a_plan_survives_its_journey_as_json() {
    let spec = spec(&manifest("disk-options"));
    let plan = plan(&spec, &HostFacts::offline(), &offline_given(&spec)).unwrap();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(
        serde_json::from_str::<catamaran_plan::Plan>(&text).unwrap(),
        plan
    );
}
