//! Servers: enrolled, switched, imported.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::world::{Answer, Request, World, err, json, out, status};

/// A file beside the kubeconfig.
fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn server(state: &str, more: &Value) -> Value {
    let mut host = json!({
        "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": "rack1", "namespace": "shop"},
        "spec": {"online": true},
        "status": {"operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "poweredOn": true, "provisioningFailCount": 0,
                   "provisioning": {"state": state, "ID": ""}},
    });
    for (field, value) in more.as_object().unwrap() {
        host["status"][field] = value.clone();
    }
    host
}

const ENROLL: [&str; 9] = [
    "host",
    "enroll",
    "rack1",
    "--bmc",
    "redfish://192.0.2.7",
    "--user",
    "root",
    "--password-file",
    "PASSWORD",
];

fn enroll(world: &World, more: &[&str]) -> Output {
    let password = file(world, "password", "calvin\n");
    let words = ENROLL.map(|word| if word == "PASSWORD" { &password } else { word });
    world.run(&[&words[..], more].concat())
}

#[test]
fn a_server_is_enrolled_with_the_secret_of_its_bmc_and_waited_for() {
    let asked = Arc::new(AtomicU32::new(0));
    let world = World::new(move |path| {
        if !path.ends_with("/baremetalhosts/rack1") {
            return Answer::Plain(201, "", json!({"kind": "Secret"}).to_string());
        }
        let wrong = json!({"operationalStatus": "error", "errorType": "registration error", "errorMessage": "password refused"});
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => json(&server("registering", &wrong)),
            _ => json(&server("available", &json!({}))),
        }
    });
    let output = enroll(&world, &["--wait"]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(
        err(&output),
        "rack1: registering (registration error; tried again): password refused\nrack1: available\n"
    );
    let (secret, host) = (
        world.requests.recv().unwrap(),
        world.requests.recv().unwrap(),
    );
    assert_eq!(
        secret.line,
        "POST /api/v1/namespaces/shop/secrets?fieldManager=kubectl-catamaran&fieldValidation=Strict HTTP/1.1"
    );
    let sent: Value = serde_json::from_str(&secret.body).unwrap();
    assert_eq!(
        sent["stringData"],
        json!({"username": "root", "password": "calvin"})
    );
    assert!(
        host.line
            .starts_with("POST /apis/metal3.io/v1alpha1/namespaces/shop/baremetalhosts?")
    );
}

#[test]
fn a_server_that_is_refused_leaves_no_secret() {
    let world = World::new(|path| {
        if path.contains("/baremetalhosts") {
            status(409, "AlreadyExists", "rack1 already exists")
        } else {
            let secret = json!({"kind": "Secret", "metadata": {"name": "rack1-bmc"}});
            Answer::Plain(201, "", secret.to_string())
        }
    });
    let output = enroll(&world, &[]);
    assert_eq!(
        err(&output),
        "Error from server (AlreadyExists): rack1 already exists\n"
    );
    let lines: Vec<String> = world.requests.try_iter().map(|one| one.line).collect();
    assert_eq!(
        lines[2],
        "DELETE /api/v1/namespaces/shop/secrets/rack1-bmc HTTP/1.1"
    );
}

#[test]
fn a_dry_run_of_an_enrolment_asks_nobody() {
    let world = World::new(|_| status(500, "", "it was asked"));
    let output = enroll(&world, &["--dry-run=client", "-o", "yaml", "-n", "metal"]);
    assert!(output.status.success(), "{}", err(&output));
    let said = out(&output);
    assert!(
        said.contains("---\n") && said.contains("namespace: metal"),
        "{said}"
    );
    assert!(world.requests.try_recv().is_err());
}

#[test]
fn power_is_a_merge_patch_of_the_host() {
    let world = World::new(|_| json(&server("provisioned", &json!({}))));
    let output = world.run(&["host", "power", "reboot", "bmh/rack1", "--hard", "--wait"]);
    assert_eq!(
        out(&output),
        "baremetalhost.metal3.io/rack1 will be rebooted\n",
        "{}",
        err(&output)
    );
    let _read = world.requests.recv().unwrap();
    let patch = world.requests.recv().unwrap();
    assert!(
        patch
            .line
            .starts_with("PATCH /apis/metal3.io/v1alpha1/namespaces/shop/baremetalhosts/rack1")
    );
    assert_eq!(
        patch.header("content-type"),
        Some("application/merge-patch+json")
    );
    let sent: Value = serde_json::from_str(&patch.body).unwrap();
    assert_eq!(
        sent["metadata"]["annotations"]["reboot.metal3.io"],
        r#"{"force":false,"mode":"hard"}"#
    );
}

#[test]
fn who_waits_in_vain_is_told_how_far_it_is() {
    let world = World::new(|_| json(&server("inspecting", &json!({}))));
    let words = ["host", "power", "off", "rack1", "--wait", "--timeout", "0"];
    let output = world.run(&words);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "rack1: inspecting\nerror: rack1 is not off after 0 s; it is inspecting\n"
    );
}

