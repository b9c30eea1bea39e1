//! Who comes in, what he may do, and which sessions there are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::{Access, Backend, Failure, Name};
use crate::requests::{Console, Peer, body, json_of, set_cookie};
use crate::rights;
use crate::sessions::{Session, TOKEN_BYTES, Use};
use crate::vault::Vault;
use crate::viewing::time;

/// Longest body of a login, bytes: a token.
const LOGIN_BYTES: usize = 16 * 1024;
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

impl<B: Backend, V: Vault> Console<B, V> {
    pub(crate) async fn login(&self, request: Request) -> Result<Response<Body>, Failure> {
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
