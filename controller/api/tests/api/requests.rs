//! Requests and their answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::task::JoinSet;

use crate::world::{World, request};

const VM: &str = "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachines";
const VMI: &str = "/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachineinstances";

#[tokio::test]
async fn verbs_are_accepted_and_written() {
    let world = World::new().await;
    world.machine("a", "Halted", None);
    let answer = world
        .ask("alice", "PUT", &format!("{VM}/a/start"), "")
        .await;
    assert_eq!((answer.code, answer.text.as_str()), (202, ""));
    let writes = world.cluster.writes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(
        writes[0].path,
        "/apis/kubevirt.io/v1/namespaces/d/virtualmachines/a"
    );
    assert_eq!(
        writes[0].body,
        json!({"metadata": {"resourceVersion": "5"}, "spec": {"runStrategy": "Always", "running": null}})
    );

    world.machine("b", "Manual", Some("Running"));
    let answer = world
        .ask(
            "alice",
            "PUT",
            &format!("{VM}/b/stop"),
            r#"{"gracePeriod": 3}"#,
        )
        .await;
    assert_eq!(answer.code, 202);
    let paths: Vec<_> = world.cluster.writes().into_iter().map(|w| w.path).collect();
    assert_eq!(
        paths,
        [
            "/apis/kubevirt.io/v1/namespaces/d/virtualmachineinstances/b",
            "/apis/kubevirt.io/v1/namespaces/d/virtualmachines/b/status"
        ]
    );
}

#[tokio::test]
async fn refusals_are_statuses() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    for (method, path, body, code, words) in [
        (
            "PUT",
            format!("{VM}/a/start"),
            "",
            409,
            "VM is already running",
        ),
        (
            "PUT",
            format!("{VM}/none/start"),
            "",
            404,
            "virtualmachine.kubevirt.io \"none\" not found",
        ),
        (
            "PUT",
            format!("{VM}/a/restart"),
            "gracePeriodSeconds: 9",
            400,
            "only gracePeriod=0 is supported",
        ),
        (
            "PUT",
            format!("{VM}/a/start"),
            "{",
            400,
            "Can not unmarshal Request body to struct",
        ),
        (
            "PUT",
            format!("{VM}/a/addvolume"),
            "{}",
            400,
            "AddVolumeOptions requires name to be set",
        ),
        (
            "GET",
            format!("{VMI}/a/usbredir"),
            "",
            400,
            "USB redirection is not supported",
        ),
        (
            "GET",
            format!("{VMI}/a/guestosinfo"),
            "",
            409,
            "VMI does not have guest agent connected",
        ),
        (
            "PUT",
            format!("{VMI}/a/reset"),
            "",
            409,
            "the launcher is busy",
        ),
        (
            "GET",
            format!("{VMI}/a/console"),
            "",
            400,
            "not using the websocket protocol",
        ),
        ("POST", format!("{VM}/a/start"), "", 405, "PUT"),
        (
            "GET",
            "/apis/kubevirt.io/v9".to_owned(),
            "",
            404,
            "could not find the requested resource",
        ),
    ] {
        let answer = world.ask("alice", method, &path, body).await;
        let status = answer.json();
        assert_eq!(answer.code, code, "{path}: {status}");
        assert_eq!(
            (&status["kind"], &status["code"]),
            (&json!("Status"), &json!(code))
        );
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(words), "{path}: {message}");
    }
}

#[tokio::test]
async fn questions_go_to_the_node() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    let answer = world
        .ask("alice", "GET", &format!("{VMI}/a/dmesg?tail=100"), "")
        .await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (200, "[    0.000000] Linux version 6.1\n")
    );
    let answer = world
        .ask("alice", "PUT", &format!("{VMI}/a/pause"), "")
        .await;
    assert_eq!(answer.code, 200);
    let dry = world
        .ask(
            "alice",
            "PUT",
            &format!("{VMI}/a/pause"),
            r#"{"dryRun": ["All"]}"#,
        )
        .await;
    assert_eq!(dry.code, 200);
    assert_eq!(
        *world.asked.lock().unwrap(),
        [
            "GET /v1/namespaces/d/virtualmachineinstances/a/dmesg?tail=100",
            "PUT /v1/namespaces/d/virtualmachineinstances/a/pause"
        ]
    );
}

