//! Logins at a provider that is made up, over HTTP on this machine.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use catamaran_console::{Console, Memory, Oidc, OidcConfig, Settings, Site};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::made_up::MadeUp;

/// What the provider remembers of the browser that it was shown: the words of the address.
type Shown = Arc<Mutex<HashMap<String, String>>>;

struct World {
    console: Arc<Console<MadeUp, Memory>>,
    shown: Shown,
    _provider: JoinSet<()>,
}

/// Words of a query or a form. No value here has more than digits and letters, but for the address to come back to.
fn words(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Changes a code into a token, if the verifier is the one of the challenge.
async fn exchange(State(shown): State<Shown>, form: String) -> (StatusCode, Json<Value>) {
    let (form, shown) = (words(&form), shown.lock().unwrap().clone());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes()));
    let good = challenge == shown["code_challenge"]
        && form["code"] == "good"
        && form["redirect_uri"] == shown["redirect_uri"]
        && form["client_id"] == "catamaran";
    if !good {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({"error": "invalid_grant"})),
        );
    }
    let claims = json!({"sub": "alice", "nonce": shown["nonce"]}).to_string();
    let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
    (StatusCode::OK, Json(json!({"id_token": token})))
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let about = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
        });
        let shown = Shown::default();
        let describe = get(move || async move { Json(about) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", describe)
            .route("/token", post(exchange))
            .with_state(shown.clone());
        let mut provider = JoinSet::new();
        provider.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let oidc = Oidc::new(OidcConfig {
            issuer,
            client_id: "catamaran".to_owned(),
            client_secret: None,
            authorities: None,
        });
        let settings = Settings {
            mode: "kubernetes",
            login: &["token"],
            oidc: Some(Arc::new(oidc.unwrap())),
            grafana: None,
            site: Site::Https,
            namespace: "catamaran-system".to_owned(),
            tasks: TaskTracker::new(),
        };
        let vault = Memory::new().unwrap();
        Self {
            console: Arc::new(Console::new(MadeUp::new(), vault, settings)),
            shown,
            _provider: provider,
        }
    }

    async fn get(&self, path: &str, cookie: &str) -> Response<Body> {
        let request = Request::get(format!("/console/api/{path}"))
            .header(HOST, "c.example")
            .header(COOKIE, cookie)
            .body(Body::empty());
        self.console.answer(request.unwrap()).await
    }

    /// Begins a login: the browser's cookie, and the state that the provider is shown.
    async fn begin(&self) -> (String, String) {
        let answer = self.get("login/oidc", "").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let target = location(&answer);
        let query = target.split_once("/auth?").unwrap().1;
        let shown = words(query);
        let state = shown["state"].clone();
        *self.shown.lock().unwrap() = shown;
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
        for word in ["HttpOnly", "Secure", "SameSite=Lax"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        (cookie.split(';').next().unwrap().to_owned(), state)
    }
}

fn location(answer: &Response<Body>) -> String {
    answer.headers()[LOCATION].to_str().unwrap().to_owned()
}

/// The session's cookie of an answer, if it gives one.
fn session(answer: &Response<Body>) -> Option<String> {
    let given = answer.headers().get_all(SET_COOKIE).iter();
    let mut given = given.map(|value| value.to_str().unwrap());
    let found = given.find(|cookie| cookie.starts_with("__Secure-catamaran-console="));
    found.map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_login_at_the_provider_opens_a_session() {
    let world = World::new().await;
    let mode = world.get("mode", "").await;
    let mode = mode.into_body().collect().await.unwrap().to_bytes();
    let mode: Value = serde_json::from_slice(&mode).unwrap();
    assert_eq!(mode["login"], json!(["token", "oidc"]));
    let (cookie, state) = world.begin().await;
    let path = format!("login/callback?code=good&state={state}");
    let answer = world.get(&path, &cookie).await;
    assert_eq!(location(&answer), "/console/");
    let session = session(&answer).unwrap();
    let answer = world.get("session", &session).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn another_state_another_browser_and_another_code_open_nothing() {
    let world = World::new().await;
    let (cookie, state) = world.begin().await;
    for (path, cookie) in [
        (
            "login/callback?code=good&state=other".to_owned(),
            cookie.as_str(),
        ),
        (format!("login/callback?code=good&state={state}"), ""),
        (format!("login/callback?code=bad&state={state}"), &cookie),
        (
            format!("login/callback?error=denied&state={state}"),
            &cookie,
        ),
    ] {
        let answer = world.get(&path, cookie).await;
        let target = location(&answer);
        assert!(
            target.starts_with("/console/#login-error="),
            "{path}: {target}"
        );
        assert_eq!(session(&answer), None, "{path}");
    }
}

#[tokio::test]
async fn a_token_that_was_made_for_another_login_opens_nothing() {
    let world = World::new().await;
    let (cookie, state) = world.begin().await;
    let nonce = "another".to_owned();
    world
        .shown
        .lock()
        .unwrap()
        .insert("nonce".to_owned(), nonce);
    let path = format!("login/callback?code=good&state={state}");
    assert_eq!(session(&world.get(&path, &cookie).await), None);
}
