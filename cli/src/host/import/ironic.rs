//! Reads an Ironic: microversion, authentication, pages. Changes nothing there.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::{Node, Port};

/// The version that is asked for: inventories are told since then.
const WANTED: Version = Version(1, 81);
/// The least that will do: whole nodes are listed since then.
const LEAST: Version = Version(1, 43);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

const VERSION: &str = "x-openstack-ironic-api-version";
const MINIMUM: &str = "x-openstack-ironic-api-minimum-version";
const MAXIMUM: &str = "x-openstack-ironic-api-maximum-version";

/// An Ironic can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IronicError {
    /// The URL is none.
    #[error("--from-ironic {url:?}: {why}")]
    Url {
        /// As it was typed.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was not reached, or broke off.
    #[error("Ironic at {url} can't be read")]
    Request {
        /// Of the request.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It said no.
    #[error("Ironic at {url} refused: {status}{said}{advice}")]
    Refused {
        /// Of the request.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// Its words, behind a colon.
        said: String,
        /// What helps, behind a semicolon.
        advice: &'static str,
    },
    /// The answer is none of Ironic's.
    #[error("{url} does not answer as an Ironic does: {why}")]
    Strange {
        /// Of the request.
        url: String,
        /// What is strange.
        why: String,
    },
    /// It is too old or too new.
    #[error(
        "Ironic at {url} speaks the versions {min} to {max} of its API; {LEAST} to {WANTED} are understood"
    )]
    Versions {
        /// Its URL.
        url: String,
        /// Its oldest.
        min: Version,
        /// Its newest.
        max: Version,
    },
}

/// A version of Ironic's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The newest that both understand.
    fn negotiated(min: Self, max: Self) -> Option<Self> {
        let newest = max.min(WANTED);
        (newest >= LEAST && newest >= min).then_some(newest)
    }
}

/// As whom.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Nobody is asked for.
    Nobody,
    /// HTTP basic.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// Of Keystone's.
    Token(String),
}

impl Login {
    fn header(&self) -> Option<(reqwest::header::HeaderName, Result<HeaderValue, String>)> {
        let (name, text) = match self {
            Self::Nobody => return None,
            Self::Basic { user, password } => {
                let pair = BASE64.encode(format!("{user}:{password}"));
                (AUTHORIZATION, format!("Basic {pair}"))
            }
            Self::Token(token) => (
                reqwest::header::HeaderName::from_static("x-auth-token"),
                token.clone(),
            ),
        };
        let value = HeaderValue::from_str(&text).map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Some((
            name,
            value
                .map_err(|_| "a token or password has characters that HTTP can't carry".to_owned()),
        ))
    }
}

/// A connection to an Ironic.
pub(super) struct Ironic {
    client: Client,
    /// Without `/v1` and without a slash at the end.
    base: String,
    headers: HeaderMap,
    version: Version,
}

/// The URL without its version.
fn base(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("must be http://HOST[:PORT] or https://HOST[:PORT]".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials do not belong there; give them by --ironic-user or --ironic-token-file"
                .to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query or fragment has no meaning there".to_owned());
    }
    let whole = url.as_str().trim_end_matches('/');
    Ok(whole
        .strip_suffix("/v1")
        .unwrap_or(whole)
        .trim_end_matches('/')
        .to_owned())
}

impl Ironic {
    /// Asks which versions it speaks, and chooses one. `authority`: PEM.
    pub(super) async fn open(
        url: &str,
        login: &Login,
        authority: Option<&str>,
    ) -> Result<Self, IronicError> {
        let wrong = |why: String| IronicError::Url {
            url: url.to_owned(),
            why,
        };
        let base = base(url).map_err(wrong)?;
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = login.header() {
            headers.insert(name, value.map_err(wrong)?);
        }
        let failed = |source| IronicError::Request {
            url: base.clone(),
            source,
        };
        // Another machine must not be given what this one is logged in to with.
        let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        if let Some(authority) = authority {
            let all = Certificate::from_pem_bundle(authority.as_bytes()).map_err(failed)?;
            builder = builder.tls_certs_only(all);
        }
        let client = builder.build().map_err(failed)?;
        let mut ironic = Self {
            client,
            base,
            headers,
            version: LEAST,
        };
        ironic.negotiate().await?;
        Ok(ironic)
    }

    async fn negotiate(&mut self) -> Result<(), IronicError> {
        // A version that is too old or too new is refused with the same headers.
        let (url, response) = self.send("/v1").await?;
        let told = |name: &str| {
            let text = response.headers().get(name)?.to_str().ok()?;
            Version::parse(text)
        };
        let (Some(min), Some(max)) = (told(MINIMUM), told(MAXIMUM)) else {
            accept(&url, response).await?;
            let why = format!("there is no {MAXIMUM}");
            return Err(IronicError::Strange { url, why });
        };
        self.version =
            Version::negotiated(min, max).ok_or(IronicError::Versions { url, min, max })?;
        Ok(())
    }

    async fn send(&self, path: &str) -> Result<(String, Response), IronicError> {
        let url = format!("{}{path}", self.base);
        let request = self
            .client
            .get(&url)
            .headers(self.headers.clone())
            .header(VERSION, self.version.to_string())
            .header("accept", "application/json");
        match request.send().await {
            Ok(response) => Ok((url, response)),
            Err(source) => Err(IronicError::Request {
                url,
                source: source.without_url(),
            }),
        }
    }

