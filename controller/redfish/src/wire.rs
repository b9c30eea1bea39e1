//! One HTTP exchange with a BMC, with a timeout and a limit for the answer's size. No retries, no sessions.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;

use crate::address::Address;
use crate::error::Error;
use crate::message::shortened;
use crate::tls::{Fingerprint, Trust, config};

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");

/// Makes connections to BMCs; shared by all of them, so that trust settings are loaded once.
#[derive(Debug, Default)]
pub struct Connector {
    clients: Mutex<HashMap<(Trust, Duration), Client>>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Authorization {
    Nobody,
    Token(String),
    Basic { username: String, password: String },
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Path, with a query where a link has one.
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    pub(crate) if_match: Option<String>,
}

/// How one exchange is made.
pub(crate) struct Manner<'a> {
    pub(crate) authorization: &'a Authorization,
    pub(crate) timeout: Duration,
    pub(crate) answer_bytes: usize,
    /// Ask for an uncompressed answer: compression turns ETags weak.
    pub(crate) identity: bool,
    /// Leave the connection open for the next request.
    pub(crate) keep_alive: bool,
}

/// An answer, whatever its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) etag: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// `Null` where the body is empty or no JSON.
    pub(crate) body: Value,
    /// The start of a body that is no JSON.
    pub(crate) text: String,
    /// Length of the body.
    pub(crate) bytes: usize,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub(crate) fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self {
            method,
            path: path.into(),
            body,
            if_match: None,
        }
    }

    /// The method's name, which lives as long as the program.
    pub(crate) fn verb(&self) -> &'static str {
        match self.method {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "request",
        }
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Connector {
    /// A connector without any connection yet.
    #[must_use]
    pub fn new() -> Self {
        // An error means that somebody chose a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::default()
    }

    /// The HTTP client for this trust.
    ///
    /// # Errors
    /// [`Error::Settings`] when the authority's certificates can't be used.
    pub(crate) fn client(&self, trust: &Trust, connect: Duration) -> Result<Client, Error> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (trust.clone(), connect);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(trust, connect, false)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// The fingerprint of the certificate that a BMC shows: for a person to compare, then to pin. Sends no credentials.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::Timeout`], and [`Error::Tls`] when there is no TLS or none of a version that is spoken.
    pub async fn fingerprint(
        &self,
        address: &Address,
        timeout: Duration,
    ) -> Result<Fingerprint, Error> {
        let client = build(&Trust::Insecure, timeout, true)?;
        let path = "/redfish/v1/";
        let response = client
            .get(address.base.join(path).expect("a fixed path joins"))
            .header(CONNECTION, "close")
            .timeout(timeout)
            .send()
            .await
            .map_err(|error| failure(&error, &address.to_string(), "GET", path, timeout))?;
        let info: Option<&TlsInfo> = response.extensions().get();
        info.and_then(TlsInfo::peer_certificate)
            .map(Fingerprint::of)
            .ok_or_else(|| Error::Tls {
                bmc: address.to_string(),
                detail: "there is no certificate, since the address is plain HTTP".to_owned(),
            })
    }
}

fn build(trust: &Trust, connect: Duration, info: bool) -> Result<Client, Error> {
    let builder = Client::builder()
        .connect_timeout(connect)
        // Followed by nobody: credentials would go along.
        .redirect(Policy::none())
        .no_proxy()
        .http1_only()
        .user_agent(concat!("catamaran/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(Duration::from_secs(10))
        .tls_info(info)
        .tls_backend_preconfigured(config(trust)?);
    builder
        .build()
        .map_err(|error| Error::Settings(chain(&error)))
}

/// Sends one request and reads the whole answer.
pub(crate) async fn exchange(
    client: &Client,
    base: &Url,
    bmc: &str,
    request: &Request,
    manner: &Manner<'_>,
) -> Result<Answer, Error> {
    let whole = async {
        let failed = |error: reqwest::Error| {
            failure(&error, bmc, request.verb(), &request.path, manner.timeout)
        };
        let url = target(base, bmc, &request.path)?;
        let mut sending = client
            .request(request.method.clone(), url)
            .headers(headers(request, manner));
        if let Some(body) = &request.body {
            sending = sending.body(body.to_string());
        }
        let mut response = sending.send().await.map_err(failed)?;
        let bytes = body(&mut response, bmc, request, manner.answer_bytes, failed).await?;
        Ok(answer(&response, &bytes))
    };
    match tokio::time::timeout(manner.timeout, whole).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout {
            bmc: bmc.to_owned(),
            method: request.verb(),
            path: request.path.clone(),
            after: manner.timeout,
        }),
    }
}

