//! Login at an OpenID Connect provider: the authorization code flow with PKCE.
//!
//! ```text
//!  browser ─ GET login/oidc ─▶ sealed cookie (state, nonce, verifier) and on to the provider
//!  browser ─ GET login/callback?code&state ─▶ code and verifier to the provider ─▶ ID token ─▶ a session with it, as with any bearer token
//! ```
//!
//! The API server must trust the same provider: it checks signature, audience and time of the ID token at the login and at every request. We
//! get it from the provider itself, over TLS, and check that it was made for this login.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Certificate, Client, Request, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::backend::Failure;
use crate::seal::{NoRandom, random_word};

/// How long somebody has to log in at the provider, seconds.
pub(crate) const SECONDS: u64 = 600;
/// How long the provider's own description is believed.
const BELIEVED: Duration = Duration::from_secs(600);
/// For one answer of the provider.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer, bytes.
const ANSWER_BYTES: usize = 256 * 1024;

/// How the console is known to a provider.
#[derive(Clone)]
pub struct OidcConfig {
    /// The provider: `https://…`, as the API server is told in `--oidc-issuer-url`.
    pub issuer: String,
    /// Our name there, which is the audience of its tokens.
    pub client_id: String,
    /// Our password there; a public client has none.
    pub client_secret: Option<String>,
    /// PEM of the authorities to trust instead of the system's.
    pub authorities: Option<String>,
}

impl std::fmt::Debug for OidcConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcConfig")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A provider can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The issuer is no good address.
    #[error("OIDC issuer {0:?}: must be an https:// URL without a query")]
    Issuer(String),
    /// The authorities can't be read.
    #[error("OIDC authorities: must be certificates in PEM")]
    Authorities(#[source] reqwest::Error),
    /// No client can be made.
    #[error("OIDC client")]
    Client(#[source] reqwest::Error),
}

/// What the provider says of itself.
#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: Endpoint,
    token_endpoint: Endpoint,
}

/// An address of the provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
struct Endpoint(Url);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).ok().filter(is_private);
        url.map(Self)
            .ok_or_else(|| format!("{text:?} is no https:// URL"))
    }
}

/// Whether nobody else hears what is said there: tokens travel from there. On this machine nobody does.
fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || matches!(url.host_str(), Some("127.0.0.1" | "localhost"))
}

/// A login that is under way: sealed in a cookie of the browser that began it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begun {
    state: String,
    nonce: String,
    verifier: String,
    /// Where the provider sends the browser back to.
    redirect: String,
    /// When it ends, seconds since 1970.
    ends: u64,
}

/// A provider.
#[derive(Debug)]
pub struct Oidc {
    config: OidcConfig,
    http: Client,
    known: Mutex<Option<(Instant, Metadata)>>,
}

impl Oidc {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub fn new(config: OidcConfig) -> Result<Self, OidcError> {
        let issuer = || OidcError::Issuer(config.issuer.clone());
        let url = Url::parse(&config.issuer).map_err(|_| issuer())?;
        if url.query().is_some() || !is_private(&url) {
            return Err(issuer());
        }
        let mut builder = Client::builder()
            .timeout(ANSWER)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &config.authorities {
            let found =
                Certificate::from_pem_bundle(pem.as_bytes()).map_err(OidcError::Authorities)?;
            builder = builder.tls_certs_only(found);
        }
        Ok(Self {
            http: builder.build().map_err(OidcError::Client)?,
            config,
            known: Mutex::new(None),
        })
    }

    /// Begins a login: what the cookie seals, and where the browser goes.
    pub(crate) async fn begin(&self, redirect: String, now: u64) -> Result<(Begun, Url), Failure> {
        let metadata = self.metadata().await?;
        let begun = Begun::new(redirect, now)
            .map_err(|_| Failure::new(500, "the console has no random numbers"))?;
        let url = begun.url(metadata.authorization_endpoint.0, &self.config.client_id);
        Ok((begun, url))
    }