    async fn get(&self, path: &str) -> Result<(String, Value), IronicError> {
        let (url, response) = self.send(path).await?;
        let bytes = accept(&url, response).await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok((url, value)),
            Err(error) => Err(IronicError::Strange {
                url,
                why: error.to_string(),
            }),
        }
    }

    /// All nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, IronicError> {
        self.pages("nodes", "detail=true").await
    }

    /// All ports.
    pub(super) async fn ports(&self) -> Result<Vec<Port>, IronicError> {
        self.pages("ports", "fields=uuid,address,node_uuid,pxe_enabled")
            .await
    }

    /// What an inspection of Ironic's has found; none where there was none, or it is too old to tell.
    pub(super) async fn inventory(&self, node: &str) -> Result<Option<Value>, IronicError> {
        if self.version < WANTED {
            return Ok(None);
        }
        let path = format!("/v1/nodes/{}/inventory", catamaran_client::segment(node));
        match self.get(&path).await {
            Ok((_, mut answer)) => {
                Ok(Some(answer["inventory"].take()).filter(|one| !one.is_null()))
            }
            Err(IronicError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list. The link to the next page says only that there is one: it may name the Ironic by an address that is its own.
    async fn pages<T: DeserializeOwned>(
        &self,
        what: &str,
        query: &str,
    ) -> Result<Vec<T>, IronicError> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut path = format!("/v1/{what}?{query}");
            if let Some(marker) = &marker {
                path.push_str("&marker=");
                path.push_str(&catamaran_client::segment(marker));
            }
            let (url, mut answer) = self.get(&path).await?;
            let strange = |why: String| IronicError::Strange {
                url: url.clone(),
                why,
            };
            let Value::Array(page) = answer[what].take() else {
                return Err(strange(format!("there is no list of {what}")));
            };
            let last = page
                .last()
                .and_then(|one| one["uuid"].as_str())
                .map(str::to_owned);
            for one in page {
                all.push(serde_json::from_value(one).map_err(|error| strange(error.to_string()))?);
            }
            if !answer["next"].is_string() {
                return Ok(all);
            }
            if last.is_none() || last == marker {
                return Err(strange("its pages do not end".to_owned()));
            }
            marker = last;
        }
    }
}

/// The body of an answer that is no refusal.
async fn accept(url: &str, response: Response) -> Result<Vec<u8>, IronicError> {
    let status = response.status();
    let failed = |source: reqwest::Error| IronicError::Request {
        url: url.to_owned(),
        source: source.without_url(),
    };
    let bytes = response.bytes().await.map_err(failed)?;
    if status.is_success() {
        return Ok(bytes.to_vec());
    }
    let advice = match status.as_u16() {
        401 => "; give --ironic-user or --ironic-token-file",
        403 => "; that user may not read nodes",
        301..=308 => "; name the URL that it sends to",
        _ => "",
    };
    Err(IronicError::Refused {
        url: url.to_owned(),
        status,
        said: said(&bytes),
        advice,
    })
}

/// The words of a refusal: a fault as an object, or as text with one in it.
fn said(bytes: &[u8]) -> String {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut fault = body["error_message"].clone();
    if let Some(inner) = fault
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
    {
        fault = inner;
    }
    let words = fault["faultstring"]
        .as_str()
        .or_else(|| fault["description"].as_str())
        .or_else(|| fault.as_str())
        .or_else(|| body["error"]["message"].as_str());
    words.map_or_else(String::new, |words| {
        format!(": {}", catamaran_client::table::printable(words.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_both_know_is_spoken() {
        let chosen = |min, max| Version::negotiated(Version(1, min), Version(1, max));
        assert_eq!(chosen(1, 115), Some(WANTED));
        assert_eq!(chosen(1, 58), Some(Version(1, 58)));
        assert_eq!(chosen(1, 31), None);
        assert_eq!(chosen(90, 115), None);
        assert_eq!(Version::parse("1.115"), Some(Version(1, 115)));
        assert_eq!(Version::parse("latest"), None);
    }

    #[test]
    fn urls_are_taken_with_and_without_their_version() {
        for url in [
            "http://a:6385",
            "http://a:6385/",
            "http://a:6385/v1",
            "http://a:6385/v1/",
        ] {
            assert_eq!(base(url).as_deref(), Ok("http://a:6385"));
        }
        assert_eq!(
            base("https://a/baremetal").as_deref(),
            Ok("https://a/baremetal")
        );
        for (url, said) in [
            ("a:6385", "http://HOST"),
            ("http://u:p@a", "--ironic-user"),
            ("http://a/?b", "query"),
        ] {
            let why = base(url).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn faults_are_read_in_both_their_shapes() {
        let text = br#"{"error_message": "{\"faultcode\": \"Client\", \"faultstring\": \"Node a could not be found.\"}"}"#;
        assert_eq!(said(text), ": Node a could not be found.");
        let object = br#"{"error_message": {"faultstring": "no"}}"#;
        assert_eq!(said(object), ": no");
        let keystone =
            br#"{"error": {"message": "The request you have made requires authentication."}}"#;
        assert_eq!(
            said(keystone),
            ": The request you have made requires authentication."
        );
        assert_eq!(said(b"<html>"), "");
    }
}
