//! What an instancetype and a preference make of a machine.

mod preferences;

use std::collections::BTreeMap;

use catamaran_api::VirtualMachine;
use serde_json::{Value, json};

use super::{
    Chosen, Instancetype, Named, Preference, Role, Scope, Source, annotations, check, claim_of,
    expand, inferred, source,
};
use crate::field::FieldErrors;

fn vm(template: &Value) -> VirtualMachine {
    let mut vm = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"runStrategy": "Always", "instancetype": {"name": "small"}, "template": {"spec": template}},
    });
    let domain = &mut vm["spec"]["template"]["spec"]["domain"];
    if domain["devices"].is_null() {
        domain["devices"] = json!({});
    }
    serde_json::from_value(vm).unwrap()
}

fn named(role: Role) -> Named {
    Named {
        role,
        scope: Scope::Cluster,
        name: "small".to_owned(),
    }
}

fn instancetype(change: &Value) -> Instancetype {
    let mut spec = json!({"cpu": {"guest": 4}, "memory": {"guest": "2Gi"}});
    for (field, value) in change.as_object().unwrap() {
        for (below, value) in value.as_object().into_iter().flatten() {
            spec[field][below] = value.clone();
        }
        if !value.is_object() {
            spec[field] = value.clone();
        }
    }
    Chosen::read(named(Role::Instancetype), &json!({"spec": spec})).unwrap()
}

fn preference(spec: &Value) -> Preference {
    Chosen::read(named(Role::Preference), &json!({"spec": spec})).unwrap()
}

/// The template of a machine with that instancetype and preference.
fn merged(template: &Value, instance: Option<&Value>, prefer: Option<&Value>) -> Value {
    let expanded = try_merged(template, instance, prefer).unwrap_or_else(|e| panic!("{e}"));
    let expanded = serde_json::to_value(expanded).unwrap();
    assert!(expanded["spec"]["instancetype"].is_null());
    expanded["spec"]["template"].clone()
}

fn try_merged(
    template: &Value,
    instance: Option<&Value>,
    prefer: Option<&Value>,
) -> Result<VirtualMachine, FieldErrors> {
    let (instance, prefer) = (instance.map(instancetype), prefer.map(preference));
    expand(&vm(template), instance.as_ref(), prefer.as_ref())
}

fn words(result: Result<impl std::fmt::Debug, FieldErrors>) -> Vec<String> {
    let errors = result.expect_err("a mistake");
    errors.0.iter().map(ToString::to_string).collect()
}

/// The value at a path of names and numbers, dotted.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    value.pointer(&pointer).unwrap_or(&Value::Null)
}

#[test]
fn an_instancetype_sets_what_the_machine_leaves_open() {
    for (instance, path, value) in [
        (json!({}), "domain.cpu.sockets", json!(4)),
        (json!({}), "domain.cpu.cores", json!(1)),
        (json!({}), "domain.memory.guest", json!("2Gi")),
        (
            json!({"cpu": {"maxSockets": 8}}),
            "domain.cpu.maxSockets",
            json!(8),
        ),
        (
            json!({"cpu": {"model": "host-passthrough"}}),
            "domain.cpu.model",
            json!("host-passthrough"),
        ),
        (
            json!({"memory": {"hugepages": {"pageSize": "2Mi"}}}),
            "domain.memory.hugepages.pageSize",
            json!("2Mi"),
        ),
        (
            json!({"memory": {"maxGuest": "8Gi"}}),
            "domain.memory.maxGuest",
            json!("8Gi"),
        ),
        (
            json!({"memory": {"overcommitPercent": 25}}),
            "domain.resources.requests.memory",
            json!("1610612736"),
        ),
        (
            json!({"ioThreadsPolicy": "auto"}),
            "domain.ioThreadsPolicy",
            json!("auto"),
        ),
        (
            json!({"ioThreads": {"supplementalPoolThreadCount": 2}}),
            "domain.ioThreads.supplementalPoolThreadCount",
            json!(2),
        ),
        (
            json!({"schedulerName": "other"}),
            "schedulerName",
            json!("other"),
        ),
        (
            json!({"nodeSelector": {"zone": "a"}}),
            "nodeSelector.zone",
            json!("a"),
        ),
    ] {
        let template = merged(&json!({"domain": {}}), Some(&instance), None);
        assert_eq!(at(&template["spec"], path), &value, "{instance}");
    }
    let noted = merged(
        &json!({"domain": {}}),
        Some(&json!({"annotations": {"a": "b"}})),
        None,
    );
    assert_eq!(noted["metadata"]["annotations"], json!({"a": "b"}));
    let plain = merged(&json!({"domain": {}}), Some(&json!({})), None);
    assert!(plain["metadata"].is_null());
}

