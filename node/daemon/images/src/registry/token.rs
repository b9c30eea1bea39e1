//! Logging in: HTTP Basic, or a bearer token from the server that the registry names (distribution spec, token authentication).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::guard::Origin;
use super::{chain, transient};
use crate::auth::{Credential, Secret};

/// Larger token answers are refused.
const MAX_ANSWER: usize = 64 << 10;

/// Why there is no header.
pub(super) enum TokenError {
    /// The credential was not accepted.
    Refused,
    /// May pass.
    Transient(String),
    /// Will not pass.
    Final(String),
}

/// The `Authorization` header for a challenge; `None` where the challenge is Basic and there is no credential.
pub(super) async fn header(
    http: &Client,
    origin: &Origin,
    repository: &str,
    challenge: &str,
    credential: Option<&Credential>,
) -> Result<Option<HeaderValue>, TokenError> {
    let wrong = |what: &str| {
        TokenError::Final(format!(
            "it asks for a login that is not understood ({what})"
        ))
    };
    if let Some(Secret::Token(token)) = credential.map(|c| &c.secret) {
        return sensitive(&format!("Bearer {token}")).map(Some);
    }
    let basic = credential.map(|c| match &c.secret {
        Secret::Password { user, password } => {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        }
        Secret::Token(token) => format!("Bearer {token}"),
    });
    let challenges =
        http_auth::parse_challenges(challenge).map_err(|_| wrong("malformed challenge"))?;
    let Some(bearer) = challenges
        .iter()
        .find(|c| c.scheme.eq_ignore_ascii_case("Bearer"))
    else {
        if challenges
            .iter()
            .any(|c| c.scheme.eq_ignore_ascii_case("Basic"))
        {
            return basic.as_deref().map(sensitive).transpose();
        }
        return Err(wrong("neither Basic nor Bearer"));
    };
    let parameter = |name: &str| {
        bearer
            .params
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_unescaped())
    };
    let realm = parameter("realm").ok_or_else(|| wrong("no realm"))?;
    let mut url = Url::parse(&realm).map_err(|_| wrong("realm is not a URL"))?;
    origin.check(&url).map_err(TokenError::Final)?;
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = parameter("service") {
            query.append_pair("service", &service);
        }
        // Always exactly what is needed, whatever scope the registry suggests.
        query.append_pair("scope", &format!("repository:{repository}:pull"));
    }
    let mut request = http.get(url);
    if let Some(basic) = &basic {
        request = request.header(AUTHORIZATION, sensitive(basic)?);
    }
    let failed = |error: reqwest::Error| {
        if error.is_redirect() {
            TokenError::Final(chain(&error))
        } else {
            TokenError::Transient(format!("its token server: {}", chain(&error)))
        }
    };
    let mut response = request.send().await.map_err(failed)?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(TokenError::Refused),
        status if transient(status) => {
            return Err(TokenError::Transient(format!(
                "its token server answered {status}"
            )));
        }
        status => {
            return Err(TokenError::Final(format!(
                "its token server answered {status}"
            )));
        }
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(TokenError::Final(format!(
                "its token server answers with more than {MAX_ANSWER} bytes"
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|_| TokenError::Final("its token server's answer is not understood".to_owned()))?;
    let token = answer
        .token
        .or(answer.access_token)
        .ok_or_else(|| TokenError::Final("its token server gives no token".to_owned()))?;
    sensitive(&format!("Bearer {token}")).map(Some)
}

fn sensitive(text: &str) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        TokenError::Final("a credential has characters that HTTP does not allow".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}
