//! Tickets and streams, over real websockets.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{Response, StatusCode};
use catamaran_console::{Console, Memory, Settings, Site};
use futures::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::task::TaskTracker;

use crate::made_up::{Machine, MadeUp};

const US: &str = "http://localhost";
/// Within this a session whose right is gone must have ended.
const REVOKED: Duration = Duration::from_secs(10);

type Replica = Arc<Console<MadeUp, Arc<Memory>>>;
type Socket = WebSocketStream<TcpStream>;

struct World {
    machine: MadeUp,
    console: Replica,
    other_replica: Replica,
    tasks: JoinSet<()>,
}

fn replica(machine: &MadeUp, vault: &Arc<Memory>) -> Replica {
    let settings = Settings {
        mode: "kubernetes",
        login: &["token"],
        oidc: None,
        grafana: None,
        site: Site::Loopback(8188),
        namespace: "catamaran-system".to_owned(),
        tasks: TaskTracker::new(),
    };
    Arc::new(Console::new(machine.clone(), vault.clone(), settings))
}

async fn answer(State(console): State<Replica>, request: Request) -> Response<Body> {
    console.answer(request).await
}

async fn json_of(answer: Response<Body>) -> Value {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// Code and reason of the farewell; what came before is left out.
async fn farewell(socket: &mut Socket) -> (u16, String) {
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                return (frame.code.into(), frame.reason.to_string());
            }
            Some(Ok(_)) => {}
            other => panic!("no farewell: {other:?}"),
        }
    }
}

impl World {
    fn new() -> Self {
        let machine = MadeUp::new();
        let vault = Arc::new(Memory::new().unwrap());
        Self {
            console: replica(&machine, &vault),
            other_replica: replica(&machine, &vault),
            machine,
            tasks: JoinSet::new(),
        }
    }

    async fn write(&self, method: &str, path: &str, cookie: &str, body: &Value) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/console/api/{path}"))
            .header(HOST, "localhost")
            .header(ORIGIN, US)
            .header(COOKIE, cookie)
            .body(Body::from(body.to_string()));
        self.console.answer(request.unwrap()).await
    }

    async fn login(&self, name: &str) -> String {
        let answer = self
            .write("POST", "login", "", &json!({"token": name}))
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn ticket(&self, cookie: &str) -> String {
        let wish = json!({"stream": "console", "replay": true});
        let path = "machines/prod/web/ticket";
        let answer = self.write("POST", path, cookie, &wish).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer = json_of(answer).await;
        assert_eq!(answer["seconds"], 30);
        answer["ticket"].as_str().unwrap().to_owned()
    }

    async fn open(&mut self, cookie: &str, ticket: &str) -> Socket {
        let console = self.console.clone();
        self.open_at(console, cookie, ticket).await
    }

    async fn open_at(&mut self, console: Replica, cookie: &str, ticket: &str) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(console);
        self.tasks
            .spawn(async move { axum::serve(listener, router).await.unwrap() });
        let request = Request::get("ws://localhost/console/api/stream")
            .header(HOST, "localhost")
            .header(ORIGIN, US)
            .header(COOKIE, cookie)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header(
                "sec-websocket-protocol",
                format!("catamaran.console.v1, ticket.{ticket}"),
            )
            .body(())
            .unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        assert_eq!(
            response.headers()["sec-websocket-protocol"],
            "catamaran.console.v1"
        );
        socket
    }
}

#[tokio::test]
async fn a_console_is_typed_into_and_read_through_a_ticket() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let mut socket = world.open(&cookie, &ticket).await;
    let (look, mut guest) = world.machine.opened().await;
    assert!(look.replay && !look.read_only);
    socket.send(Message::binary("uname\n")).await.unwrap();
    let mut heard = [0; 6];
    guest.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"uname\n");
    guest.write_all(b"Linux").await.unwrap();
    assert_eq!(
        socket.next().await.unwrap().unwrap(),
        Message::binary("Linux")
    );
    drop(guest);
    assert_eq!(farewell(&mut socket).await.0, 1000);
}

#[tokio::test]
async fn a_ticket_is_used_once() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let _first = world.open(&cookie, &ticket).await;
    world.machine.opened().await;
    let mut second = world.open(&cookie, &ticket).await;
    assert_eq!(farewell(&mut second).await.0, 4008);
}

#[tokio::test]
async fn a_ticket_that_was_used_at_another_replica_is_refused_where_they_meet() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let _first = world.open(&cookie, &ticket).await;
    world.machine.opened().await;
    let other = world.other_replica.clone();
    let mut second = world.open_at(other, &cookie, &ticket).await;
    assert_eq!(
        farewell(&mut second).await,
        (4008, "this ticket was used before".to_owned())
    );
}

