//! From a request to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::asked::Asked;
use crate::backend::{Access, Backend, Failure, Name};
use crate::deeds::{self, HostWish};
use crate::files::Files;
use crate::guard::{self, Site};
use crate::limit::Limit;
use crate::rights;
use crate::sessions::{Session, Sessions, TOKEN_BYTES, Use};
use crate::tickets::Used;
use crate::vault::Vault;
use crate::viewing::{Viewers, Wish, time};

/// Longest body of a request, bytes: an object.
const BODY_BYTES: usize = 1024 * 1024;
/// Longest body of a login, bytes: a token.
const LOGIN_BYTES: usize = 16 * 1024;
/// How long an answer about rights may be used again.
const RIGHTS: Duration = Duration::from_secs(10);

/// What a console is told of where it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `kubernetes` or `play`.
    pub mode: &'static str,
    /// How one logs in: `token`, `one-time`.
    pub login: &'static [&'static str],
    /// Where it is served.
    pub site: Site,
    /// Namespace of the installation: who may delete its `KubeVirt` may end the sessions of others.
    pub namespace: String,
    /// Streams run here, so that shutdown can wait for them.
    pub tasks: TaskTracker,
}

/// Where a request comes from: an extension of the request. Logins are counted by it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The console.
pub struct Console<B: Backend, V> {
    pub(crate) backend: B,
    pub(crate) settings: Settings,
    pub(crate) sessions: Sessions<B::Caller, V>,
    pub(crate) used: Used,
    pub(crate) viewers: Viewers,
    files: Files,
    limit: Limit,
    rights: std::sync::Mutex<Vec<KnownRights>>,
}

/// Rights of a session, in one namespace or all, as they were said at a moment.
struct KnownRights {
    session: String,
    namespace: Option<Name>,
    said: Instant,
    answer: Value,
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    grace_period_seconds: Option<u32>,
}

impl<B: Backend, V: Vault> Console<B, V> {
    /// A console.
    #[must_use]
    pub fn new(backend: B, vault: V, settings: Settings) -> Self {
        Self {
            backend,
            settings,
            sessions: Sessions::new(vault),
            used: Used::default(),
            viewers: Viewers::default(),
            files: Files::embedded(),
            limit: Limit::default(),
            rights: std::sync::Mutex::default(),
        }
    }

    /// Answers a request to a path that [`owns`] names.
    pub async fn answer(self: &Arc<Self>, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut response = if self.settings.site.is_meant(request.headers()) {
            match path.strip_prefix("/console/") {
                None => moved(),
                Some(below) => match below.strip_prefix("api/") {
                    Some(asked) => {
                        let answer = Box::pin(self.take(asked, request)).await;
                        answer.unwrap_or_else(|failure| self.refused(&failure))
                    }
                    None => self.file(below, &request),
                },
            }
        } else {
            self.refused(&Failure::new(421, "Host: is not a name of this machine"))
        };
        guard::protect(response.headers_mut());
        tracing::debug!(path, status = response.status().as_u16(), "console");
        response
    }

