//! An agent's requests, against the router.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use catamaran_deploy_server::{DeployServer, MemoryLedger, Settings, Template, Told, Wanted};
use catamaran_deploy_wire::{
    Action, Answer, Checksum, ChecksumKind, Format, Hello, Image, Parameters, SLOT_SIZE,
    WriteImage, render_slot,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const CA: &str = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
/// Where the slot is in the made-up ISO.
const SLOT: usize = 100 * 2048;

fn some_parameters() -> Parameters {
    Parameters {
        version: 1,
        controller: "https://192.0.2.1:1".into(),
        host: "nobody".into(),
        token: "-".repeat(32),
        ca: CA.into(),
        issued_at: 0,
        network: None,
    }
}

/// An ISO with nothing in it but a slot.
fn template(folder: &Path) -> Template {
    let path = folder.join("deploy.iso");
    let mut iso = vec![0xaa; 1 << 20];
    iso[SLOT..SLOT + SLOT_SIZE].copy_from_slice(&render_slot(&some_parameters()).unwrap());
    fs::write(&path, iso).unwrap();
    Template::open(&path).unwrap()
}

struct World {
    server: DeployServer,
    router: Router,
    folder: tempfile::TempDir,
    ledger: Arc<MemoryLedger>,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        url: "https://192.0.2.1:8443".into(),
        ca: CA.into(),
        template: template(folder.path()),
    };
    let ledger = Arc::new(MemoryLedger::default());
    let server = DeployServer::new(settings, ledger.clone());
    World {
        router: server.router(),
        server,
        folder,
        ledger,
    }
}

struct Got {
    status: StatusCode,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl World {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Got {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::from(body.to_string());
        let answer = self.router.clone().oneshot(request.body(body).unwrap());
        let answer = answer.await.unwrap();
        Got {
            status: answer.status(),
            body: answer
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .into(),
        }
    }

    async fn agent(&self, method: &str, path: &str, key: &str, body: Value) -> Got {
        let key = format!("Bearer {key}");
        let path = format!("/deploy/v1/hosts/metal-1/{path}");
        self.send(method, &path, &[("authorization", &key)], body)
            .await
    }

    /// Enrols the host and gives back the parameters in its ISO.
    async fn enrol(&self) -> Parameters {
        let enrolment = self.server.enrol("metal-1", "test", None).unwrap();
        let path = enrolment
            .iso_url
            .strip_prefix("https://192.0.2.1:8443")
            .unwrap();
        assert!(
            path.ends_with(".iso") && !path.contains(['?', '&']),
            "{path}"
        );
        let got = self.send("GET", path, &[], Value::Null).await;
        assert_eq!(got.body.len() as u64, enrolment.iso_size);
        assert_eq!(got.body[SLOT - 1], 0xaa);
        let text =
            String::from_utf8(got.body[SLOT + 132..SLOT + SLOT_SIZE - 124].to_vec()).unwrap();
        Parameters::parse(&text).unwrap()
    }

    async fn hello(&self, token: &str, key: &str) -> Got {
        let hello = Hello {
            version: 1,
            token: token.into(),
            session: key.into(),
            agent: "0.1.0".into(),
            boot: "boot".into(),
        };
        self.agent("POST", "session", "", serde_json::to_value(hello).unwrap())
            .await
    }
}

fn key(letter: &str) -> String {
    letter.repeat(64)
}

#[tokio::test]
async fn the_token_of_the_iso_opens_one_session() {
    let world = world();
    let parameters = world.enrol().await;
    assert_eq!(parameters.host, "metal-1");
    let got = world.hello("wrong", &key("a")).await;
    assert_eq!(got.status, StatusCode::FORBIDDEN);
    assert!(got.text().contains("old ISO"), "{}", got.text());
    assert_eq!(world.hello(&parameters.token, &key("a")).await.status, 200);
    assert_eq!(world.hello(&parameters.token, &key("a")).await.status, 200);
    assert_eq!(world.hello(&parameters.token, &key("b")).await.status, 403);
    assert!(world.server.status("metal-1").unwrap().denied.is_some());
    // A new ISO ends what was.
    let next = world.enrol().await;
    let got = world.agent("GET", "command", &key("a"), Value::Null).await;
    assert_eq!(got.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.hello(&parameters.token, &key("a")).await.status, 403);
    assert_eq!(world.hello(&next.token, &key("c")).await.status, 200);
}

#[tokio::test]
async fn a_command_goes_to_the_agent_and_its_outcome_comes_back() {
    let world = world();
    let parameters = world.enrol().await;
    world.hello(&parameters.token, &key("a")).await;
    let drive = bytes::Bytes::from_static(b"a drive");
    let write = WriteImage {
        image: Image {
            url: "https://192.0.2.1/x".into(),
            format: Format::Raw,
            checksum: Checksum {
                kind: Some(ChecksumKind::Sha256),
                value: "0".repeat(64),
            },
            ca: None,
        },
        hints: Default::default(),
        config_drive: None,
        overwrite: true,
    };
    // The agent waits already when it is asked.
    let session = key("a");
    let waiting = world.agent("GET", "command?after=0", &session, Value::Null);
    let asking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let wanted = Wanted::WriteWithConfigDrive(Box::new(write), drive);
        world.server.ask("metal-1", wanted).unwrap()
    };
    let (got, id) = tokio::join!(waiting, asking);
    let command = got.json();
    assert_eq!(
        (command["id"].as_u64(), command["action"].as_str()),
        (Some(id), Some("write"))
    );
    assert_eq!(command["configDrive"]["size"], 7);
    let got = world
        .agent("GET", "config-drive/1", &key("a"), Value::Null)
        .await;
    assert_eq!(got.body, b"a drive");
    let got = world
        .agent("GET", "config-drive/2", &key("a"), Value::Null)
        .await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    let progress = json!({"id": id, "step": "writing", "done": 5, "total": 10});
    let got = world.agent("POST", "progress", &key("a"), progress).await;
    assert_eq!(got.json(), "continue");
    assert_eq!(
        world
            .server
            .status("metal-1")
            .unwrap()
            .progress
            .unwrap()
            .done,
        5
    );
    let outcome = json!({"id": id, "result": {"done": {"answer": "inspected"}}});
    world.agent("POST", "outcome", &key("a"), outcome).await;
    let status = world.server.status("metal-1").unwrap();
    assert_eq!(status.outcome, Some(Told::Done(Answer::Inspected)));
}

