//! Plans from an Ironic's recorded answers.

use serde_json::json;

use super::*;
use crate::host::golden;

/// What Ironic 39 told of four nodes, by `GET /v1/nodes?detail=true`, with what matters nothing here left out.
fn recorded() -> Found {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let mut nodes = read(include_str!("../../../../tests/golden/ironic/nodes.json"));
    let mut ports = read(include_str!("../../../../tests/golden/ironic/ports.json"));
    let mut inventory = read(include_str!(
        "../../../../tests/golden/ironic/inventory.json"
    ));
    let nodes: Vec<Node> = serde_json::from_value(nodes["nodes"].take()).unwrap();
    let first = nodes[0].uuid.clone();
    Found {
        nodes,
        ports: serde_json::from_value(ports["ports"].take()).unwrap(),
        inventories: BTreeMap::from([(first, inventory["inventory"].take())]),
        ..Found::default()
    }
}

fn credentials() -> Credentials {
    Credentials::parse("'*': {password: calvin}\n").unwrap()
}

fn setting<'a>(credentials: &'a Credentials, existing: &'a [BareMetalHost]) -> Setting<'a> {
    Setting {
        namespace: Some("metal"),
        credentials,
        existing,
        unpaused: true,
    }
}

fn node(value: Value) -> Node {
    let mut whole = json!({
        "uuid": "11111111-0000-4000-8000-000000000001", "name": "a", "driver": "redfish", "provision_state": "available",
        "power_state": "power off", "driver_info": {"redfish_address": "https://192.0.2.7", "redfish_username": "root"},
    });
    if let Value::Object(fields) = value {
        whole.as_object_mut().unwrap().extend(fields);
    }
    serde_json::from_value(whole).unwrap()
}

fn of(nodes: Vec<Node>) -> Found {
    Found {
        nodes,
        ..Found::default()
    }
}

/// The only host of a plan for one node.
fn host(value: Value) -> Value {
    let credentials = credentials();
    let plan = plan(&of(vec![node(value)]), setting(&credentials, &[])).unwrap();
    plan.objects[1].clone()
}

fn wrong(found: &Found, credentials: &Credentials, existing: &[BareMetalHost]) -> String {
    let wrong = plan(found, setting(credentials, existing)).unwrap_err();
    wrong.join("\n")
}

#[test]
fn recorded_nodes_become_hosts_and_secrets() {
    let credentials = credentials();
    let plan = plan(&recorded(), setting(&credentials, &[])).unwrap();
    let documents: Vec<String> = plan
        .objects
        .iter()
        .map(|object| serde_yaml_ng::to_string(object).unwrap())
        .collect();
    let said = [
        documents.join("---\n"),
        format!("# {}\n", plan.hosts.join("\n# ")),
        format!("# left out: {}\n", plan.left_out.join("\n# left out: ")),
        format!("# note: {}\n", plan.notes.join("\n# note: ")),
    ];
    golden("import.yaml", &said.concat());
}

#[test]
fn what_runs_is_externally_provisioned_and_its_power_stays() {
    let active =
        host(json!({"provision_state": "active", "instance_uuid": "i", "power_state": "power on"}));
    assert_eq!(active["spec"]["externallyProvisioned"], true);
    assert_eq!(active["spec"]["online"], true);
    let unknown = host(json!({"provision_state": "active", "power_state": null}));
    assert_eq!(unknown["spec"]["online"], true, "it may run");
    let free = host(json!({"power_state": null}));
    assert_eq!(free["spec"]["online"], false);
    assert!(free["spec"]["externallyProvisioned"].is_null());
}

#[test]
fn who_is_not_to_be_touched_is_paused_with_the_reason() {
    let paused = |value| {
        let host = host(value);
        host["metadata"]["annotations"][PAUSED]
            .as_str()
            .map(str::to_owned)
    };
    let maintenance = json!({"maintenance": true, "maintenance_reason": "fan"});
    assert_eq!(
        paused(maintenance).as_deref(),
        Some("in maintenance at Ironic: fan")
    );
    assert_eq!(
        paused(json!({"retired": true})).as_deref(),
        Some("retired at Ironic")
    );
    assert_eq!(
        paused(json!({"protected": true})).as_deref(),
        Some("protected at Ironic")
    );
    let unknown = paused(json!({"power_state": null}));
    assert!(unknown.is_some_and(|why| why.contains("spec.online")));
    assert_eq!(paused(json!({})), None);
    let credentials = credentials();
    let setting = Setting {
        unpaused: false,
        ..setting(&credentials, &[])
    };
    let plan = plan(&of(vec![node(json!({}))]), setting).unwrap();
    assert_eq!(
        plan.objects[1]["metadata"]["annotations"][PAUSED],
        "imported from Ironic"
    );
}

