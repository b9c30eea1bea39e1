//! A deploy agent without a machine: boots what the mocked BMC shows, and answers as it is told.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use catamaran_baremetal::{Agents, Patience};
use catamaran_deploy_server::{DeployServer, MemoryLedger, Settings, Template};
use catamaran_deploy_wire::{
    Action, Command, Inventory, NetworkData, Parameters, SLOT_SIZE, render_slot,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fake::{Bench, Fake};

const URL: &str = "https://192.0.2.9:8444";
const CA: &str = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";

/// A controller's deploy server, and what outlives it.
pub(crate) struct Lab {
    pub(crate) bench: Bench,
    pub(crate) server: DeployServer,
    pub(crate) patience: Patience,
    ledger: Arc<MemoryLedger>,
    folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nobody = Parameters {
            version: 1,
            controller: URL.into(),
            host: "nobody".into(),
            token: "-".repeat(32),
            ca: CA.into(),
            issued_at: 0,
            network: None,
        };
        fs::write(folder.path().join("iso"), render_slot(&nobody).unwrap()).unwrap();
        let ledger = Arc::new(MemoryLedger::default());
        let mut lab = Self {
            bench: Bench::new().await,
            server: server(&folder, &ledger),
            patience: Patience::default(),
            ledger,
            folder,
        };
        lab.restart();
        lab
    }

    /// The controller is another process now.
    pub(crate) fn restart(&mut self) {
        self.server = server(&self.folder, &self.ledger);
        let cluster: Fake = self.bench.cluster.clone();
        let agents = Agents::new(self.server.clone(), cluster, self.patience);
        self.bench.restart_with(agents);
    }

    /// From now on agents have so long to come.
    pub(crate) fn boots_within(&mut self, boot: Duration) {
        self.patience.boot = boot;
        self.restart();
    }
}

fn server(folder: &tempfile::TempDir, ledger: &Arc<MemoryLedger>) -> DeployServer {
    let settings = Settings {
        url: URL.into(),
        ca: CA.into(),
        template: Template::open(&folder.path().join("iso")).unwrap(),
    };
    DeployServer::new(settings, ledger.clone())
}

/// What runs on the machine.
#[derive(Default)]
pub(crate) struct Agent {
    /// Which start of the machine it came from, and its session's key.
    booted: Option<(usize, String)>,
    host: String,
    /// The network that its parameters have.
    pub(crate) network: Option<NetworkData>,
    after: u64,
    /// All that it has done.
    pub(crate) did: Vec<Action>,
}

impl Agent {
    /// Boots when the machine is on with its CD, ends when it is off, and does its next command: `answer` says what comes of it.
    pub(crate) async fn act(&mut self, lab: &Lab, answer: impl Fn(&Action) -> Value) {
        let start = lab.bench.bmc.boots().len();
        if !lab.bench.bmc.is_on() {
            return;
        }
        if self.booted.as_ref().is_none_or(|(from, _)| *from != start) {
            self.booted = None;
            let media = lab.bench.bmc.media().first().cloned();
            let Some(url) = media.filter(|url| url.starts_with(URL)) else {
                return;
            };
            if !self.boot(lab, start, &url).await {
                return;
            }
        }
        let path = format!("command?after={}", self.after);
        // The server holds the request while there is nothing to do.
        let asked = self.send(lab, "GET", &path, Value::Null);
        let asked = tokio::time::timeout(Duration::from_millis(100), asked).await;
        let Ok((StatusCode::OK, body)) = asked else {
            return;
        };
        let command: Command = serde_json::from_slice(&body).unwrap();
        let result = answer(&command.action);
        if command.action == Action::Inspect {
            self.send(lab, "POST", "inventory", inventory()).await;
        }
        self.did.push(command.action);
        let outcome = json!({"id": command.id, "result": result});
        let (status, _) = self.send(lab, "POST", "outcome", outcome).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        self.after = command.id;
    }

    async fn boot(&mut self, lab: &Lab, start: usize, url: &str) -> bool {
        let path = url.strip_prefix(URL).unwrap();
        let (status, iso) = send(lab, "GET", path, None, Value::Null).await;
        if status != StatusCode::OK {
            // It came from a process that is gone.
            return false;
        }
        let text = String::from_utf8(iso[132..SLOT_SIZE - 124].to_vec()).unwrap();
        let parameters = Parameters::parse(&text).unwrap();
        let key = format!("{start:0>64}");
        self.host = parameters.host;
        self.network = parameters.network;
        let hello = json!({"version": 1, "token": parameters.token, "session": key, "agent": "0", "boot": "b"});
        let path = format!("/deploy/v1/hosts/{}/session", self.host);
        let (status, _) = send(lab, "POST", &path, None, hello).await;
        assert_eq!(status, StatusCode::OK);
        self.booted = Some((start, key));
        self.after = 0;
        let (status, _) = self.send(lab, "POST", "inventory", inventory()).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        true
    }

    async fn send(
        &self,
        lab: &Lab,
        method: &str,
        path: &str,
        body: Value,
    ) -> (StatusCode, Vec<u8>) {
        let (_, key) = self.booted.as_ref().unwrap();
        let path = format!("/deploy/v1/hosts/{}/{path}", self.host);
        send(lab, method, &path, Some(key), body).await
    }
}

async fn send(
    lab: &Lab,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Value,
) -> (StatusCode, Vec<u8>) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header(
            "authorization",
            format!("Bearer {}", key.unwrap_or_default()),
        )
        .body(Body::from(body.to_string()));
    let answer = lab.server.router().oneshot(request.unwrap()).await.unwrap();
    let status = answer.status();
    (
        status,
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .into(),
    )
}

fn inventory() -> Value {
    let inventory: Inventory = serde_json::from_value(json!({
        "ramMebibytes": 2048,
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01"}, {"name": "eth1", "mac": "52:54:00:00:00:02", "pxe": true}],
        "storage": [{"name": "/dev/disk/by-path/a", "sizeBytes": 1, "type": "SSD"}],
    }))
    .unwrap();
    serde_json::to_value(inventory).unwrap()
}

/// All goes well.
pub(crate) fn well(action: &Action) -> Value {
    match action {
        Action::Inspect => json!({"done": {"answer": "inspected"}}),
        Action::Write(_) => {
            json!({"done": {"answer": "written", "disk": "/dev/disk/by-path/a", "device": "/dev/sda", "bytes": 1}})
        }
        Action::Wipe { .. } => json!({"done": {"answer": "wiped", "disks": []}}),
        other => panic!("{other:?}"),
    }
}