#[tokio::test]
async fn nothing_is_told_to_who_has_no_session() {
    let world = world();
    world.enrol().await;
    for (method, path, body) in [
        ("GET", "command", Value::Null),
        ("GET", "config-drive/1", Value::Null),
        ("POST", "inventory", json!({})),
        (
            "POST",
            "outcome",
            json!({"id": 1, "result": {"done": {"answer": "inspected"}}}),
        ),
    ] {
        let got = world.agent(method, path, "", body).await;
        assert_eq!(got.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let got = world
        .send("GET", "/deploy/v1/isos/x.iso", &[], Value::Null)
        .await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_new_process_goes_on_with_the_sessions_of_the_ledger() {
    let world = world();
    let parameters = world.enrol().await;
    world.hello(&parameters.token, &key("a")).await;
    world
        .server
        .ask("metal-1", Wanted::Action(Action::Inspect))
        .unwrap();
    let settings = Settings {
        url: "https://192.0.2.1:8443".into(),
        ca: CA.into(),
        template: template(world.folder.path()),
    };
    let server = DeployServer::new(settings, world.ledger.clone());
    assert!(!server.resume("metal-2").unwrap());
    assert!(server.resume("metal-1").unwrap());
    let next = World {
        router: server.router(),
        server,
        folder: tempfile::tempdir().unwrap(),
        ledger: world.ledger.clone(),
    };
    // Ids go on, so that the agent sees that it is another command.
    assert_eq!(
        next.server
            .ask("metal-1", Wanted::Action(Action::Reboot))
            .unwrap(),
        2
    );
    let got = next
        .agent("GET", "command?after=1", &key("a"), Value::Null)
        .await;
    assert_eq!(got.json(), json!({"id": 2, "action": "reboot"}));
}

#[tokio::test]
async fn images_and_isos_are_sent_in_parts() {
    let world = world();
    let file = world.folder.path().join("image");
    fs::write(&file, b"0123456789").unwrap();
    let url = world.server.publish("image.raw", &file).unwrap();
    let path = url.strip_prefix("https://192.0.2.1:8443").unwrap();
    let got = world
        .send("GET", path, &[("range", "bytes=2-4")], Value::Null)
        .await;
    assert_eq!(
        (got.status, got.text().as_str()),
        (StatusCode::PARTIAL_CONTENT, "234")
    );
    let got = world
        .send("GET", path, &[("range", "bytes=20-")], Value::Null)
        .await;
    assert_eq!(got.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let iso = world.server.enrol("metal-1", "test", None).unwrap().iso_url;
    let path = iso.strip_prefix("https://192.0.2.1:8443").unwrap();
    let range = format!("bytes={}-{}", SLOT - 2, SLOT + 5);
    let got = world
        .send("GET", path, &[("range", &range)], Value::Null)
        .await;
    assert_eq!(got.body, b"\xaa\xaa070701");
    let head = world.send("HEAD", path, &[], Value::Null).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[test]
fn a_hosts_iso_can_be_written_to_a_file() {
    let world = world();
    let mut parameters = some_parameters();
    parameters.host = "metal-9".into();
    let to = world.folder.path().join("host.iso");
    template(world.folder.path())
        .write(&parameters, &to)
        .unwrap();
    let iso = fs::read(to).unwrap();
    assert_eq!(iso.len(), 1 << 20);
    assert_eq!(
        iso[SLOT..SLOT + SLOT_SIZE],
        render_slot(&parameters).unwrap()
    );
}

#[test]
fn names_that_dont_belong_into_urls_are_refused() {
    let world = world();
    assert!(world.server.enrol("../x", "test", None).is_err());
    assert!(world.server.publish("a/b", Path::new("/dev/null")).is_err());
    assert!(
        world
            .server
            .ask("nobody", Wanted::Action(Action::Inspect))
            .is_err()
    );
}