    /// Ends it: the ID token for what the provider has sent the browser back with.
    pub(crate) async fn finish(
        &self,
        begun: &Begun,
        query: &str,
        now: u64,
    ) -> Result<String, Failure> {
        let code = begun.code(query, now)?;
        let metadata = self.metadata().await?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &begun.redirect),
            ("code_verifier", &begun.verifier),
        ];
        if self.config.client_secret.is_none() {
            form.push(("client_id", &self.config.client_id));
        }
        let mut request = Request::new(reqwest::Method::POST, metadata.token_endpoint.0);
        *request.body_mut() = Some(encoded(&form).into());
        let headers = request.headers_mut();
        let kind = "application/x-www-form-urlencoded";
        headers.insert(
            CONTENT_TYPE,
            reqwest::header::HeaderValue::from_static(kind),
        );
        if let Some(secret) = &self.config.client_secret {
            let pair = format!("{}:{}", escaped(&self.config.client_id), escaped(secret));
            let basic = format!("Basic {}", STANDARD.encode(pair));
            let mut value = reqwest::header::HeaderValue::try_from(basic)
                .map_err(|_| Failure::new(500, "the client's secret fits no header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let answer: Value = self.ask(request).await?;
        let token = answer["id_token"].as_str().unwrap_or_default();
        if begun.is_for(token) {
            Ok(token.to_owned())
        } else {
            let words = "the provider's token is not for this login: try again";
            Err(Failure::new(401, words))
        }
    }

    async fn metadata(&self) -> Result<Metadata, Failure> {
        let mut known = self.known.lock().await;
        if let Some((when, metadata)) = known.as_ref()
            && when.elapsed() < BELIEVED
        {
            return Ok(metadata.clone());
        }
        let issuer = self.config.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration"))
            .map_err(|_| Failure::new(500, "the provider's address is wrong"))?;
        let metadata: Metadata = self.ask(Request::new(reqwest::Method::GET, url)).await?;
        if metadata.issuer != self.config.issuer {
            tracing::warn!(
                issuer = metadata.issuer,
                "the OIDC provider calls itself otherwise"
            );
            return Err(Failure::new(502, "the provider calls itself otherwise"));
        }
        *known = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }

    async fn ask<T: DeserializeOwned>(&self, mut request: Request) -> Result<T, Failure> {
        let json = reqwest::header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let failed = |error: reqwest::Error| {
            // An address may hold a code.
            let error = catamaran_client::chain(&error.without_url());
            tracing::warn!(error, "the OIDC provider did not answer");
            Failure::new(502, "the login provider could not be reached")
        };
        let mut response = self.http.execute(request).await.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES {
                return Err(Failure::new(502, "the login provider says too much"));
            }
        }
        if !response.status().is_success() {
            let said: Value = serde_json::from_slice(&body).unwrap_or_default();
            let why = said["error"].as_str().unwrap_or_default();
            let status = response.status().as_u16();
            tracing::warn!(status, why, "the OIDC provider refused");
            return Err(Failure::new(401, "the login provider refused: try again"));
        }
        serde_json::from_slice(&body)
            .map_err(|_| Failure::new(502, "the login provider's answer could not be read"))
    }
}

impl Begun {
    fn new(redirect: String, now: u64) -> Result<Self, NoRandom> {
        Ok(Self {
            state: random_word()?,
            nonce: random_word()?,
            // 43 characters at least (RFC 7636).
            verifier: random_word()? + &random_word()?,
            redirect,
            ends: now + SECONDS,
        })
    }

    fn url(&self, mut endpoint: Url, client_id: &str) -> Url {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()));
        endpoint.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", &self.redirect),
            ("scope", "openid email profile groups"),
            ("state", &self.state),
            ("nonce", &self.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        endpoint
    }

    /// The code of a callback that belongs to this login.
    fn code(&self, query: &str, now: u64) -> Result<String, Failure> {
        let (mut state, mut code, mut error) = (None, None, None);
        for (name, value) in pairs(query) {
            match name.as_str() {
                "state" => state = Some(value),
                "code" => code = Some(value),
                "error" => error = Some(value),
                _ => {}
            }
        }
        if state.as_deref() != Some(&self.state) || now >= self.ends {
            let words = "this login was not begun here, or too long ago: try again";
            return Err(Failure::new(401, words));
        }
        if let Some(error) = error {
            let words = format!("the login provider said {error:?}");
            return Err(Failure::new(401, words));
        }
        code.ok_or_else(|| Failure::new(400, "code: is missing"))
    }

    /// Whether a token was made for this login. The API server checks everything else.
    fn is_for(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1);
        let claims = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Option<Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
        claims.is_some_and(|claims| claims["nonce"] == self.nonce.as_str())
    }
}