#[test]
fn every_conflict_is_named_with_its_path() {
    let mut all = json!({
        "cpu": {"maxSockets": 8, "model": "host-model"},
        "memory": {"hugepages": {"pageSize": "2Mi"}, "maxGuest": "8Gi"},
        "ioThreadsPolicy": "auto", "schedulerName": "other", "nodeSelector": {"zone": "a"},
    });
    all["ioThreads"] = json!({"supplementalPoolThreadCount": 1});
    let template = json!({
        "nodeSelector": {"zone": "b"}, "schedulerName": "mine",
        "domain": {
            "cpu": {"sockets": 1, "cores": 1, "threads": 1, "maxSockets": 2, "model": "qemu64"},
            "memory": {"guest": "1Gi", "hugepages": {}, "maxGuest": "2Gi"},
            "ioThreads": {}, "ioThreadsPolicy": "shared",
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "1Gi"}},
        },
    });
    let found = words(try_merged(&template, Some(&all), None));
    let expected = [
        "domain.cpu.sockets",
        "domain.cpu.cores",
        "domain.cpu.threads",
        "domain.cpu.maxSockets",
        "domain.cpu.model",
        "domain.memory.guest",
        "domain.memory.hugepages",
        "domain.memory.maxGuest",
        "domain.resources.requests.cpu",
        "domain.resources.requests.memory",
        "domain.resources.limits.cpu",
        "domain.resources.limits.memory",
        "domain.ioThreadsPolicy",
        "domain.ioThreads",
        "nodeSelector",
        "schedulerName",
    ];
    let expected = expected.map(|field| {
        format!("spec.template.spec.{field}: VM field conflicts with selected instance type")
    });
    assert_eq!(found, expected);
    // What the instancetype leaves open is the machine's.
    let open = json!({
        "nodeSelector": {"zone": "b"}, "schedulerName": "mine",
        "domain": {"cpu": {"model": "qemu64", "maxSockets": 4}, "memory": {"maxGuest": "4Gi"}, "ioThreadsPolicy": "shared"},
    });
    let template = merged(&open, Some(&json!({})), None);
    assert_eq!(template["spec"]["domain"]["cpu"]["model"], "qemu64");
}

#[test]
fn another_value_of_an_annotation_is_a_conflict() {
    let mut vm = vm(&json!({"domain": {}}));
    let noted = BTreeMap::from([("a".to_owned(), "mine".to_owned())]);
    vm.spec
        .template
        .metadata
        .get_or_insert_default()
        .annotations = Some(noted);
    let theirs = instancetype(&json!({}));
    assert!(expand(&vm, Some(&theirs), None).is_ok());
    let mut theirs = theirs;
    theirs.spec.annotations = BTreeMap::from([("a".to_owned(), "theirs".to_owned())]);
    assert_eq!(
        words(expand(&vm, Some(&theirs), None)),
        ["spec.template.metadata.annotations[a]: VM field conflicts with selected instance type"]
    );
    let liked = preference(&json!({"annotations": {"a": "liked", "b": "liked"}}));
    let expanded = expand(&vm, None, Some(&liked)).unwrap();
    let annotations = expanded
        .spec
        .template
        .metadata
        .unwrap()
        .annotations
        .unwrap();
    assert_eq!(
        (annotations["a"].as_str(), annotations["b"].as_str()),
        ("mine", "liked")
    );
}

#[test]
fn processors_are_laid_out_as_the_preference_says() {
    let cpu = |topology: &str| json!({"cpu": {"preferredCPUTopology": topology}});
    let spread = |across: &str, ratio: u32| json!({"cpu": {"preferredCPUTopology": "spread", "spreadOptions": {"across": across, "ratio": ratio}}});
    for (guest, prefer, expected) in [
        (4, json!({}), [4, 1, 1]),
        (4, cpu("sockets"), [4, 1, 1]),
        (4, cpu("preferSockets"), [4, 1, 1]),
        (4, cpu("any"), [4, 1, 1]),
        (4, cpu("cores"), [1, 4, 1]),
        (4, cpu("preferCores"), [1, 4, 1]),
        (4, cpu("threads"), [1, 1, 4]),
        (4, cpu("spread"), [2, 2, 1]),
        (8, spread("SocketsCores", 4), [2, 4, 1]),
        (8, spread("SocketsCoresThreads", 2), [2, 2, 2]),
        (8, spread("CoresThreads", 2), [1, 4, 2]),
        (
            6,
            json!({"preferSpreadSocketToCoreRatio": 3, "cpu": {"preferredCPUTopology": "preferSpread"}}),
            [2, 3, 1],
        ),
    ] {
        let template = merged(
            &json!({"domain": {}}),
            Some(&json!({"cpu": {"guest": guest}})),
            Some(&prefer),
        );
        let cpu = &template["spec"]["domain"]["cpu"];
        let found = json!([cpu["sockets"], cpu["cores"], cpu["threads"]]);
        assert_eq!(found, json!(expected), "{prefer}");
    }
    let odd = try_merged(
        &json!({"domain": {}}),
        Some(&json!({"cpu": {"guest": 3}})),
        Some(&cpu("spread")),
    );
    assert_eq!(
        words(odd),
        [
            "spec.preference: Invalid value: \"3\": the preference spreads the vCPUs of the instancetype in groups of 2, which does not divide them"
        ]
    );
    // A machine that says its own topology keeps it.
    let own = json!({"domain": {"cpu": {"cores": 2}}});
    let template = merged(&own, None, Some(&cpu("threads")));
    assert_eq!(template["spec"]["domain"]["cpu"], json!({"cores": 2}));
}