#[test]
fn boot_modes_are_translated() {
    let mode = |value| host(value)["spec"]["bootMode"].as_str().map(str::to_owned);
    let capabilities = |text: &str| json!({"properties": {"capabilities": text}});
    assert_eq!(
        mode(capabilities("boot_mode:bios")).as_deref(),
        Some("legacy")
    );
    let secure = capabilities("boot_mode:uefi,secure_boot:true");
    assert_eq!(mode(secure).as_deref(), Some("UEFISecureBoot"));
    assert_eq!(mode(json!({"boot_mode": "uefi"})).as_deref(), Some("UEFI"));
    assert_eq!(mode(json!({})), None);
}

#[test]
fn a_certificate_of_ironics_machine_must_be_given() {
    let file = json!({"driver_info": {"redfish_address": "https://192.0.2.7", "redfish_username": "root", "redfish_verify_ca": "/etc/ca.crt"}});
    let found = of(vec![node(file)]);
    let why = wrong(&found, &credentials(), &[]);
    assert!(why.contains("/etc/ca.crt") && why.contains("'ca'"), "{why}");
    let with = Credentials::parse("a: {password: p, ca: PEM}\n").unwrap();
    let made = plan(&found, setting(&with, &[])).unwrap();
    assert_eq!(made.objects[0]["stringData"]["ca.crt"], "PEM");
    let insecure = json!({"driver_info": {"redfish_address": "https://192.0.2.7", "redfish_username": "root", "redfish_verify_ca": "False"}});
    assert_eq!(
        host(insecure)["spec"]["bmc"]["disableCertificateVerification"],
        true
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let same = json!({"uuid": "22222222-0000-4000-8000-000000000002", "name": "b",
        "driver_info": {"redfish_address": "https://192.0.2.7/", "redfish_username": "root"}});
    let found = of(vec![node(json!({})), node(same)]);
    let none = Credentials::parse("typo: {password: p}\n").unwrap();
    let why = wrong(&found, &none, &[]);
    for said in [
        "'typo' is neither name nor UUID",
        "a (11111111-0000-4000-8000-000000000001): its BMC's password is missing",
        "b (22222222-0000-4000-8000-000000000002): its BMC redfish-virtualmedia://192.0.2.7 is that of the node a",
    ] {
        assert!(why.contains(said), "{said:?} is not in {why}");
    }
}

#[test]
fn a_bmc_that_a_host_has_is_not_given_to_another() {
    let existing = vec![crate::host::view::tests::host(
        "rack1",
        "available",
        &json!({"spec": {"bmc": {"address": "redfish://192.0.2.7", "credentialsName": "s"}}}),
    )];
    let why = wrong(&of(vec![node(json!({}))]), &credentials(), &existing);
    assert!(why.contains("is that of the host rack1, too"), "{why}");
}

#[test]
fn a_node_that_was_imported_is_left_out_the_next_time() {
    let found = of(vec![node(json!({}))]);
    let credentials = credentials();
    let first = plan(&found, setting(&credentials, &[])).unwrap();
    let existing = vec![serde_json::from_value(first.objects[1].clone()).unwrap()];
    let second = plan(&found, setting(&credentials, &existing)).unwrap();
    assert!(second.objects.is_empty());
    assert!(
        second.left_out[0].ends_with("is the host a already"),
        "{:?}",
        second.left_out
    );
}

#[test]
fn a_node_on_the_move_is_left_out() {
    let credentials = credentials();
    let moving = of(vec![node(json!({"provision_state": "wait call-back"}))]);
    let plan = plan(&moving, setting(&credentials, &[])).unwrap();
    assert!(plan.objects.is_empty());
    assert!(
        plan.left_out[0].contains("'wait call-back'"),
        "{:?}",
        plan.left_out
    );
}

#[test]
fn of_several_ports_the_first_is_taken_with_a_note() {
    let port = |mac: &str, boots: bool| Port {
        node_uuid: Some("11111111-0000-4000-8000-000000000001".to_owned()),
        address: mac.to_owned(),
        pxe_enabled: Some(boots),
        ..Port::default()
    };
    let mut found = of(vec![node(json!({}))]);
    found.ports = vec![
        port("02:00:00:00:00:0C", true),
        port("02:00:00:00:00:0b", true),
        port("02:00:00:00:00:0a", false),
    ];
    let credentials = credentials();
    let plan = plan(&found, setting(&credentials, &[])).unwrap();
    assert_eq!(
        plan.objects[1]["spec"]["bootMACAddress"],
        "02:00:00:00:00:0b"
    );
    assert!(plan.notes[0].contains("2 ports boot"), "{:?}", plan.notes);
}
