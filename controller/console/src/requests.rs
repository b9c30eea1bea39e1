//! From a request to its answer.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::asked::Asked;
use crate::backend::{Backend, Failure, Name};
use crate::deeds::{self, HostWish};
use crate::files::Files;
use crate::grafana::Grafana;
use crate::guard::{self, Site};
use crate::limit::Limit;
use crate::logins::KnownRights;
use crate::oidc::Oidc;
use crate::open::{Held, Open};
use crate::sessions::{Session, Sessions, Use};
use crate::tickets::Used;
use crate::vault::Vault;
use crate::viewing::{self, Wish};
use crate::words::Keyboard;

/// Longest body of a request, bytes: an object.
const BODY_BYTES: usize = 1024 * 1024;

/// Lists that one session follows at once: a page follows four or five, and people have many tabs.
pub const WATCHES: usize = 200;

/// What a console is told of where it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `kubernetes` or `play`.
    pub mode: &'static str,
    /// How one logs in: `token`, `one-time`; and `oidc` where there is a provider.
    pub login: &'static [&'static str],
    /// The provider at which one may log in.
    pub oidc: Option<Arc<Oidc>>,
    /// The Grafana that pages link to.
    pub grafana: Option<Grafana>,
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
    pub(crate) open: Open,
    watches: Open,
    files: Files,
    pub(crate) limit: Limit,
    pub(crate) known_rights: KnownRights,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    grace_period_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    keyboard: Keyboard,
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
            open: Open::new("consoles", viewing::PER_SESSION),
            watches: Open::new("lists", WATCHES),
            files: Files::embedded(),
            limit: Limit::default(),
            known_rights: KnownRights::default(),
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
        match path {
            "login/oidc" => return self.begin_login(&request.into_parts().0).await,
            "login/callback" => return Ok(self.end_login(&request.into_parts().0).await),
            _ => {}
        }
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
            Asked::HostQuestion(..)
            | Asked::Question(..)
            | Asked::Links
            | Asked::Sessions
            | Asked::Ticket(..) => Use::DoesNotCount,
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
        let mut login = self.settings.login.to_vec();
        login.extend(self.settings.oidc.iter().map(|_| "oidc"));
        json!({
            "mode": self.settings.mode, "login": login,
            "version": env!("CARGO_PKG_VERSION"),
        })
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
            Asked::Links => ok(&json!({"grafana": self.settings.grafana})),
            Asked::Logout => {
                self.sessions.close(&session.id).await?;
                tracing::info!(user = session.user.name, "logged out of the console");
                let mut response = json_of(StatusCode::OK, &json!({}));
                add_cookie(response.headers_mut(), &self.settings.site.take());
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
                let held = self.watches.enter(&session.id);
                let held = held.map_err(|words| Failure::new(429, words))?;
                let body = backend.watch(caller, &place, version).await?;
                Ok(stream(self.until_the_end(body, session, held)))
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
            Asked::HostQuestion(namespace, name, question) => {
                let answer = backend.ask_host(caller, &namespace, &name, question);
                Ok(stream(answer.await?))
            }
            Asked::Hand(namespace, name, viewer) => {
                let Said { keyboard } = required(request).await?;
                self.audit(session, "keyboard", Some(&namespace), name.as_str());
                let handed = backend.hand(caller, &namespace, &name, &viewer, keyboard);
                handed.await?;
                ok(&json!({}))
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
    fn until_the_end(
        self: &Arc<Self>,
        body: Body,
        session: &Session<B::Caller>,
        held: Held,
    ) -> Body {
        let (console, session) = (Arc::clone(self), session.clone());
        let end = async move {
            let _held = held;
            console.sessions.end_of(&session).await;
        };
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

    pub(crate) fn refused(&self, failure: &Failure) -> Response<Body> {
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut said = json!({"message": failure.message});
        if !failure.causes.is_empty() {
            said["causes"] = json!(failure.causes);
        }
        let mut response = json_of(status, &said);
        if status == StatusCode::UNAUTHORIZED {
            add_cookie(response.headers_mut(), &self.settings.site.take());
        }
        response
    }
}

/// Whether a path is the console's.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

pub(crate) async fn body(request: Request, limit: usize) -> Result<Bytes, Failure> {
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

pub(crate) fn json_of(status: StatusCode, value: &Value) -> Response<Body> {
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

pub(crate) fn add_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.append(SET_COOKIE, value);
    }
}