#[test]
fn requirements_of_a_preference_are_checked() {
    let required = json!({"requirements": {"cpu": {"guest": 6}, "memory": {"guest": "4Gi"}, "architecture": "arm64"}});
    assert_eq!(
        words(try_merged(
            &json!({"domain": {}}),
            Some(&json!({})),
            Some(&required)
        )),
        [
            "spec.instancetype: Invalid value: \"4\": insufficient CPU resources of 4 vCPU provided by instance type, preference requires 6 vCPU",
            "spec.instancetype: Invalid value: \"2Gi\": insufficient Memory resources of 2Gi provided by instance type, preference requires 4Gi",
            "spec.template.spec.architecture: Invalid value: \"amd64\": preference requires architecture arm64 but amd64 is being requested",
        ]
    );
    let own = json!({"architecture": "arm64", "domain": {"cpu": {"cores": 2, "threads": 2}, "resources": {"requests": {"memory": "3Gi"}}}});
    assert_eq!(
        words(try_merged(&own, None, Some(&required))),
        [
            "spec.template.spec.domain.cpu: Invalid value: \"4\": insufficient CPU resources of 4 vCPU provided by VM, preference requires 6 vCPU",
            "spec.template.spec.domain.memory: Invalid value: \"3Gi\": insufficient Memory resources of 3Gi provided by VM, preference requires 4Gi",
        ]
    );
    let enough = json!({"architecture": "arm64", "domain": {}});
    let large = json!({"cpu": {"guest": 8}, "memory": {"guest": "4096Mi"}});
    assert!(try_merged(&enough, Some(&large), Some(&required)).is_ok());
}

#[test]
fn a_machine_names_one_by_name_or_by_a_volume() {
    let of = |matcher: Value| {
        let mut vm = vm(&json!({"domain": {}}));
        vm.spec.preference = Some(serde_json::from_value(matcher).unwrap());
        source(&vm, Role::Preference)
    };
    for (kind, scope) in [
        (Value::Null, Scope::Cluster),
        (json!("virtualmachineclusterpreferences"), Scope::Cluster),
        (json!("VirtualMachineClusterPreference"), Scope::Cluster),
        (json!("VirtualMachinePreference"), Scope::Namespace),
        (json!("virtualmachinepreference"), Scope::Namespace),
    ] {
        let mut matcher = json!({"name": "small"});
        if !kind.is_null() {
            matcher["kind"] = kind;
        }
        let Ok(Some(Source::Named(named))) = of(matcher) else {
            panic!("not by name")
        };
        assert_eq!((named.scope, named.name.as_str()), (scope, "small"));
    }
    assert_eq!(
        of(json!({"inferFromVolume": "root", "inferFromVolumeFailurePolicy": "Ignore"})),
        Ok(Some(Source::Volume {
            volume: "root".to_owned(),
            ignore: true
        }))
    );
    for (matcher, expected) in [
        (
            json!({}),
            "spec.preference.name: Required value: name or inferFromVolume",
        ),
        (
            json!({"name": "a", "inferFromVolume": "b"}),
            "spec.preference.name: Forbidden: may not be given with inferFromVolume",
        ),
        (
            json!({"name": "a", "inferFromVolumeFailurePolicy": "Reject"}),
            "spec.preference.inferFromVolumeFailurePolicy: Forbidden: may be given with inferFromVolume only",
        ),
        (
            json!({"inferFromVolume": "a", "inferFromVolumeFailurePolicy": "Perhaps"}),
            "spec.preference.inferFromVolumeFailurePolicy: Unsupported value: \"Perhaps\": supported values: \"Reject\", \"Ignore\"",
        ),
        (
            json!({"name": "a", "kind": "VirtualMachineInstancetype"}),
            "spec.preference.kind: Unsupported value: \"VirtualMachineInstancetype\": supported values: \"VirtualMachinePreference\", \"VirtualMachineClusterPreference\"",
        ),
    ] {
        assert_eq!(words(of(matcher)), [expected]);
    }
}

