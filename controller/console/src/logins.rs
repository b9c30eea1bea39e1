//! Who comes in, what he may do, and which sessions there are.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::{Access, Backend, Failure, Name, User};
use crate::guard;
use crate::oidc::{self, Begun, Oidc};
use crate::requests::{Console, Peer, add_cookie, body, json_of};
use crate::rights;
use crate::seal::Purpose;
use crate::sessions::{Session, TOKEN_BYTES, Use, now};
use crate::vault::Vault;
use crate::viewing::time;

/// Longest body of a login, bytes: a token.
const LOGIN_BYTES: usize = 16 * 1024;
/// Where a provider sends the browser back to.
const CALLBACK: &str = "/console/api/login/callback";
/// How long an answer about rights may be used again.
const RIGHTS: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// Rights that were said a moment ago.
#[derive(Default)]
pub(crate) struct KnownRights(Mutex<Vec<Known>>);

/// Rights of a session, in one namespace or all, as they were said at a moment.
struct Known {
    session: String,
    namespace: Option<Name>,
    said: Instant,
    answer: Value,
}

impl KnownRights {
    fn find(&self, session: &str, namespace: Option<&Name>) -> Option<Value> {
        let mut table = self.table();
        table.retain(|known| known.said.elapsed() < RIGHTS);
        let found = table
            .iter()
            .find(|known| known.session == session && known.namespace.as_ref() == namespace);
        found.map(|known| known.answer.clone())
    }