/// An Ironic with two pages of nodes, and an API server, at one address.
fn ironic(path: &str) -> Answer {
    const VERSIONS: &str = "X-OpenStack-Ironic-API-Minimum-Version: 1.1\r\nX-OpenStack-Ironic-API-Maximum-Version: 1.115\r\n";
    let node = |uuid: &str, port: u16| {
        json!({"uuid": uuid, "name": format!("node{port}"), "driver": "redfish", "provision_state": "active", "power_state": "power on",
               "driver_info": {"redfish_address": format!("http://192.0.2.7:{port}"), "redfish_username": "root", "redfish_password": "******"}})
    };
    match path {
        "/v1" => Answer::Plain(200, VERSIONS, "{}".to_owned()),
        "/v1/nodes?detail=true" => json(
            &json!({"nodes": [node("u-1", 1)], "next": "http://inside.example/v1/nodes?marker=u-1"}),
        ),
        "/v1/nodes?detail=true&marker=u-1" => json(&json!({"nodes": [node("u-2", 2)]})),
        path if path.starts_with("/v1/ports") => json(&json!({"ports": []})),
        path if path.starts_with("/v1/") => {
            let fault =
                json!({"error_message": json!({"faultstring": "there is none"}).to_string()});
            Answer::Plain(404, "", fault.to_string())
        }
        "/apis/metal3.io/v1alpha1/namespaces/shop/baremetalhosts" => json(
            &json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHostList", "items": []}),
        ),
        _ => Answer::Plain(
            201,
            "",
            json!({"kind": "BareMetalHost", "metadata": {"name": "a"}}).to_string(),
        ),
    }
}

fn import(world: &World, more: &[&str]) -> Output {
    let config = std::fs::read_to_string(world.folder.path().join("kubeconfig")).unwrap();
    let url = config
        .split('"')
        .find(|word| word.starts_with("http://"))
        .unwrap();
    world.run(&[&["host", "import", "--from-ironic", url], more].concat())
}

#[test]
fn an_ironics_nodes_are_imported_with_credentials_that_are_given() {
    let world = World::new(ironic);
    let credentials = file(
        &world,
        "credentials",
        "node1: {password: one}\n'*': {password: all}\n",
    );
    let token = file(&world, "token", "t0ken of keystone\n");
    let output = import(
        &world,
        &["--credentials", &credentials, "--ironic-token-file", &token],
    );
    assert!(output.status.success(), "{}", err(&output));
    let said = err(&output);
    assert!(
        said.contains("node1: node u-1, active, externally provisioned\n"),
        "{said}"
    );
    assert!(
        said.contains("Ironic manages these servers still"),
        "{said}"
    );
    let requests: Vec<Request> = world.requests.try_iter().collect();
    for request in requests
        .iter()
        .filter(|one| one.line.starts_with("GET /v1"))
    {
        assert_eq!(request.header("x-auth-token"), Some("t0ken of keystone"));
    }
    let asked = requests
        .iter()
        .find(|one| one.line.contains("/v1/nodes?"))
        .unwrap();
    assert_eq!(asked.header("x-openstack-ironic-api-version"), Some("1.81"));
    let posts = |dry: bool| {
        let posts = requests.iter().filter(|one| one.line.starts_with("POST"));
        posts
            .filter(|one| one.line.contains("dryRun=All") == dry)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (posts(true).len(), posts(false).len()),
        (4, 4),
        "all is rehearsed first"
    );
    let secret: Value = serde_json::from_str(&posts(false)[0].body).unwrap();
    assert_eq!(secret["stringData"]["password"], "one");
    let host: Value = serde_json::from_str(&posts(false)[1].body).unwrap();
    assert_eq!(host["spec"]["externallyProvisioned"], true);
}

#[test]
fn without_credentials_nothing_is_imported_and_a_form_helps() {
    let world = World::new(ironic);
    let output = import(&world, &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(
        said.starts_with(
            "error: nothing was imported:\n  node1 (u-1): its BMC's password is missing"
        ),
        "{said}"
    );
    assert!(said.contains("node2 (u-2)"), "{said}");
    assert!(
        world
            .requests
            .try_iter()
            .all(|one| one.line.starts_with("GET"))
    );
    let form = import(&world, &["--print-credentials"]);
    assert!(out(&form).contains("\"node1\": {username: \"root\", password: \"\"} # redfish-virtualmedia+http://192.0.2.7:1"), "{}", out(&form));
}

#[test]
fn what_is_no_ironic_is_said_to_be_none() {
    let world = World::new(|_| Answer::Plain(200, "", "<html>".to_owned()));
    let output = import(&world, &["--dry-run=client"]);
    assert!(
        err(&output).contains("does not answer as an Ironic does"),
        "{}",
        err(&output)
    );
    let world = World::new(|_| {
        Answer::Plain(
            401,
            "",
            r#"{"error": {"message": "who are you?"}}"#.to_owned(),
        )
    });
    let output = import(&world, &["--dry-run=client"]);
    assert!(
        err(&output).contains("refused: 401 Unauthorized: who are you?; give --ironic-user"),
        "{}",
        err(&output)
    );
}