/// Names and values of a query.
fn pairs(query: &str) -> Vec<(String, String)> {
    let url = Url::parse(&format!("http://localhost/?{query}"));
    url.iter()
        .flat_map(|url| url.query_pairs())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// A form's text.
fn encoded(pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("http://localhost/") else {
        return String::new();
    };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// As a form has it.
fn escaped(text: &str) -> String {
    encoded(&[("", text)]).trim_start_matches('=').to_owned()
}

/// Words behind the `#` of an address.
pub(crate) fn fragment(words: &str) -> String {
    escaped(words).replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use reqwest::Url;

    use super::{Begun, Oidc, OidcConfig, SECONDS, fragment};

    fn begun() -> Begun {
        Begun::new(
            "https://c.example/console/api/login/callback".to_owned(),
            100,
        )
        .unwrap()
    }

    #[test]
    fn a_login_has_random_words_of_its_own_and_hides_its_verifier() {
        let (one, other) = (begun(), begun());
        assert_ne!(one.state, other.state);
        assert!((43..=128).contains(&one.verifier.len()));
        let endpoint = Url::parse("https://idp.example/auth?tenant=1").unwrap();
        let url = one.url(endpoint, "catamaran").to_string();
        assert!(url.starts_with("https://idp.example/auth?tenant=1&response_type=code&"));
        assert!(url.contains(&one.state) && url.contains(&one.nonce));
        assert!(!url.contains(&one.verifier));
        assert!(
            url.contains("redirect_uri=https%3A%2F%2Fc.example%2Fconsole%2Fapi%2Flogin%2Fcallback")
        );
    }

    #[test]
    fn a_callback_of_another_login_or_too_late_is_refused() {
        let begun = begun();
        let query = format!("code=abc&state={}&iss=x", begun.state);
        assert_eq!(begun.code(&query, 101).unwrap(), "abc");
        assert_eq!(begun.code(&query, 100 + SECONDS).unwrap_err().status, 401);
        assert_eq!(begun.code("code=abc&state=x", 101).unwrap_err().status, 401);
        assert_eq!(begun.code("code=abc", 101).unwrap_err().status, 401);
        let refused = format!("error=access_denied&state={}", begun.state);
        let failure = begun.code(&refused, 101).unwrap_err();
        assert!(failure.message.contains("access_denied"), "{failure}");
    }

    #[test]
    fn a_token_for_another_nonce_is_refused() {
        let begun = begun();
        let token = |nonce: &str| {
            let claims = serde_json::json!({"sub": "alice", "nonce": nonce}).to_string();
            format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))
        };
        assert!(begun.is_for(&token(&begun.nonce)));
        assert!(!begun.is_for(&token("another")));
        assert!(!begun.is_for("") && !begun.is_for("a.b.c"));
    }

    #[test]
    fn a_provider_without_tls_is_refused() {
        for (issuer, good) in [
            ("https://idp.example", true),
            ("http://127.0.0.1:3000", true),
            ("http://idp.example", false),
            ("idp.example", false),
            ("https://idp.example?x=1", false),
        ] {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let config = OidcConfig {
                issuer: issuer.to_owned(),
                client_id: "catamaran".to_owned(),
                client_secret: Some("hidden".to_owned()),
                authorities: None,
            };
            assert!(!format!("{config:?}").contains("hidden"));
            assert_eq!(Oidc::new(config).is_ok(), good, "{issuer}");
        }
    }

    #[test]
    fn words_in_a_fragment_cannot_end_it() {
        assert_eq!(fragment("no: a&b #c"), "no%3A%20a%26b%20%23c");
    }
}
