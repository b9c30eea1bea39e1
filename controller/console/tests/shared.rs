//! Lists that many browsers look at, before an API server that counts who asks it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{Response, StatusCode};
use catamaran_console::{Backend as _, Kind, Kubernetes, Name, Place};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::timeout;

const CONTROLLER: &str = "token-of-the-controller";
/// Longer than until a right is reviewed again.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Server {
    /// Who asked for what of the machines.
    asked: Arc<Mutex<Vec<String>>>,
    /// Users who may look.
    may: Arc<Mutex<Vec<&'static str>>>,
    changes: broadcast::Sender<String>,
}

struct World {
    server: Server,
    backend: Kubernetes,
    _tasks: JoinSet<()>,
}

fn machine(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"namespace": "prod", "name": name, "resourceVersion": version.to_string(), "managedFields": []},
    })
}

async fn api_server(State(server): State<Server>, request: Request) -> Response<Body> {
    let uri = request.uri().clone();
    let who = request.headers()[AUTHORIZATION].to_str().unwrap();
    let who = who.trim_start_matches("Bearer ").to_owned();
    let mut status = StatusCode::OK;
    let may = who == CONTROLLER || server.may.lock().unwrap().contains(&who.as_str());
    let query = uri.query().unwrap_or_default();
    let body = if uri.path().ends_with("/selfsubjectaccessreviews") {
        Body::from(json!({"status": {"allowed": may}}).to_string())
    } else {
        let verb = if query.contains("watch=true") {
            "watch"
        } else {
            "list"
        };
        server.asked.lock().unwrap().push(format!("{who} {verb}"));
        if !may {
            status = StatusCode::FORBIDDEN;
            Body::from(json!({"kind": "Status", "message": "machines are forbidden"}).to_string())
        } else if verb == "watch" {
            let changes = server.changes.subscribe();
            let lines = futures::stream::unfold(changes, |mut changes| async move {
                let line = changes.recv().await.ok()?;
                Some((Ok::<_, std::io::Error>(line), changes))
            });
            Body::from_stream(lines)
        } else {
            let list = json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineList",
                "metadata": {"resourceVersion": "9"}, "items": [machine("web", 7)],
            });
            Body::from(list.to_string())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl World {
    async fn new() -> Self {
        let server = Server {
            asked: Arc::default(),
            may: Arc::new(Mutex::new(vec!["alice", "bob"])),
            changes: broadcast::Sender::new(16),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(api_server)
            .with_state(server.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut config = kube::Config::new(url.parse().unwrap());
        config.auth_info.token = Some(CONTROLLER.to_owned().into());
        let client = Client::try_from(config.clone()).unwrap();
        Self {
            server,
            backend: Kubernetes::at(&config).sharing(client),
            _tasks: tasks,
        }
    }

    fn asked(&self, what: &str) -> usize {
        let asked = self.server.asked.lock().unwrap();
        asked.iter().filter(|line| *line == what).count()
    }

    fn change(&self, name: &str, version: u64) {
        let line = json!({"type": "MODIFIED", "object": machine(name, version)});
        self.server.changes.send(format!("{line}\n")).unwrap();
    }
}

fn machines() -> Place {
    Place {
        kind: Kind::parse("virtualmachines").unwrap(),
        namespace: Name::parse("prod"),
        name: None,
    }
}

/// The next line of a watch; none at its end.
async fn next(
    lines: &mut (impl futures::Stream<Item = Result<bytes::Bytes, axum::Error>> + Unpin),
) -> Option<Value> {
    let line = timeout(DEADLINE, lines.next()).await.unwrap()?;
    Some(serde_json::from_slice(&line.unwrap()).unwrap())
}

#[tokio::test]
async fn one_watch_serves_all_browsers() {
    let world = World::new().await;
    let (alice, bob) = (
        world.backend.resume("alice").unwrap(),
        world.backend.resume("bob").unwrap(),
    );
    for caller in [&alice, &bob] {
        let list = world.backend.list(caller, &machines()).await.unwrap();
        let list = list.collect().await.unwrap().to_bytes();
        let list: Value = serde_json::from_slice(&list).unwrap();
        assert_eq!(list["items"][0]["metadata"]["name"], "web");
    }
    let mut looking = Vec::new();
    for caller in [&alice, &bob, &alice] {
        let watch = world.backend.watch(caller, &machines(), 9).await.unwrap();
        looking.push(watch.into_data_stream());
    }
    timeout(DEADLINE, async {
        while world.asked(&format!("{CONTROLLER} watch")) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    world.change("web", 12);
    for lines in &mut looking {
        let line = next(lines).await.unwrap();
        assert_eq!(line["object"]["metadata"]["resourceVersion"], "12");
    }
    assert_eq!(world.asked(&format!("{CONTROLLER} list")), 1);
    assert_eq!(world.asked(&format!("{CONTROLLER} watch")), 1);
    assert_eq!(world.asked("alice list") + world.asked("alice watch"), 0);
}

#[tokio::test]
async fn who_may_not_look_is_refused_in_the_api_servers_words() {
    let world = World::new().await;
    let mallory = world.backend.resume("mallory").unwrap();
    let refused = world.backend.list(&mallory, &machines()).await.unwrap_err();
    assert_eq!(
        (refused.status, refused.message.as_str()),
        (403, "machines are forbidden")
    );
    assert_eq!(world.asked("mallory list"), 1);
    assert!(world.backend.watch(&mallory, &machines(), 9).await.is_err());
}

#[tokio::test]
async fn a_watch_ends_soon_after_its_right() {
    let world = World::new().await;
    let bob = world.backend.resume("bob").unwrap();
    let watch = world.backend.watch(&bob, &machines(), 9).await.unwrap();
    let mut lines = watch.into_data_stream();
    world
        .server
        .may
        .lock()
        .unwrap()
        .retain(|user| *user != "bob");
    let line = next(&mut lines).await.unwrap();
    assert_eq!(
        (&line["type"], &line["object"]["code"]),
        (&json!("ERROR"), &json!(403))
    );
    assert_eq!(next(&mut lines).await, None);
}

#[tokio::test]
async fn who_comes_too_late_lists_anew() {
    let world = World::new().await;
    let bob = world.backend.resume("bob").unwrap();
    let watch = world.backend.watch(&bob, &machines(), 3).await.unwrap();
    let mut lines = watch.into_data_stream();
    assert_eq!(next(&mut lines).await.unwrap()["object"]["code"], 410);
    assert_eq!(next(&mut lines).await, None);
}
