//! The way of a request: counted, met by a fault, authorised, answered.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, IF_MATCH};
use hyper::{Request, Response};
use serde_json::Value;

use crate::bmc::Bmc;
use crate::fault::{Effect, meet};
use crate::handle::Record;
use crate::reply::Reply;
use crate::{change, tree};

/// A request as the rest of the mock sees it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Without a slash at its end.
    pub(crate) path: String,
    /// What is behind its question mark.
    pub(crate) query: String,
    pub(crate) if_match: Option<String>,
    /// None: no body.
    pub(crate) body: Option<Value>,
}

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault ends the connection")]
pub(crate) struct Ended;

/// Counts a request as under way, also when its connection is dropped.
struct Flight(Arc<Bmc>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

/// Answers one request.
pub(crate) async fn answer(
    bmc: Arc<Bmc>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Ended> {
    let (head, body) = request.into_parts();
    let method = head.method.as_str().to_owned();
    let path = match head.uri.path().trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    let text = |name| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    let if_match = text(IF_MATCH);
    let content = Limited::new(body, 1 << 20)
        .collect()
        .await
        .map_err(|_| Ended)?
        .to_bytes();
    let json: Option<Value> = serde_json::from_slice(&content).ok();
    let (number, effect, latency) = {
        let mut state = bmc.state();
        state.requests += 1;
        state.in_flight += 1;
        state.most_in_flight = state.most_in_flight.max(state.in_flight);
        let number = state.requests;
        if bmc.options.remember > 0 {
            if state.records.len() == bmc.options.remember {
                state.records.pop_front();
            }
            state.records.push_back(Record {
                number,
                method: method.clone(),
                path: path.to_owned(),
                if_match: if_match.clone(),
                body: json.clone().map(without_password),
                status: None,
            });
        }
        let effect = meet(&mut state.faults, &method, path, number);
        (number, effect, state.latency_ms)
    };
    let _flight = Flight(Arc::clone(&bmc));
    let mut wait = latency;
    let mut lost = false;
    let mut garbage = false;
    let mut reply = None;
    match effect {
        Some(Effect::Status {
            status,
            id,
            text,
            retry_after,
        }) => {
            let error = Reply::error(status, &id, &text);
            reply = Some(match retry_after {
                Some(seconds) => error.with("retry-after", seconds.to_string()),
                None => error,
            });
        }
        Some(Effect::Hang) => std::future::pending::<()>().await,
        Some(Effect::Delay { ms }) => wait += ms,
        Some(Effect::CloseBefore) => return Err(Ended),
        Some(Effect::CloseAfter) => lost = true,
        Some(Effect::Garbage) => garbage = true,
        Some(Effect::Swallow) => reply = Some(Reply::done()),
        Some(Effect::Moved { to }) => {
            let moved = Reply {
                status: 308,
                ..Reply::done()
            };
            reply = Some(moved.with("location", to));
        }
        None => {}
    }
    if wait > 0 {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let reply = reply.unwrap_or_else(|| {
        let is_json = content.is_empty()
            || text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
        let asked = Asked {
            method,
            path: path.to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            if_match,
            body: json,
        };
        route(&bmc, &head.headers, &asked, is_json, !content.is_empty())
    });
    if lost {
        return Err(Ended);
    }
    {
        let mut state = bmc.state();
        let status = Some(reply.status);
        if let Some(record) = state
            .records
            .iter_mut()
            .rev()
            .find(|record| record.number == number)
        {
            record.status = status;
        }
    }
    let mut response = reply.response();
    if garbage {
        *response.body_mut() = Full::new(Bytes::from_static(b"<html>{not json"));
    }
    Ok(response)
}

fn route(
    bmc: &Arc<Bmc>,
    headers: &HeaderMap,
    asked: &Asked,
    is_json: bool,
    has_body: bool,
) -> Reply {
    let open = matches!(asked.path.as_str(), "/redfish" | "/redfish/v1")
        || (asked.method == "POST" && asked.path.ends_with("/SessionService/Sessions"));
    if !open && !is_authorised(bmc, headers) {
        let reply = Reply::error(
            401,
            "Base.1.8.AccessDenied",
            "The authentication credentials were not accepted.",
        );
        return reply.with("www-authenticate", "Basic realm=\"redfish\"");
    }
    if asked.method != "GET" && has_body && !is_json {
        return Reply::error(
            415,
            "Base.1.8.MediaTypeNotSupported",
            "The content type is not application/json.",
        );
    }
    if has_body && asked.body.is_none() {
        return Reply::error(400, "Base.1.8.MalformedJSON", "The body is no JSON.");
    }
    match asked.method.as_str() {
        "GET" | "HEAD" => tree::get(bmc, &asked.path, &asked.query),
        _ => change::change(bmc, asked),
    }
}

fn is_authorised(bmc: &Bmc, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut state = bmc.state();
    if let Some(token) = text("x-auth-token") {
        return state.sessions.accepts(token);
    }
    let basic = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Basic "));
    let decoded = basic.and_then(|basic| BASE64.decode(basic.trim()).ok());
    decoded.is_some_and(|decoded| {
        decoded == format!("{}:{}", state.username, state.password).as_bytes()
    })
}

/// Records are shown to people: no password in them.
fn without_password(mut body: Value) -> Value {
    if let Some(password) = body.get_mut("Password") {
        *password = Value::from("…");
    }
    body
}
