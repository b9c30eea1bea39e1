//! The console against an API server that writes down who asks it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Response, StatusCode};
use catamaran_console::{Console, Kubernetes, Memory, Settings, Site};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

const ALICE: &str = "token-of-alice";
const CONTROLLER: &str = "token-of-the-controller";
const US: &str = "https://console.example";

/// What the API server was asked: method and path, and the whole Authorization header.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

struct World {
    console: Arc<Console<Kubernetes, Arc<Memory>>>,
    other_replica: Arc<Console<Kubernetes, Arc<Memory>>>,
    asked: Asked,
    revoked: Arc<Mutex<bool>>,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Server {
    asked: Asked,
    revoked: Arc<Mutex<bool>>,
}

async fn api_server(State(server): State<Server>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let who = request.headers().get_all(AUTHORIZATION).iter();
    let who: Vec<_> = who.map(|value| value.to_str().unwrap()).collect();
    let who = who.join(", ");
    let known = who == format!("Bearer {ALICE}") && !*server.revoked.lock().unwrap();
    let line = format!("{} {path}", request.method());
    server.asked.lock().unwrap().push((line, who));
    let (status, answer) = match path.as_str() {
        _ if !known => (401, json!({"kind": "Status", "message": "Unauthorized"})),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
            (201, json!({"status": {"allowed": true}}))
        }
        path if path.contains("/virtualmachines?") && request.method() == "POST" => (
            422,
            json!({"kind": "Status", "message": "VirtualMachine \"web\" is invalid", "details": {"causes": [
                {"reason": "FieldValueInvalid", "field": "spec.template", "message": "Required value"},
            ]}}),
        ),
        path if path.contains("/secrets?") => (
            201,
            json!({"metadata": {"name": "bmc", "namespace": "metal"}, "data": {"password": "c2VjcmV0"}}),
        ),
        path if path.contains("/pods?") => (
            200,
            json!({"items": [
                {"metadata": {"namespace": "prod", "name": "virt-launcher-a"}},
                {"metadata": {"namespace": "prod", "name": "virt-launcher-b", "deletionTimestamp": "2026-11-28T00:00:00Z"}},
                {"metadata": {"namespace": "prod", "name": "virt-launcher-c"}, "status": {"phase": "Succeeded"}},
            ]}),
        ),
        "/apis/authentication.k8s.io/v1/selfsubjectreviews" => (
            201,
            json!({"status": {"userInfo": {"username": "alice", "groups": ["dev"]}}}),
        ),
        path if path.ends_with("/stop") => (
            409,
            json!({"kind": "Status", "message": "VM is not running"}),
        ),
        _ => (
            200,
            json!({"metadata": {"resourceVersion": "7"}, "items": []}),
        ),
    };
    let mut response = Response::new(Body::from(answer.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

impl World {
    async fn new() -> Self {
        let asked = Asked::default();
        let revoked = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server {
            asked: Arc::clone(&asked),
            revoked: Arc::clone(&revoked),
        };
        let router = Router::new().fallback(api_server).with_state(server);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        // The controller's own configuration, with its identity.
        let mut config = kube::Config::new(url.parse().unwrap());
        config.auth_info.token = Some(CONTROLLER.to_owned().into());
        config.auth_info.impersonate = Some("admin".to_owned());
        let vault = Arc::new(Memory::new().unwrap());
        let replica = || {
            let settings = Settings {
                mode: "kubernetes",
                login: &["token"],
                oidc: None,
                grafana: None,
                site: Site::Https,
                namespace: "catamaran-system".to_owned(),
                tasks: TaskTracker::new(),
            };
            Arc::new(Console::new(
                Kubernetes::at(&config),
                vault.clone(),
                settings,
            ))
        };
        Self {
            console: replica(),
            other_replica: replica(),
            asked,
            revoked,
            _server: tasks,
        }
    }

    async fn send(&self, request: axum::http::request::Builder, body: &str) -> Response<Body> {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.console.answer(request).await
    }

    async fn get(&self, path: &str, cookie: &str) -> Response<Body> {
        let request = Request::get(path).header(COOKIE, cookie);
        self.send(request, "").await
    }

    async fn post(&self, path: &str, cookie: &str, body: &str) -> Response<Body> {
        self.write("POST", path, cookie, body).await
    }

    async fn write(&self, method: &str, path: &str, cookie: &str, body: &str) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "console.example")
            .header(ORIGIN, US)
            .header(COOKIE, cookie);
        self.send(request, body).await
    }

    /// Logs in as Alice and returns the cookie.
    async fn login(&self) -> String {
        let body = json!({"token": ALICE}).to_string();
        let answer = self.post("/console/api/login", "", &body).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        assert_eq!(
            json_of(answer).await,
            json!({"name": "alice", "groups": ["dev"]})
        );
        cookie.split(';').next().unwrap().to_owned()
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn json_of(answer: Response<Body>) -> Value {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn every_answer_is_guarded_by_headers() {
    let world = World::new().await;
    for path in [
        "/console",
        "/console/",
        "/console/nothing",
        "/console/api/session",
    ] {
        let answer = world.get(path, "").await;
        let headers = answer.headers();
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe-inline"), "{path}");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert!(headers.contains_key(CACHE_CONTROL), "{path}");
    }
}

#[tokio::test]
async fn the_api_server_is_asked_with_the_sessions_token_only() {
    let world = World::new().await;
    let cookie = world.login().await;
    for path in [
        "/console/api/list/virtualmachines",
        "/console/api/list/virtualmachineinstances?namespace=prod",
        "/console/api/watch/virtualmachines/7",
    ] {
        assert_eq!(world.get(path, &cookie).await.status(), StatusCode::OK);
    }
    let path = "/console/api/machines/prod/web/start";
    assert_eq!(world.post(path, &cookie, "").await.status(), StatusCode::OK);
    let asked = world.asked();
    let lines: Vec<_> = asked.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
            "GET /apis/kubevirt.io/v1/virtualmachines",
            "GET /apis/kubevirt.io/v1/namespaces/prod/virtualmachineinstances",
            "GET /apis/kubevirt.io/v1/virtualmachines?watch=true&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=300",
            "PUT /apis/subresources.kubevirt.io/v1/namespaces/prod/virtualmachines/web/start",
        ]
    );
    let alice = format!("Bearer {ALICE}");
    assert!(asked.iter().all(|(_, who)| *who == alice), "{asked:?}");
}

#[tokio::test]
async fn without_a_session_nothing_is_asked_whatever_headers_are_shown() {
    let world = World::new().await;
    let request = Request::get("/console/api/list/virtualmachines")
        .header("x-remote-user", "admin")
        .header("x-remote-group", "system:masters")
        .header(AUTHORIZATION, format!("Bearer {ALICE}"));
    let answer = world.send(request, "").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn a_token_that_names_nobody_opens_no_session() {
    let world = World::new().await;
    for token in [CONTROLLER, "wrong"] {
        let body = json!({"token": token}).to_string();
        let answer = world.post("/console/api/login", "", &body).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        assert!(cookie.ends_with("Max-Age=0"), "{cookie}");
        assert!(!json_of(answer).await.to_string().contains(token));
    }
}

#[tokio::test]
async fn another_origin_changes_nothing() {
    let world = World::new().await;
    let cookie = world.login().await;
    let before = world.asked().len();
    for path in [
        "/console/api/login",
        "/console/api/logout",
        "/console/api/machines/prod/web/start",
    ] {
        for origin in [Some("https://evil.example"), Some("null"), None] {
            let mut request = Request::post(path)
                .header(HOST, "console.example")
                .header(COOKIE, &cookie);
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
            }
            let answer = world
                .send(request, &json!({"token": ALICE}).to_string())
                .await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {origin:?}");
        }
    }
    assert_eq!(world.asked().len(), before);
    let session = world.get("/console/api/session", &cookie).await;
    assert_eq!(session.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_servers_refusal_is_shown_in_its_words() {
    let world = World::new().await;
    let cookie = world.login().await;
    let answer = world
        .post("/console/api/machines/prod/web/stop", &cookie, "")
        .await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(
        json_of(answer).await,
        json!({"message": "VM is not running"})
    );
}

#[tokio::test]
async fn a_session_ends_when_the_api_server_no_longer_knows_its_token() {
    let world = World::new().await;
    let cookie = world.login().await;
    *world.revoked.lock().unwrap() = true;
    let answer = world
        .get("/console/api/list/virtualmachines", &cookie)
        .await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    *world.revoked.lock().unwrap() = false;
    let answer = world.get("/console/api/session", &cookie).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nothing_is_left_after_logging_out() {
    let world = World::new().await;
    let cookie = world.login().await;
    let answer = world.post("/console/api/logout", &cookie, "").await;
    assert!(
        answer.headers()[SET_COOKIE]
            .to_str()
            .unwrap()
            .ends_with("Max-Age=0")
    );
    let answer = world.get("/console/api/session", &cookie).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_name_cannot_leave_its_place_in_the_path() {
    let world = World::new().await;
    let cookie = world.login().await;
    let before = world.asked().len();
    for path in [
        "/console/api/machines/prod/../start",
        "/console/api/machines/prod/a%2fb/start",
        "/console/api/machines/prod/web/delete",
        "/console/api/nodes/a..%2f/cordon",
    ] {
        let answer = world.post(path, &cookie, "").await;
        assert!(answer.status().is_client_error(), "{path}");
    }
    let answer = world
        .get("/console/api/list/virtualmachines?namespace=a/b", &cookie)
        .await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(world.asked().len(), before);
}

#[tokio::test]
async fn another_replica_and_a_new_one_know_the_session() {
    let world = World::new().await;
    let cookie = world.login().await;
    let ask = async |replica: &Arc<Console<Kubernetes, Arc<Memory>>>, path: &str| {
        let request = Request::get(path).header(COOKIE, &cookie);
        replica.answer(request.body(Body::empty()).unwrap()).await
    };
    let answer = ask(&world.other_replica, "/console/api/session").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let listed = ask(&world.other_replica, "/console/api/list/virtualmachines");
    assert_eq!(listed.await.status(), StatusCode::OK);
    assert_eq!(
        world.asked().last().unwrap().1,
        format!("Bearer {ALICE}"),
        "the token came with the cookie"
    );
}

#[tokio::test]
async fn a_session_that_is_ended_at_one_replica_ends_at_the_other() {
    let world = World::new().await;
    let cookie = world.login().await;
    let other = |path: &str| {
        let request = Request::get(path).header(COOKIE, &cookie);
        let request = request.body(Body::empty()).unwrap();
        let replica = world.other_replica.clone();
        async move { replica.answer(request).await.status() }
    };
    assert_eq!(other("/console/api/session").await, StatusCode::OK);
    let sessions = json_of(world.get("/console/api/sessions", &cookie).await).await;
    assert_eq!(sessions[0]["user"], "alice");
    assert_eq!(sessions[0]["mine"], true);
    let id = sessions[0]["id"].as_str().unwrap();
    let path = format!("/console/api/sessions/{id}");
    let answer = world.write("DELETE", &path, &cookie, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while other("/console/api/session").await != StatusCode::UNAUTHORIZED {
        assert!(tokio::time::Instant::now() < deadline, "it lives on");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_cookie_does_not_show_the_token() {
    let world = World::new().await;
    let cookie = world.login().await;
    assert!(!cookie.contains(ALICE));
    let (name, sealed) = cookie.split_once('=').unwrap();
    let changed = format!("{name}=A{}", &sealed[1..]);
    for wrong in [changed.as_str(), &format!("{name}="), name] {
        let answer = world.get("/console/api/session", wrong).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong}");
    }
}

#[tokio::test]
async fn a_login_gets_a_new_session_and_ends_the_one_before() {
    let world = World::new().await;
    let first = world.login().await;
    let body = json!({"token": ALICE}).to_string();
    let answer = world.post("/console/api/login", &first, &body).await;
    let second = answer.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        !second.starts_with(&first),
        "a session cannot be fixed beforehand"
    );
    let answer = world.get("/console/api/session", &first).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn whoever_guesses_tokens_has_to_wait() {
    let world = World::new().await;
    let mut last = StatusCode::OK;
    for number in 0..12 {
        let body = json!({"token": format!("guess-{number}")}).to_string();
        last = world.post("/console/api/login", "", &body).await.status();
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        world.asked().len(),
        10,
        "the API server is not asked any more"
    );
}

#[tokio::test]
async fn a_wrong_field_is_named_to_the_page() {
    let world = World::new().await;
    let cookie = world.login().await;
    let path = "/console/api/objects/virtualmachines?namespace=prod&dryRun=true";
    let answer = world.post(path, &cookie, "{}").await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        json_of(answer).await["causes"],
        json!([{"field": "spec.template", "message": "Required value"}])
    );
    let (line, _) = world.asked().pop().unwrap();
    assert!(
        line.ends_with("fieldValidation=Strict&dryRun=All"),
        "{line}"
    );
}

#[tokio::test]
async fn credentials_never_come_back() {
    let world = World::new().await;
    let cookie = world.login().await;
    let path = "/console/api/objects/secrets?namespace=metal";
    let answer = world.post(path, &cookie, "{}").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(
        json_of(answer).await,
        json!({"metadata": {"name": "bmc", "namespace": "metal"}})
    );
    let answer = world
        .get("/console/api/object/secrets/bmc?namespace=metal", &cookie)
        .await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_drain_evicts_what_is_not_on_its_way_already() {
    let world = World::new().await;
    let cookie = world.login().await;
    let answer = world.post("/console/api/nodes/n1/drain", &cookie, "").await;
    assert_eq!(
        json_of(answer).await,
        json!({"evicted": 1, "refused": [], "left": 2})
    );
    let lines: Vec<_> = world.asked().into_iter().map(|(line, _)| line).collect();
    assert!(lines[1].starts_with("PATCH /api/v1/nodes/n1?"), "{lines:?}");
    assert_eq!(
        lines.last().unwrap(),
        "POST /api/v1/namespaces/prod/pods/virt-launcher-a/eviction"
    );
}

#[tokio::test]
async fn rights_are_asked_of_the_api_server_and_kept_for_a_moment() {
    let world = World::new().await;
    let cookie = world.login().await;
    let path = "/console/api/rights?namespace=prod";
    let rights = json_of(world.get(path, &cookie).await).await;
    let verbs = rights["allowed"]["machines"].as_array().unwrap();
    for verb in ["start", "softreboot", "console", "vnc", "screenshot"] {
        assert!(verbs.contains(&verb.into()), "{verb}: {rights}");
    }
    let asked = world.asked().len();
    assert_eq!(json_of(world.get(path, &cookie).await).await, rights);
    assert_eq!(world.asked().len(), asked);
}

#[tokio::test]
async fn the_mode_is_told_to_everybody() {
    let world = World::new().await;
    let mode = json_of(world.get("/console/api/mode", "").await).await;
    assert_eq!(mode["mode"], "kubernetes");
    assert_eq!(mode["login"], json!(["token"]));
}

#[tokio::test]
async fn a_websocket_from_another_origin_is_refused() {
    let world = World::new().await;
    let cookie = world.login().await;
    for origin in [Some("https://evil.example"), Some("null"), None] {
        let mut request = Request::get("/console/api/stream")
            .header(HOST, "console.example")
            .header(COOKIE, &cookie)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        let answer = world.send(request, "").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{origin:?}");
    }
}
