//! What is shown, refused and ordered.

use super::*;
use k8s_openapi::jiff::Timestamp;

fn found() -> Found {
    let attribute = |name: &str, kind: &str| Attribute {
        name: name.to_owned(),
        kind: kind.to_owned(),
        ..Attribute::default()
    };
    let mut mode = attribute("BootMode", "Enumeration");
    mode.allowable = vec!["Uefi".to_owned(), "Bios".to_owned()];
    let mut cores = attribute("NumCores", "Integer");
    (cores.lower_bound, cores.upper_bound) = (Some(0), Some(64));
    let mut tag = attribute("ServiceTag", "String");
    tag.read_only = true;
    let values = json!({
        "BootMode": "Uefi", "NumCores": 0, "Turbo": true, "ServiceTag": "A1", "Lock": "0xdead", "SetupPassword": "x",
    });
    Found {
        bios: Bios {
            attributes: serde_json::from_value(values).unwrap(),
            ..Bios::default()
        },
        schema: vec![
            mode,
            cores,
            attribute("Turbo", "Boolean"),
            tag,
            attribute("Lock", "Password"),
        ],
    }
}

fn object(settings: &Value) -> HostFirmwareSettings {
    serde_json::from_value(json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "HostFirmwareSettings",
        "metadata": {"name": "a", "namespace": "n", "generation": 7}, "spec": {"settings": settings},
    }))
    .unwrap()
}

fn at(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap())
}

fn looked(settings: &Value) -> (HostFirmwareSettingsStatus, Vec<String>, Firmware) {
    next(&object(settings), &found(), None, false, &at(5))
}

fn condition<'a>(status: &'a HostFirmwareSettingsStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|one| one.type_ == type_);
    found
        .map(|one| (one.status.as_str(), one.reason.as_str()))
        .unwrap_or_default()
}

#[test]
fn passwords_are_neither_shown_nor_described_nor_set() {
    let (status, ..) = looked(&json!({}));
    let names: Vec<_> = status.settings.keys().map(String::as_str).collect();
    assert_eq!(names, ["BootMode", "NumCores", "ServiceTag", "Turbo"]);
    let spec = found().schema_spec(None, None);
    assert!(!spec.schema.contains_key("Lock"), "{spec:?}");
    let (status, problems, firmware) = looked(&json!({"SetupPassword": "secret"}));
    assert_eq!(firmware, Firmware::Settled);
    assert!(!format!("{status:?} {problems:?}").contains("secret"));
    assert!(problems[0].starts_with("spec.settings.SetupPassword:"));
}

#[test]
fn what_differs_is_to_be_changed_in_the_firmwares_own_types() {
    let (status, problems, firmware) =
        looked(&json!({"NumCores": 8, "Turbo": "false", "BootMode": "Uefi"}));
    assert!(problems.is_empty());
    assert_eq!(condition(&status, "ChangeDetected"), ("True", "Success"));
    assert_eq!(condition(&status, "Valid"), ("True", "Success"));
    let Firmware::Changed(change) = firmware else {
        panic!("{firmware:?}")
    };
    assert_eq!(
        json!(change.settings),
        json!({"NumCores": 8, "Turbo": false})
    );
    assert_eq!((change.generation, change.ordered), (Some(7), None));
}

#[test]
fn settings_that_can_not_be_are_named_with_what_is_allowed() {
    for (settings, said) in [
        (
            json!({"BootMode": "Network"}),
            "spec.settings.BootMode: 'Network' is not allowed; allowed: Uefi, Bios",
        ),
        (json!({"NumCores": 65}), "allowed: 0 to 64"),
        (json!({"NumCores": "many"}), "allowed: 0 to 64"),
        (json!({"Turbo": "on"}), "allowed: true, false"),
        (json!({"ServiceTag": "B2"}), "it is read-only"),
        (json!({"Colour": "red"}), "no such setting"),
    ] {
        let (status, problems, firmware) = looked(&settings);
        assert!(problems[0].contains(said), "{problems:?}");
        assert_eq!(
            condition(&status, "Valid"),
            ("False", "ConfigurationError"),
            "{settings}"
        );
        assert_eq!(condition(&status, "ChangeDetected").0, "True");
        assert_eq!(firmware, Firmware::Settled, "{settings}");
    }
}

#[test]
fn an_order_holds_for_its_generation_and_until_it_is_tried_anew() {
    let mut asking = object(&json!({"NumCores": 8}));
    let (status, ..) = next(&asking, &found(), None, false, &at(5));
    asking.status = Some(ordered(&status, Some(7), &at(9)));
    let since = |object: &HostFirmwareSettings, failed: bool, now: i64| match next(
        object,
        &found(),
        None,
        failed,
        &at(now),
    ) {
        (_, _, Firmware::Changed(change)) => change.ordered,
        other => panic!("{other:?}"),
    };
    let late = 10 + PATIENCE;
    assert_eq!(since(&asking, true, 10), Some(9));
    assert_eq!(since(&asking, false, late), Some(9));
    assert_eq!(since(&asking, true, late), None);
    let why = || "hung".to_owned();
    assert_eq!(unread(&asking, why(), 10), Firmware::Starting(why()));
    assert_eq!(unread(&asking, why(), late), Firmware::Unreadable(why()));
    asking.metadata.generation = Some(8);
    assert_eq!(since(&asking, false, 10), None);
    let mut taken = found();
    taken
        .bios
        .attributes
        .insert("NumCores".to_owned(), json!(8));
    let (status, _, firmware) = next(&asking, &taken, None, false, &at(11));
    assert_eq!(firmware, Firmware::Applied);
    assert_eq!(condition(&status, "Applying").0, "False");
    assert_eq!(condition(&status, "ChangeDetected"), ("False", "Success"));
}

#[test]
fn equal_servers_share_a_schema_whatever_its_order() {
    let mut other = found();
    other.schema.reverse();
    assert_eq!(found().schema_name(), other.schema_name());
    assert_eq!(found().schema_name().len(), "schema-01234567".len());
    other.schema[0].max_length = Some(9);
    assert_ne!(found().schema_name(), other.schema_name());
    // The peer's name for a registry without attributes.
    assert_eq!(Found::default().schema_name(), "schema-4f53cda1");
}
