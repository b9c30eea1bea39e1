//! From a request to its answer.

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::{Backend, Failure, Kind, Name, Verb};
use crate::files::Files;
use crate::guard;
use crate::sessions::{Session, Sessions, Use};

/// Longest body of a request, bytes: a token.
const BODY_BYTES: usize = 16 * 1024;

/// The console.
pub struct Console<B: Backend> {
    backend: B,
    files: Files,
    sessions: Sessions<B::Caller>,
}

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// What is asked of the API below `/console/api/`.
enum Asked {
    Login,
    Logout,
    Session,
    List(Kind, Option<Name>),
    Watch(Kind, Option<Name>, u64),
    Act(Name, Name, Verb),
}

impl<B: Backend> Console<B> {
    /// A console without sessions.
    #[must_use]
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            files: Files::embedded(),
            sessions: Sessions::new(),
        }
    }

    /// Whether a path is the console's.
    #[must_use]
    pub fn owns(path: &str) -> bool {
        path == "/console" || path.starts_with("/console/")
    }

    /// Answers a request to a path that [`Console::owns`] names.
    pub async fn answer(&self, request: Request) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let mut response = match path.strip_prefix("/console/") {
            None => moved(),
            Some(below) => match below.strip_prefix("api/") {
                Some(asked) => {
                    let answer = Box::pin(self.take(asked, request)).await;
                    answer.unwrap_or_else(|failure| refused(&failure))
                }
                None => self.file(below, &request),
            },
        };
        guard::protect(response.headers_mut());
        tracing::debug!(path, status = response.status().as_u16(), "console");
        response
    }

    fn file(&self, path: &str, request: &Request) -> Response<Body> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return refused(&Failure::new(405, "only GET and HEAD are answered here"));
        }
        self.files
            .answer(path, request.headers())
            .unwrap_or_else(|| refused(&Failure::new(404, "no such page")))
    }

    async fn take(&self, path: &str, request: Request) -> Result<Response<Body>, Failure> {
        let asked = Asked::parse(request.method(), path, request.uri().query())?;
        let reads = request.method() == Method::GET;
        if !reads && !guard::from_our_page(request.headers()) {
            return Err(Failure::new(403, "Origin: is not that of the console"));
        }
        if matches!(asked, Asked::Login) {
            return self.login(request).await;
        }
        let id = guard::session(request.headers()).unwrap_or_default();
        let using = match asked {
            Asked::Watch(..) => Use::DoesNotCount,
            _ => Use::Counts,
        };
        let session = self.sessions.find(id, using, Instant::now());
        let session = session.ok_or_else(|| Failure::new(401, "log in first"))?;
        let done = self.act(asked, id, &session).await;
        if let Err(Failure { status: 401, .. }) = &done {
            self.sessions.close(id);
        }
        done
    }

    async fn login(&self, request: Request) -> Result<Response<Body>, Failure> {
        let former = guard::session(request.headers()).map(ToOwned::to_owned);
        let body = Limited::new(request.into_body(), BODY_BYTES)
            .collect()
            .await;
        let body = body
            .map_err(|_| Failure::new(413, format!("body: at most {BODY_BYTES} bytes are taken")))?
            .to_bytes();
        // What serde says could repeat a part of the token.
        let login: Login = serde_json::from_slice(&body)
            .map_err(|_| Failure::new(400, "body: must be JSON with a field token"))?;
        let token = login.token.trim();
        if token.is_empty() {
            return Err(Failure::new(400, "token: must not be empty"));
        }
        let (caller, user) = self.backend.login(token).await?;
        if let Some(former) = former {
            self.sessions.close(&former);
        }
        tracing::info!(user = user.name, "logged in to the console");
        let mut response = json_of(StatusCode::OK, &json!(user));
        let id = self.sessions.open(caller, user, Instant::now());
        set_cookie(response.headers_mut(), &guard::give(&id));
        Ok(response)
    }

    async fn act(
        &self,
        asked: Asked,
        id: &str,
        session: &Session<B::Caller>,
    ) -> Result<Response<Body>, Failure> {
        let (caller, user) = (&session.caller, &session.user);
        match asked {
            Asked::Login | Asked::Session => Ok(json_of(StatusCode::OK, &json!(user))),
            Asked::Logout => {
                self.sessions.close(id);
                tracing::info!(user = user.name, "logged out of the console");
                let mut response = json_of(StatusCode::OK, &json!({}));
                set_cookie(response.headers_mut(), &guard::take());
                Ok(response)
            }
            Asked::List(kind, namespace) => {
                let body = self.backend.list(caller, kind, namespace.as_ref()).await?;
                Ok(stream(body))
            }
            Asked::Watch(kind, namespace, version) => {
                let body = self
                    .backend
                    .watch(caller, kind, namespace.as_ref(), version)
                    .await?;
                Ok(stream(until_the_end(body, session)))
            }
            Asked::Act(namespace, name, verb) => {
                tracing::info!(
                    user = user.name,
                    vm.namespace = %namespace,
                    vm.name = %name,
                    verb = verb.word(),
                    "console"
                );
                self.backend.act(caller, &namespace, &name, verb).await?;
                Ok(json_of(StatusCode::OK, &json!({})))
            }
        }
    }
}