    fn file(&self, path: &str, request: &Request) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return self.refused(&Failure::new(405, "only GET and HEAD are answered here"));
        }
        self.files
            .answer(path, request.headers())
            .unwrap_or_else(|| self.refused(&Failure::new(404, "no such page")))
    }

    async fn take(
        self: &Arc<Self>,
        path: &str,
        request: Request,
    ) -> Result<Response<Body>, Failure> {
        let asked = Asked::parse(request.method(), path, request.uri().query())?;
        let reads = request.method() == Method::GET;
        let site = self.settings.site;
        let origin = site.our_page(request.headers()).map(ToOwned::to_owned);
        if !reads && origin.is_none() {
            return Err(Failure::new(403, "Origin: is not that of the console"));
        }
        match asked {
            Asked::Mode => return Ok(json_of(StatusCode::OK, &self.mode())),
            Asked::Login => return self.login(request).await,
            Asked::Stream => return self.open_stream(request).await,
            _ => {}
        }
        let cookie = site.session(request.headers()).unwrap_or_default();
        let using = match asked {
            // The page does these by itself.
            Asked::List(..) | Asked::Watch(..) | Asked::Rights(..) | Asked::Session => {
                Use::DoesNotCount
            }
            Asked::Question(..) | Asked::Viewers(..) => Use::DoesNotCount,
            _ => Use::Counts,
        };
        let found = self.sessions.find(&self.backend, cookie, using);
        let session = found.await?;
        let origin = origin.unwrap_or_default();
        let done = self.act(asked, &session, request, &origin).await;
        if let Err(Failure { status: 401, .. }) = &done {
            self.sessions.close(&session.id).await?;
        }
        done
    }

    fn mode(&self) -> Value {
        json!({
            "mode": self.settings.mode, "login": self.settings.login,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    async fn login(&self, request: Request) -> Result<Response<Body>, Failure> {
        let from = request.extensions().get::<Peer>().map(|peer| peer.0);
        if let Some(seconds) = self.limit.wait(from, Instant::now()) {
            let words = format!("too many failed logins: try again in {seconds} s");
            let mut response = self.refused(&Failure::new(429, words));
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            return Ok(response);
        }
        let site = self.settings.site;
        let former = site.session(request.headers()).map(ToOwned::to_owned);
        let body = body(request, LOGIN_BYTES).await?;
        // What serde says could repeat a part of the token.
        let login: Login = serde_json::from_slice(&body)
            .map_err(|_| Failure::new(400, "body: must be JSON with a field token"))?;
        let token = login.token.trim();
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
                    self.limit.failed(from, Instant::now());
                }
                return Err(failure);
            }
        };
        if let Some(former) = former {
            let found = self
                .sessions
                .find(&self.backend, &former, Use::DoesNotCount);
            if let Ok(session) = found.await {
                self.sessions.close(&session.id).await?;
            }
        }
        let mut response = json_of(StatusCode::OK, &json!(user));
        let name = user.name.clone();
        let sealed = self.sessions.open(caller, user, token).await?;
        tracing::info!(user = name, "logged in to the console");
        set_cookie(response.headers_mut(), &site.give(&sealed));
        Ok(response)
    }

    async fn act(
        self: &Arc<Self>,
        asked: Asked,
        session: &Session<B::Caller>,
        request: Request,
        origin: &str,
    ) -> Result<Response<Body>, Failure> {
        let (backend, caller) = (&self.backend, &session.caller);
        let ok = |value: &Value| Ok(json_of(StatusCode::OK, value));
        match asked {
            // Answered before.
            Asked::Mode | Asked::Login | Asked::Stream => ok(&json!({})),
            Asked::Session => ok(&json!(session.user)),
            Asked::Logout => {
                self.sessions.close(&session.id).await?;
                tracing::info!(user = session.user.name, "logged out of the console");
                let mut response = json_of(StatusCode::OK, &json!({}));
                set_cookie(response.headers_mut(), &self.settings.site.take());
                Ok(response)
            }
            Asked::Sessions => ok(&self.list_sessions(session).await?),
            Asked::EndSession(id) => {
                self.end_session(session, &id).await?;
                ok(&json!({}))
            }
            Asked::Rights(namespace) => ok(&self.rights_of(session, namespace).await?),
            Asked::List(place) => Ok(stream(backend.list(caller, &place).await?)),
            Asked::Watch(place, version) => {
                let body = backend.watch(caller, &place, version).await?;
                Ok(stream(self.until_the_end(body, session)))
            }
            Asked::Get(place) => ok(&backend.get(caller, &place).await?),
            Asked::Create(place, dry_run) => {
                let object = body(request, BODY_BYTES).await?;
                if !dry_run {
                    self.audit(
                        session,
                        "create",
                        place.namespace.as_ref(),
                        place.kind.plural,
                    );
                }
                let mut made = backend.create(caller, &place, object, dry_run).await?;
                if place.kind.plural == "secrets" {
                    // Credentials never come back to a browser.
                    made = json!({"metadata": {
                        "name": made["metadata"]["name"], "namespace": made["metadata"]["namespace"],
                    }});
                }
                Ok(json_of(StatusCode::CREATED, &made))
            }
            Asked::Replace(place, dry_run) => {
                let object = body(request, BODY_BYTES).await?;
                if !dry_run {
                    let name = place.name.as_ref().map_or("", Name::as_str);
                    self.audit(session, "replace", place.namespace.as_ref(), name);
                }
                ok(&backend.replace(caller, &place, object, dry_run).await?)
            }
            Asked::Delete(place) => {
                let name = place.name.as_ref().map_or("", Name::as_str);
                self.audit(session, "delete", place.namespace.as_ref(), name);
                backend.delete(caller, &place).await?;
                ok(&json!({}))
            }
            Asked::Act(namespace, name, verb) => {
                let options: Options = optional(request).await?;
                let grace = options.grace_period_seconds;
                self.audit(session, verb.word(), Some(&namespace), name.as_str());
                backend.act(caller, &namespace, &name, verb, grace).await?;
                ok(&json!({}))
            }
            Asked::Question(namespace, name, question) => {
                let answer = backend.ask(caller, &namespace, &name, question).await?;
                let mut response = stream(answer);
                let kind = HeaderValue::from_static(question.content_type());
                response.headers_mut().insert(CONTENT_TYPE, kind);
                Ok(response)
            }
            Asked::Viewers(namespace, name) => {
                ok(&self.viewers_of(session, &namespace, &name).await?)
            }
            Asked::Ticket(namespace, name) => {
                let wish: Wish = required(request).await?;
                ok(&self
                    .ticket(session, &namespace, &name, &wish, origin)
                    .await?)
            }
            Asked::Node(name, verb) => {
                self.audit(session, verb.word(), None, name.as_str());
                ok(&deeds::to_node(backend, caller, &name, verb).await?)
            }
            Asked::Host(namespace, name) => {
                let wish: HostWish = required(request).await?;
                self.audit(session, "patch", Some(&namespace), name.as_str());
                let place = crate::backend::Place {
                    kind: deeds::hosts()?,
                    namespace: Some(namespace),
                    name: Some(name),
                };
                ok(&backend.patch(caller, &place, &wish.patch()).await?)
            }
        }
    }

    /// A stream ends with its session: when it is closed here or elsewhere, or expires without being used.
    fn until_the_end(self: &Arc<Self>, body: Body, session: &Session<B::Caller>) -> Body {
        let (console, session) = (Arc::clone(self), session.clone());
        let end = async move { console.sessions.end_of(&session).await };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
    }

    fn audit(
        &self,
        session: &Session<B::Caller>,
        verb: &str,
        namespace: Option<&Name>,
        name: &str,
    ) {
        let namespace = namespace.map(Name::as_str).unwrap_or_default();
        let user = session.user.name.as_str();
        tracing::info!(user, namespace, name, verb, "console");
    }

    async fn rights_of(
        &self,
        session: &Session<B::Caller>,
        namespace: Option<Name>,
    ) -> Result<Value, Failure> {
        let known = || {
            let table = self.rights.lock();
            let mut table = table.unwrap_or_else(std::sync::PoisonError::into_inner);
            table.retain(|known| known.said.elapsed() < RIGHTS);
            let found = table
                .iter()
                .find(|known| known.session == session.id && known.namespace == namespace);
            found.map(|known| known.answer.clone())
        };
        if let Some(answer) = known() {
            return Ok(answer);
        }
        let said = Instant::now();
        let answer = rights::of(&self.backend, &session.caller, namespace.as_ref()).await?;
        let known = KnownRights {
            session: session.id.clone(),
            namespace,
            said,
            answer: answer.clone(),
        };
        let table = self.rights.lock();
        let mut table = table.unwrap_or_else(std::sync::PoisonError::into_inner);
        table.push(known);
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
    async fn list_sessions(&self, session: &Session<B::Caller>) -> Result<Value, Failure> {
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

    async fn end_session(&self, session: &Session<B::Caller>, id: &str) -> Result<(), Failure> {
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

    fn refused(&self, failure: &Failure) -> Response<Body> {
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut said = json!({"message": failure.message});
        if !failure.causes.is_empty() {
            said["causes"] = json!(failure.causes);
        }
        let mut response = json_of(status, &said);
        if status == StatusCode::UNAUTHORIZED {
            set_cookie(response.headers_mut(), &self.settings.site.take());
        }
        response
    }
}

/// Whether a path is the console's.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

async fn body(request: Request, limit: usize) -> Result<Bytes, Failure> {
    let body = Limited::new(request.into_body(), limit).collect().await;
    let body =
        body.map_err(|_| Failure::new(413, format!("body: at most {limit} bytes are taken")))?;
    Ok(body.to_bytes())
}

async fn required<T: DeserializeOwned>(request: Request) -> Result<T, Failure> {
    let body = body(request, BODY_BYTES).await?;
    serde_json::from_slice(&body).map_err(|error| Failure::new(400, format!("body: {error}")))
}

async fn optional<T: DeserializeOwned + Default>(request: Request) -> Result<T, Failure> {
    let body = body(request, BODY_BYTES).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| Failure::new(400, format!("body: {error}")))
}

fn stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json_of(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = stream(Body::from(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    response
}

fn moved() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let target = HeaderValue::from_static("/console/");
    response.headers_mut().insert(LOCATION, target);
    response
}

fn set_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.insert(SET_COOKIE, value);
    }
}