#[test]
fn a_volume_names_what_its_machine_is_made_with() {
    let machine = vm(&json!({
        "domain": {},
        "volumes": [
            {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "data", "dataVolume": {"name": "other"}},
            {"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
        ],
    }));
    let claim = |volume: &str| claim_of(&machine, volume, Role::Instancetype);
    assert_eq!(claim("root").as_deref(), Ok("disk"));
    assert_eq!(claim("data").as_deref(), Ok("other"));
    assert_eq!(
        words(claim("none")),
        [
            "spec.instancetype.inferFromVolume: Invalid value: \"none\": must name a volume of the machine"
        ]
    );
    assert!(claim("seed").is_err());

    let label = "instancetype.kubevirt.io/default-instancetype";
    let mut labels = BTreeMap::from([(label.to_owned(), "small".to_owned())]);
    let infer = |labels: Option<&BTreeMap<String, String>>| {
        inferred(Role::Instancetype, "root", "disk", labels)
    };
    assert_eq!(infer(Some(&labels)), Ok(named(Role::Instancetype)));
    labels.insert(
        format!("{label}-kind"),
        "VirtualMachineInstancetype".to_owned(),
    );
    assert_eq!(infer(Some(&labels)).unwrap().scope, Scope::Namespace);
    labels.insert(format!("{label}-kind"), "Pod".to_owned());
    assert!(infer(Some(&labels)).is_err());
    assert!(words(infer(Some(&BTreeMap::new())))[0].ends_with(label));
    assert!(words(infer(None))[0].contains("no PersistentVolumeClaim \"disk\""));
}

#[test]
fn memory_for_the_case_that_nothing_is_inferred_gives_way() {
    let mut machine = vm(&json!({"domain": {"memory": {"guest": "512Mi"}}}));
    let small = instancetype(&json!({}));
    assert!(expand(&machine, Some(&small), None).is_err());
    machine.spec.instancetype = serde_json::from_value(
        json!({"inferFromVolume": "root", "inferFromVolumeFailurePolicy": "Ignore"}),
    )
    .unwrap();
    let spec = expand(&machine, Some(&small), None).unwrap().spec;
    let memory = spec.template.spec.unwrap().domain.memory.unwrap();
    assert_eq!(memory.guest.unwrap().as_str(), "2Gi");
}

#[test]
fn an_instance_says_what_it_was_made_from() {
    let namespaced = Named {
        scope: Scope::Namespace,
        ..named(Role::Preference)
    };
    assert_eq!(
        annotations(Some(&named(Role::Instancetype)), Some(&namespaced)),
        BTreeMap::from([
            (
                "kubevirt.io/cluster-instancetype-name".to_owned(),
                "small".to_owned()
            ),
            ("kubevirt.io/preference-name".to_owned(), "small".to_owned()),
        ])
    );
}

#[test]
fn objects_are_stored_with_what_is_not_carried_out_and_not_with_mistakes() {
    let object = |spec: Value| json!({"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineInstancetype", "metadata": {"name": "a"}, "spec": spec});
    let gpus = object(
        json!({"cpu": {"guest": 1}, "memory": {"guest": "1Gi"}, "gpus": [{"name": "g", "deviceName": "d"}]}),
    );
    let warnings = check(&gpus, Role::Instancetype).unwrap();
    assert_eq!(
        warnings[0].to_string(),
        "spec.gpus: not supported: device passthrough is not available; a machine that names this object is refused"
    );
    assert_eq!(
        words(Instancetype::read(named(Role::Instancetype), &gpus)),
        [
            "spec.instancetype: Forbidden: VirtualMachineClusterInstancetype small cannot be used: spec.gpus: Forbidden: not supported: device passthrough is not available"
        ]
    );
    let wrong = object(
        json!({"cpu": {"guest": 0}, "memory": {"guest": "much", "overcommitPercent": 100}, "cups": 1}),
    );
    assert_eq!(
        words(check(&wrong, Role::Instancetype)),
        [
            "spec.cups: Unknown field: \"cups\"",
            "spec.cpu.guest: Invalid value: \"0\": must be greater than 0",
            "spec.memory.guest: Invalid value: \"much\": must be a positive quantity, such as 2Gi",
            "spec.memory.overcommitPercent: Invalid value: \"100\": must be between 0 and 99, inclusive",
        ]
    );
    let preference = |spec: Value| check(&json!({"metadata": {}, "spec": spec}), Role::Preference);
    assert_eq!(
        words(preference(
            json!({"cpu": {"preferredCPUTopology": "round"}})
        ))[0]
            .split(": supported")
            .next(),
        Some("spec.cpu.preferredCPUTopology: Unsupported value: \"round\"")
    );
    assert!(
        preference(json!({"devices": {"preferredSoundModel": "ich9"}})).unwrap()[0]
            .reason
            .contains("no sound device")
    );
}