impl Asked {
    fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, Failure> {
        let words: Vec<_> = path.split('/').collect();
        let (asked, needs) = match words[..] {
            ["login"] => (Self::Login, Method::POST),
            ["logout"] => (Self::Logout, Method::POST),
            ["session"] => (Self::Session, Method::GET),
            ["list", plural] => {
                let namespace = namespace(query)?;
                (Self::List(kind(plural)?, namespace), Method::GET)
            }
            ["watch", plural, version] => {
                let version = version
                    .parse()
                    .map_err(|_| Failure::new(400, "resource version: must be a number"))?;
                let namespace = namespace(query)?;
                (Self::Watch(kind(plural)?, namespace, version), Method::GET)
            }
            ["machines", namespace, machine, verb] => {
                let verb = Verb::parse(verb).ok_or_else(|| {
                    Failure::new(404, "verb: must be one of start, stop, restart")
                })?;
                let (namespace, machine) = (name(namespace)?, name(machine)?);
                (Self::Act(namespace, machine, verb), Method::POST)
            }
            _ => return Err(Failure::new(404, "no such request")),
        };
        if *method == needs {
            Ok(asked)
        } else {
            Err(Failure::new(405, format!("only {needs} is answered here")))
        }
    }
}

fn kind(plural: &str) -> Result<Kind, Failure> {
    Kind::parse(plural).ok_or_else(|| {
        Failure::new(
            404,
            "kind: must be one of virtualmachines, virtualmachineinstances",
        )
    })
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::parse(text).ok_or_else(|| {
        Failure::new(
            400,
            "name: must have lower case letters, digits, '-' and '.' only",
        )
    })
}

/// `namespace=NAME`, or nothing for all of them.
fn namespace(query: Option<&str>) -> Result<Option<Name>, Failure> {
    match query.unwrap_or_default() {
        "" => Ok(None),
        query => match query.strip_prefix("namespace=") {
            Some(text) => name(text).map(Some),
            None => Err(Failure::new(
                400,
                "query: must be namespace=NAME or nothing",
            )),
        },
    }
}

/// A stream ends with its session: when it is closed, or expires without being used.
fn until_the_end<C>(body: Body, session: &Session<C>) -> Body {
    let (ended, expires) = (session.ended.clone(), session.expires());
    Body::from_stream(body.into_data_stream().take_until(async move {
        tokio::select! {
            () = ended.cancelled_owned() => {}
            () = tokio::time::sleep_until(expires.into()) => {}
        }
    }))
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

fn refused(failure: &Failure) -> Response<Body> {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = json_of(status, &json!({"message": failure.message}));
    if status == StatusCode::UNAUTHORIZED {
        set_cookie(response.headers_mut(), &guard::take());
    }
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