#[tokio::test]
async fn a_ticket_is_good_at_another_replica() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let other = world.other_replica.clone();
    let _socket = world.open_at(other, &cookie, &ticket).await;
    world.machine.opened().await;
}

#[tokio::test]
async fn a_ticket_of_another_user_or_none_opens_nothing() {
    let mut world = World::new();
    let alice = world.login("alice").await;
    let bob = world.login("bob").await;
    let ticket = world.ticket(&alice).await;
    for wrong in [ticket.as_str(), "", "AAAA"] {
        let mut socket = world.open(&bob, wrong).await;
        assert_eq!(farewell(&mut socket).await.0, 4008, "{wrong}");
    }
}

#[tokio::test]
async fn a_machine_that_was_made_anew_is_not_the_one_of_the_ticket() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    world
        .machine
        .change(|machine| machine.uid = "another".to_owned());
    let mut socket = world.open(&cookie, &ticket).await;
    assert_eq!(farewell(&mut socket).await.0, 4008);
}

#[tokio::test]
async fn a_machine_that_does_not_run_is_said() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    world.machine.change(|machine| machine.phase = "Scheduled");
    let mut socket = world.open(&cookie, &ticket).await;
    assert_eq!(
        farewell(&mut socket).await,
        (4404, "prod/web is Scheduled, not Running".to_owned())
    );
}

#[tokio::test]
async fn who_has_no_right_gets_no_ticket_and_learns_nothing_of_the_machine() {
    let world = World::new();
    let cookie = world.login("alice").await;
    world.machine.change(|machine| machine.allowed = false);
    let wish = json!({"stream": "vnc"});
    let mut said = Vec::new();
    for name in ["web", "none"] {
        let path = format!("machines/prod/{name}/ticket");
        let answer = world.write("POST", &path, &cookie, &wish).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        said.push(json_of(answer).await.to_string().replace(name, "X"));
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn a_console_closes_within_ten_seconds_when_its_right_is_taken_away() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let mut socket = world.open(&cookie, &ticket).await;
    let _guest = world.machine.opened().await;
    world.machine.change(|machine| machine.allowed = false);
    let end = tokio::time::timeout(REVOKED, farewell(&mut socket)).await;
    assert_eq!(end.unwrap().0, 4003);
}

#[tokio::test]
async fn a_console_closes_within_ten_seconds_when_its_token_is_no_longer_known() {
    let mut world = World::new();
    let cookie = world.login("alice").await;
    let ticket = world.ticket(&cookie).await;
    let mut socket = world.open(&cookie, &ticket).await;
    let _guest = world.machine.opened().await;
    world.machine.change(|machine| machine.known = false);
    let end = tokio::time::timeout(REVOKED, farewell(&mut socket)).await;
    assert_eq!(end.unwrap().0, 4003);
}

#[tokio::test]
async fn a_console_closes_when_its_session_ends_here_or_elsewhere() {
    for here in [true, false] {
        let mut world = World::new();
        let cookie = world.login("alice").await;
        let ticket = world.ticket(&cookie).await;
        let at = if here {
            world.console.clone()
        } else {
            world.other_replica.clone()
        };
        let mut socket = world.open_at(at, &cookie, &ticket).await;
        let _guest = world.machine.opened().await;
        let answer = world.write("POST", "logout", &cookie, &Value::Null).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let end = tokio::time::timeout(REVOKED, farewell(&mut socket)).await;
        assert_eq!(end.unwrap().0, 4001, "here: {here}");
    }
}

#[tokio::test]
async fn only_who_may_delete_the_installation_ends_the_sessions_of_others() {
    let world = World::new();
    let alice = world.login("alice").await;
    let bob = world.login("bob").await;
    let sessions = async |cookie: &str| {
        let answer = world.write("GET", "sessions", cookie, &Value::Null).await;
        json_of(answer).await.as_array().unwrap().clone()
    };
    let of_bob = sessions(&bob).await;
    let all = sessions(&alice).await;
    assert_eq!(all.len(), 2, "everybody is allowed everything here");
    let id = of_bob
        .iter()
        .find(|session| session["mine"] == true)
        .unwrap()["id"]
        .clone();
    let path = format!("sessions/{}", id.as_str().unwrap());
    world.machine.change(|machine| machine.allowed = false);
    assert_eq!(sessions(&alice).await.len(), 1, "her own");
    let refused = world.write("DELETE", &path, &alice, &Value::Null).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    world
        .machine
        .change(|machine: &mut Machine| machine.allowed = true);
    let done = world.write("DELETE", &path, &alice, &Value::Null).await;
    assert_eq!(done.status(), StatusCode::OK);
    let answer = world.write("GET", "session", &bob, &Value::Null).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}