/// The URL of a path, which must stay on the BMC: links come from there, and credentials must not go anywhere else.
fn target(base: &Url, bmc: &str, path: &str) -> Result<Url, Error> {
    let url = base.join(path).ok().filter(|url| {
        url.origin() == base.origin() && url.username().is_empty() && url.password().is_none()
    });
    url.ok_or_else(|| Error::Unexpected {
        bmc: bmc.to_owned(),
        path: shortened(path),
        what: "a link that leads away from the BMC is not followed".to_owned(),
    })
}

fn headers(request: &Request, manner: &Manner<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ODATA_VERSION, HeaderValue::from_static("4.0"));
    if manner.identity {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if !manner.keep_alive {
        // BMCs choke on connections that stay.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if request.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let text = |text: &str| {
        HeaderValue::from_str(text).map(|mut value| {
            value.set_sensitive(true);
            value
        })
    };
    let authorization = match manner.authorization {
        Authorization::Nobody => None,
        Authorization::Token(token) => Some((TOKEN, text(token))),
        Authorization::Basic { username, password } => {
            let encoded = BASE64.encode(format!("{username}:{password}"));
            Some((AUTHORIZATION, text(&format!("Basic {encoded}"))))
        }
    };
    if let Some((name, Ok(value))) = authorization {
        headers.insert(name, value);
    }
    if let Some(Ok(value)) = request.if_match.as_deref().map(HeaderValue::from_str) {
        headers.insert(IF_MATCH, value);
    }
    headers
}

async fn body(
    response: &mut Response,
    bmc: &str,
    request: &Request,
    limit: usize,
    failed: impl Fn(reqwest::Error) -> Error,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(&failed)? {
        if bytes.len() + chunk.len() > limit {
            return Err(Error::Unexpected {
                bmc: bmc.to_owned(),
                path: request.path.clone(),
                what: format!("the answer is longer than {limit} bytes"),
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn answer(response: &Response, bytes: &[u8]) -> Answer {
    let text = |name: &HeaderName| {
        let value = response.headers().get(name)?;
        Some(value.to_str().ok()?.to_owned())
    };
    let body: Option<Value> = serde_json::from_slice(bytes).ok();
    Answer {
        status: response.status().as_u16(),
        etag: text(&ETAG),
        location: text(&LOCATION),
        token: text(&TOKEN),
        retry_after: text(&RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
        text: match &body {
            Some(_) => String::new(),
            None => shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(4096)])),
        },
        body: body.unwrap_or_default(),
        bytes: bytes.len(),
    }
}

/// What a failed exchange means.
fn failure(
    error: &reqwest::Error,
    bmc: &str,
    method: &'static str,
    path: &str,
    after: Duration,
) -> Error {
    if let Some(tls) = tls_error(error) {
        return Error::Tls {
            bmc: bmc.to_owned(),
            detail: tls,
        };
    }
    // A connection that can't be made in time is no different from one that is refused.
    if error.is_timeout() && !error.is_connect() {
        return Error::Timeout {
            bmc: bmc.to_owned(),
            method,
            path: path.to_owned(),
            after,
        };
    }
    Error::Unreachable {
        bmc: bmc.to_owned(),
        path: path.to_owned(),
        detail: if error.is_timeout() {
            "the connection was not made in time".to_owned()
        } else {
            chain(error)
        },
        sent: !error.is_connect(),
    }
}

/// The TLS error below, if that is what failed.
fn tls_error(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(match tls {
            rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
                other.0.to_string()
            }
            rustls::Error::InvalidMessage(_) => "the other side does not speak TLS".to_owned(),
            other => other.to_string(),
        });
    }
    // The source of an io::Error is that of what it holds: what it holds would be passed over.
    let held = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match held {
        Some(held) => tls_error(held),
        None => tls_error(error.source()?),
    }
}

/// The innermost of an error's causes: the outer ones say the same with more words, and the URL.
fn chain(error: &dyn StdError) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        last = error.to_string();
        next = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_on_the_bmc_and_odd_characters_are_quoted() {
        let base = Url::parse("https://192.0.2.7:8443/").unwrap();
        let url = |path: &str| target(&base, "bmc", path).map(|url| url.to_string());
        assert_eq!(
            url("/redfish/v1/Systems/a b").unwrap(),
            "https://192.0.2.7:8443/redfish/v1/Systems/a%20b"
        );
        assert_eq!(
            url("https://192.0.2.7:8443/x").unwrap(),
            "https://192.0.2.7:8443/x"
        );
        for away in [
            "//198.51.100.1/x",
            "http://192.0.2.7:8443/x",
            "https://me@192.0.2.7:8443/x",
        ] {
            assert!(url(away).is_err(), "{away}");
        }
    }
}
