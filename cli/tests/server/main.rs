//! The program against a stand-in for the API server: what is really sent, and what is made of the answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod hosts;
mod world;

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use world::{Answer, World, err, json, out, status};

#[test]
fn create_posts_the_manifest_and_passes_warnings_on() {
    let world = World::new(|_| {
        let warning = "Warning: 299 - \"spec.template.spec.evictionStrategy: has no effect\"\r\n";
        Answer::Plain(201, warning, json!({"kind": "VirtualMachine"}).to_string())
    });
    let output = world.run(&["create", "vm", "demo", "--image", "registry.example/os:1"]);
    assert_eq!(out(&output), "virtualmachine.kubevirt.io/demo created\n");
    assert_eq!(
        err(&output),
        "Warning: spec.template.spec.evictionStrategy: has no effect\n"
    );
    let request = world.requests.recv().unwrap();
    assert_eq!(
        request.line,
        "POST /apis/kubevirt.io/v1/namespaces/shop/virtualmachines?fieldManager=kubectl-catamaran&fieldValidation=Strict HTTP/1.1"
    );
    assert_eq!(request.header("authorization"), Some("Bearer t0ken"));
    let sent: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(sent["metadata"]["name"], "demo");
}

#[test]
fn a_dry_run_of_the_client_needs_no_cluster() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-catamaran"));
    let words = [
        "create",
        "demo",
        "--image",
        "i",
        "--dry-run=client",
        "-o",
        "name",
    ];
    let output = command
        .args(words)
        .env("KUBECONFIG", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(
        out(&output),
        "virtualmachine.kubevirt.io/demo\n",
        "{}",
        err(&output)
    );
}

#[test]
fn verbs_are_sent_as_the_user_that_is_named() {
    let world = World::new(|_| Answer::Plain(202, "", String::new()));
    let output = world.run(&[
        "stop",
        "demo",
        "--grace-period",
        "5",
        "-n",
        "other",
        "--as",
        "eve",
    ]);
    assert_eq!(
        out(&output),
        "virtualmachine.kubevirt.io/demo will stop\n",
        "{}",
        err(&output)
    );
    let request = world.requests.recv().unwrap();
    assert_eq!(
        request.line,
        "PUT /apis/subresources.kubevirt.io/v1/namespaces/other/virtualmachines/demo/stop HTTP/1.1"
    );
    assert_eq!(request.body, r#"{"gracePeriod":5}"#);
    assert_eq!(request.header("impersonate-user"), Some("eve"));
}

#[test]
fn refusals_read_like_kubectls_and_end_with_1() {
    let world = World::new(|_| status(409, "Conflict", "VM is not running"));
    let output = world.run(&["restart", "demo"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "Error from server (Conflict): VM is not running\n"
    );
    let output = world.run(&["restart", "demo", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn nobody_listens() {
    let world = World::new(|_| status(404, "NotFound", "x"));
    let file = world.folder.path().join("kubeconfig");
    let config = std::fs::read_to_string(&file).unwrap();
    let server = config
        .split("http://")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    std::fs::write(&file, config.replace(server, "127.0.0.1:1")).unwrap();
    let output = world.run(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).starts_with("error: the request to http://127.0.0.1:1/ failed: "),
        "{}",
        err(&output)
    );
}

#[test]
fn a_console_speaks_and_is_left() {
    let world = World::new(|_| Answer::Stream("login: "));
    let mut command = world.command(&["console", "demo", "--replay"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 7];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut said)
        .unwrap();
    assert_eq!(&said, b"login: ");
    child.stdin.as_mut().unwrap().write_all(b"\x1d").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let request = world.requests.recv().unwrap();
    assert_eq!(
        request.line,
        "GET /apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachineinstances/demo/console?replay=true&readonly=false HTTP/1.1"
    );
}

#[test]
fn a_console_ends_with_its_input_after_all_of_it_went_out() {
    let world = World::new(|_| Answer::Stream("login: "));
    let mut command = world.command(&["console", "demo"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"root\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    // The server echoes what it took.
    assert_eq!(out(&output), "login: root\n");
}

#[test]
fn a_stopped_machine_has_no_console_and_says_so() {
    let world = World::new(|path| {
        if path.contains("subresources") {
            status(404, "NotFound", "no instance")
        } else {
            json(&json!({"status": {"printableStatus": "Stopped"}}))
        }
    });
    let output = world.run(&["console", "demo"]);
    assert_eq!(
        err(&output),
        "error: demo is stopped; `kubectl catamaran start demo` starts it\n"
    );
}

#[test]
fn standard_input_and_output_join_a_port() {
    let world = World::new(|_| Answer::Stream("hello\n"));
    let mut command = world.command(&["port-forward", "--stdio", "vm/demo/other", "22"]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(out(&output), "hello\necho\n");
    let request = world.requests.recv().unwrap();
    assert_eq!(
        request.line,
        "GET /apis/subresources.kubevirt.io/v1/namespaces/other/virtualmachines/demo/portforward/22 HTTP/1.1"
    );
}

#[test]
fn why_leaves_out_what_may_not_be_read() {
    let world = World::new(|path| {
        let vm = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "demo", "namespace": "shop"},
            "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}},
        });
        if path.ends_with("/virtualmachines/demo") {
            json(&vm)
        } else if path.ends_with("/virtualmachineinstances/demo") {
            status(404, "NotFound", "no instance")
        } else {
            status(403, "Forbidden", "you may not")
        }
    });
    let output = world.run(&["why", "demo"]);
    assert_eq!(
        out(&output),
        "demo is stopped because its run strategy is Halted; `kubectl catamaran start demo` starts it.\n",
        "{}",
        err(&output)
    );
}

#[test]
fn a_bundle_says_what_was_left_out() {
    let world = World::new(|path| {
        let machine = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "demo", "namespace": "shop"},
            "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}, "volumes": [
                {"name": "seed", "cloudInitNoCloud": {"userData": "password: correct-horse"}}]}}},
        });
        if path.ends_with("/virtualmachines") {
            json(
                &json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineList", "items": [machine]}),
            )
        } else if path.ends_with("/virtualmachines/demo") {
            json(&machine)
        } else {
            status(403, "Forbidden", "you may not")
        }
    });
    let file = world.folder.path().join("bundle.tar.gz");
    let output = world.run(&["bundle", "-f", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", err(&output));
    let bytes = std::fs::read(&file).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut all = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        all.push_str(&format!("== {}\n", entry.path().unwrap().display()));
        entry.read_to_string(&mut all).unwrap();
    }
    assert!(
        all.contains("== catamaran-bundle/objects/virtualmachines/demo.yaml"),
        "{all}"
    );
    assert!(all.contains("/api/v1/nodes: may not be read"), "{all}");
    assert!(!all.contains("correct-horse"), "{all}");
}