#[tokio::test]
async fn callers_are_verified_and_asked_for_their_right() {
    let world = World::new().await;
    world.machine("a", "Always", Some("Running"));
    let path = format!("{VMI}/a/dmesg");
    let refused = world.ask("bob", "GET", &path, "").await;
    assert_eq!(refused.code, 403);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(r#"User "bob" cannot get resource "virtualmachineinstances/dmesg""#),
        "{message}"
    );
    assert!(world.asked.lock().unwrap().is_empty());

    let plain = || {
        request("alice", "GET", &path)
            .body(Full::<Bytes>::default())
            .unwrap()
    };
    assert_eq!(
        world.send(None, plain()).await.code,
        401,
        "headers without a certificate"
    );
    assert_eq!(
        world.send(Some("someone"), plain()).await.code,
        401,
        "a name that may not vouch"
    );
}

#[tokio::test]
async fn discovery_and_webhooks_need_no_certificate() {
    let world = World::new().await;
    for path in [
        "/apis",
        "/apis/subresources.kubevirt.io/v1",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/apis/subresources.kubevirt.io/v1/version",
        "/openapi/v3/apis/subresources.kubevirt.io/v1",
    ] {
        let request = request("", "GET", path)
            .body(Full::<Bytes>::default())
            .unwrap();
        assert_eq!(world.send(None, request).await.code, 200, "{path}");
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": {"kind": "VirtualMachine"}, "operation": "CREATE", "userInfo": {"username": "alice"},
        "object": {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "d"},
            "spec": {"template": {"spec": {"domain": {"memry": {}}}}}},
    }});
    let request = request("", "POST", "/admission/validate")
        .body(Full::from(review.to_string()))
        .unwrap();
    let answer = world.send(None, request).await.json();
    assert_eq!(answer["response"]["allowed"], false);
    let causes = answer["response"]["status"]["details"]["causes"]
        .as_array()
        .unwrap();
    assert!(
        causes
            .iter()
            .any(|c| c["field"] == "spec.template.spec.domain.memry"),
        "{causes:?}"
    );
}

const TYPES: &str = "/apis/instancetype.kubevirt.io/v1beta1/virtualmachineclusterinstancetypes";

fn small(world: &World) {
    world.cluster.put(
        &format!("{TYPES}/small"),
        json!({
            "apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineClusterInstancetype",
            "metadata": {"name": "small", "uid": "t", "generation": 1},
            "spec": {"cpu": {"guest": 2}, "memory": {"guest": "64Mi"}},
        }),
    );
}

fn machine_of(instancetype: &str, domain: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "d"},
        "spec": {"runStrategy": "Always", "instancetype": {"name": instancetype}, "template": {"spec": {"domain": domain}}},
    })
}