    fn table(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn from(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<Peer>().map(|peer| peer.0)
}

/// Sends the browser elsewhere.
fn see(target: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    if let Ok(target) = HeaderValue::try_from(target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

impl<B: Backend, V: Vault> Console<B, V> {
    /// With a token in the body.
    pub(crate) async fn login(&self, request: Request) -> Result<Response<Body>, Failure> {
        let (parts, content) = request.into_parts();
        if let Some(refused) = self.too_many(&parts) {
            return Ok(refused);
        }
        let content = body(Request::new(content), LOGIN_BYTES).await?;
        // What serde says could repeat a part of the token.
        let login: Login = serde_json::from_slice(&content)
            .map_err(|_| Failure::new(400, "body: must be JSON with a field token"))?;
        let (cookie, user) = self.enter(&parts, login.token.trim()).await?;
        let mut response = json_of(StatusCode::OK, &json!(user));
        add_cookie(response.headers_mut(), &cookie);
        Ok(response)
    }

    /// Sends the browser to the provider.
    pub(crate) async fn begin_login(&self, head: &Parts) -> Result<Response<Body>, Failure> {
        let oidc = self.provider(&head.method)?;
        let host = guard::host(&head.headers);
        let host = host.ok_or_else(|| Failure::new(400, "Host: is missing"))?;
        let redirect = format!("https://{host}{CALLBACK}");
        let (begun, url) = oidc.begin(redirect, now()).await?;
        let key = self.sessions.key().await?;
        let sealed = key
            .seal(Purpose::Login, &begun)
            .map_err(|_| Failure::new(500, "the console has no random numbers"))?;
        let mut response = see(url.as_str());
        let cookie = guard::give_login(&sealed, oidc::SECONDS);
        add_cookie(response.headers_mut(), &cookie);
        Ok(response)
    }

    /// The browser comes back from the provider. Whatever comes of it, it goes on to the page, which says why if it is nothing.
    pub(crate) async fn end_login(&self, head: &Parts) -> Response<Body> {
        if let Some(refused) = self.too_many(head) {
            return refused;
        }
        let mut response = match self.return_from(head).await {
            Ok(cookie) => {
                let mut response = see("/console/");
                add_cookie(response.headers_mut(), &cookie);
                response
            }
            Err(failure) => {
                // A token that was refused has counted as a failed login already. What any page can make a browser do does not.
                let words = oidc::fragment(&failure.message);
                see(&format!("/console/#login-error={words}"))
            }
        };
        add_cookie(response.headers_mut(), &guard::give_login("", 0));
        response
    }

    async fn return_from(&self, head: &Parts) -> Result<String, Failure> {
        let oidc = self.provider(&head.method)?;
        let query = head.uri.query().unwrap_or_default();
        let key = self.sessions.key().await?;
        let sealed = guard::login(&head.headers).unwrap_or_default();
        let begun: Begun = key.open(Purpose::Login, sealed).ok_or_else(|| {
            let words = "this login was not begun in this browser: try again";
            Failure::new(401, words)
        })?;
        let token = oidc.finish(&begun, query, now()).await?;
        let (cookie, _) = self.enter(head, &token).await?;
        Ok(cookie)
    }

    fn provider(&self, method: &Method) -> Result<&Oidc, Failure> {
        if *method != Method::GET {
            return Err(Failure::new(405, "only GET is answered here"));
        }
        let oidc = self.settings.oidc.as_deref();
        oidc.ok_or_else(|| Failure::new(404, "there is no login provider here"))
    }

    fn too_many(&self, head: &Parts) -> Option<Response<Body>> {
        let seconds = self.limit.wait(from(head), Instant::now())?;
        let words = format!("too many failed logins: try again in {seconds} s");
        let mut response = self.refused(&Failure::new(429, words));
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
        Some(response)
    }

    /// Opens a session for a token, in place of the one that the browser had; gives its cookie.
    async fn enter(&self, head: &Parts, token: &str) -> Result<(String, User), Failure> {
        if token.is_empty() {
            return Err(Failure::new(400, "token: must not be empty"));
        }
        if token.len() > TOKEN_BYTES {
            let words = format!(
                "token: has {} bytes; {TOKEN_BYTES} fit a cookie",
                token.len()
            );
            return Err(Failure::new(413, words));
        }
        let (caller, user) = match self.backend.login(token).await {
            Ok(found) => found,
            Err(failure) => {
                if failure.status == 401 {
                    self.limit.failed(from(head), Instant::now());
                }
                return Err(failure);
            }
        };
        let site = self.settings.site;
        if let Some(former) = site.session(&head.headers) {
            let found = self.sessions.find(&self.backend, former, Use::DoesNotCount);
            if let Ok(session) = found.await {
                self.sessions.close(&session.id).await?;
            }
        }
        let sealed = self.sessions.open(caller, user.clone(), token).await?;
        tracing::info!(user = user.name, "logged in to the console");
        Ok((site.give(&sealed), user))
    }

    pub(crate) async fn rights_of(
        &self,
        session: &Session<B::Caller>,
        namespace: Option<Name>,
    ) -> Result<Value, Failure> {
        if let Some(answer) = self.known_rights.find(&session.id, namespace.as_ref()) {
            return Ok(answer);
        }
        let said = Instant::now();
        let answer = rights::of(&self.backend, &session.caller, namespace.as_ref()).await?;
        let known = Known {
            session: session.id.clone(),
            namespace,
            said,
            answer: answer.clone(),
        };
        self.known_rights.table().push(known);
        Ok(answer)
    }

    /// Whether the caller may end the sessions of others.
    async fn is_admin(&self, caller: &B::Caller) -> Result<bool, Failure> {
        let namespace = Name::parse(&self.settings.namespace);
        let access = Access {
            verb: "delete",
            group: "kubevirt.io",
            resource: "kubevirts",
            subresource: "",
            namespace: namespace.as_ref(),
            name: None,
        };
        self.backend.may(caller, access).await
    }

    /// The caller's sessions, and those of everybody if he may end them.
    pub(crate) async fn list_sessions(
        &self,
        session: &Session<B::Caller>,
    ) -> Result<Value, Failure> {
        let all = self.is_admin(&session.caller).await?;
        let found = self.sessions.all().await?.into_iter();
        let found = found.filter(|(_, entry)| all || entry.user.name == session.user.name);
        let found = found.map(|(id, entry)| {
            json!({
                "user": entry.user.name, "since": time(entry.since), "seen": time(entry.seen),
                "mine": id == session.id, "id": id,
            })
        });
        Ok(Value::Array(found.collect()))
    }

    pub(crate) async fn end_session(
        &self,
        session: &Session<B::Caller>,
        id: &str,
    ) -> Result<(), Failure> {
        let all = self.sessions.all().await?;
        let own = all
            .get(id)
            .is_some_and(|entry| entry.user.name == session.user.name);
        if !own && !self.is_admin(&session.caller).await? {
            return Err(Failure::new(
                403,
                "only who may delete kubevirts of the installation may end the sessions of others",
            ));
        }
        let Some(entry) = all.get(id) else {
            return Err(Failure::new(404, format!("session {id:?} is not there")));
        };
        tracing::info!(
            user = session.user.name,
            of = entry.user.name,
            "ended a session of the console"
        );
        self.sessions.close(id).await
    }
}