#[tokio::test]
async fn a_machine_is_shown_with_its_instancetype_merged() {
    let world = World::new().await;
    small(&world);
    let plain = machine_of("small", &json!({"devices": {}}));
    world.cluster.put(
        "/apis/kubevirt.io/v1/namespaces/d/virtualmachines/a",
        plain.clone(),
    );
    let path = "/apis/subresources.kubevirt.io/v1/namespaces/d/expand-vm-spec";
    for answer in [
        world
            .ask("alice", "GET", &format!("{VM}/a/expand-spec"), "")
            .await,
        world.ask("alice", "PUT", path, &plain.to_string()).await,
    ] {
        assert_eq!(answer.code, 200, "{}", answer.text);
        let spec = answer.json()["spec"].clone();
        assert!(spec["instancetype"].is_null());
        let domain = &spec["template"]["spec"]["domain"];
        assert_eq!(domain["memory"]["guest"], "64Mi");
        assert_eq!(domain["cpu"]["sockets"], 2);
    }
    let none = machine_of("none", &json!({"devices": {}})).to_string();
    let answer = world.ask("alice", "PUT", path, &none).await;
    assert_eq!(answer.code, 400);
    assert!(
        answer
            .text
            .contains("there is no VirtualMachineClusterInstancetype of that name"),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn admission_judges_a_machine_with_its_instancetype_merged() {
    let world = World::new().await;
    small(&world);
    let own = json!({"devices": {}, "memory": {"guest": "1Gi"}});
    for (object, refused) in [
        (machine_of("small", &json!({"devices": {}})), None),
        (
            machine_of("small", &own),
            Some((
                "spec.template.spec.domain.memory.guest",
                "FieldValueInvalid",
            )),
        ),
        (
            machine_of("none", &json!({"devices": {}})),
            Some(("spec.instancetype.name", "FieldValueInvalid")),
        ),
        (
            machine_of("small", &json!({"devices": {"dusk": 1}})),
            Some((
                "spec.template.spec.domain.devices.dusk",
                "FieldValueUnknown",
            )),
        ),
        (
            json!({"kind": "VirtualMachineInstancetype", "metadata": {"name": "a"}, "spec": {"cpu": {"guest": 0}, "memory": {"guest": "1Gi"}}}),
            Some(("spec.cpu.guest", "FieldValueInvalid")),
        ),
    ] {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": "CREATE", "namespace": "d", "kind": {"kind": object["kind"]}, "object": object,
        }});
        let request = request("", "POST", "/admission/validate")
            .body(Full::new(Bytes::from(review.to_string())))
            .unwrap();
        let response = world.send(None, request).await.json()["response"].clone();
        let cause = &response["status"]["details"]["causes"][0];
        match refused {
            None => assert_eq!(response["allowed"], true, "{response}"),
            Some((field, reason)) => {
                assert_eq!(cause["field"], field, "{response}");
                assert_eq!(cause["reason"], reason, "{response}");
            }
        }
    }
}

#[tokio::test]
async fn the_console_is_for_everyone_and_takes_no_identity_from_the_front_proxy() {
    let world = World::new().await;
    for proxy in [None, Some("front-proxy-client")] {
        let page = request("admin", "GET", "/console/").body(Full::default());
        let answer = world.send(proxy, page.unwrap()).await;
        assert_eq!(answer.code, 200, "{proxy:?}");
        for path in [
            "/console/api/session",
            "/console/api/list/virtualmachines",
            "/console/api/watch/virtualmachines/7",
        ] {
            let asked = request("admin", "GET", path).body(Full::default());
            let answer = world.send(proxy, asked.unwrap()).await;
            assert_eq!(answer.code, 401, "{proxy:?} {path}");
        }
    }
    assert_eq!(world.cluster.writes().len(), 0);
}

#[tokio::test]
async fn a_browser_has_all_its_requests_on_one_connection() {
    let world = World::new().await;
    let proxied = world.dial(Some("front-proxy-client")).await;
    assert_eq!(proxied.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let stream = world.dial_by(None, "catamaran-api.catamaran-system").await;
    let (executor, stream) = (TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = hyper::client::conn::http2::handshake(executor, stream)
        .await
        .unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let ask = |method, path: &str, origin| {
        let mut sender = sender.clone();
        let request = Request::builder()
            .method(method)
            .uri(format!("https://c.example:8443/{path}"))
            // What the address says counts.
            .header("host", "evil.example")
            .header("origin", origin)
            .body(Full::<Bytes>::from("{\"token\": \"\"}"));
        async move {
            let response = sender.send_request(request.unwrap()).await.unwrap();
            response.status().as_u16()
        }
    };
    let home = "https://c.example:8443";
    let modes =
        futures::future::join_all((0..20).map(|_| ask("GET", "console/api/mode", home))).await;
    assert_eq!(modes, [200; 20]);
    // The page is known by the host, which is in the address here.
    assert_ne!(ask("POST", "console/api/login", home).await, 403);
    let stranger = ask("POST", "console/api/login", "https://evil.example");
    assert_eq!(stranger.await, 403);
    // Nothing else is there for it.
    assert_eq!(ask("GET", "apis", home).await, 421);
    assert_eq!(ask("POST", "validate/virtualmachines", home).await, 421);
}
