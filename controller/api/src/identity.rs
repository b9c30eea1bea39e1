//! Who asks: the API server vouches for the caller by its front-proxy certificate and names him in headers.
//!
//! Source: Kubernetes, "Authenticating Proxy"; the ConfigMap `kube-system/extension-apiserver-authentication`.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// A caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// UID, where the API server passes it on.
    pub uid: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// What authentication added, such as the scopes of a token.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How callers are named, and who may name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    /// PEM of the authority of front-proxy certificates.
    pub(crate) authority: String,
    /// Common names that may vouch; any, if empty.
    allowed_names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

/// The ConfigMap cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("kube-system/extension-apiserver-authentication: {0}")]
pub(crate) struct RequestHeaderError(String);

impl RequestHeader {
    /// From the data of the ConfigMap.
    pub(crate) fn read(data: &BTreeMap<String, String>) -> Result<Self, RequestHeaderError> {
        let list = |key: &str, default: &[&str]| -> Result<Vec<String>, RequestHeaderError> {
            match data.get(key) {
                Some(text) => serde_json::from_str(text).map_err(|error| {
                    RequestHeaderError(format!("{key}: {text:?} is no list of strings: {error}"))
                }),
                None => Ok(default.iter().map(|word| (*word).to_owned()).collect()),
            }
        };
        let authority = data
            .get("requestheader-client-ca-file")
            .cloned()
            .ok_or_else(|| {
                RequestHeaderError(
                    "requestheader-client-ca-file is missing: the API server's aggregation layer is not configured".to_owned(),
                )
            })?;
        Ok(Self {
            authority,
            allowed_names: list("requestheader-allowed-names", &[])?,
            user: list("requestheader-username-headers", &["X-Remote-User"])?,
            uid: list("requestheader-uid-headers", &["X-Remote-Uid"])?,
            group: list("requestheader-group-headers", &["X-Remote-Group"])?,
            extra: list("requestheader-extra-headers-prefix", &["X-Remote-Extra-"])?,
        })
    }

    /// The certificates of the authority.
    pub(crate) fn roots(&self) -> Result<Vec<CertificateDer<'static>>, RequestHeaderError> {
        CertificateDer::pem_slice_iter(self.authority.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| RequestHeaderError(format!("requestheader-client-ca-file: {error}")))
    }

    /// The caller. `proxy`: common name of the client certificate, which TLS has verified; `None` without one.
    pub(crate) fn user(&self, proxy: Option<&str>, headers: &HeaderMap) -> Result<User, String> {
        let Some(proxy) = proxy else {
            return Err("request is not authenticated".to_owned());
        };
        if !self.allowed_names.is_empty() && !self.allowed_names.iter().any(|n| n == proxy) {
            return Err(format!(
                "request is not authenticated: {proxy:?} may not vouch for users"
            ));
        }
        let first = |names: &[String]| {
            names
                .iter()
                .find_map(|name| headers.get(name.as_str()))
                .and_then(|value| value.to_str().ok())
                .filter(|value| !value.is_empty())
                .map(ToOwned::to_owned)
        };
        let name = first(&self.user)
            .ok_or("request is not authenticated: a valid user header is required")?;
        let groups = self
            .group
            .iter()
            .find(|name| headers.contains_key(name.as_str()))
            .map(|name| {
                let values = headers.get_all(name.as_str()).iter();
                values
                    .filter_map(|v| v.to_str().ok())
                    .map(ToOwned::to_owned)
                    .collect()
            })
            .unwrap_or_default();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = self.extra.iter().find_map(|prefix| {
                header
                    .as_str()
                    .strip_prefix(prefix.to_ascii_lowercase().as_str())
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra
                    .entry(unescape(key))
                    .or_default()
                    .push(value.to_owned());
            }
        }
        Ok(User {
            name,
            uid: first(&self.uid),
            groups,
            extra,
        })
    }
}

/// Decodes `%XX`; what is not properly encoded stays as it is.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        if let Some(byte) = hex {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::http::HeaderMap;

    use super::{RequestHeader, User};

    fn config(names: &str) -> RequestHeader {
        let data = [
            ("requestheader-client-ca-file", "PEM"),
            ("requestheader-allowed-names", names),
            (
                "requestheader-extra-headers-prefix",
                r#"["X-Remote-Extra-"]"#,
            ),
        ];
        RequestHeader::read(
            &data
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        )
        .unwrap()
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "alice"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "system:authenticated"),
            (
                "x-remote-extra-authentication.kubernetes.io%2fnode-name",
                "n1",
            ),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_front_proxy_names_the_caller() {
        let user = config(r#"["front-proxy-client"]"#)
            .user(Some("front-proxy-client"), &headers())
            .unwrap();
        assert_eq!(
            user,
            User {
                name: "alice".to_owned(),
                uid: None,
                groups: vec!["dev".to_owned(), "system:authenticated".to_owned()],
                extra: BTreeMap::from([(
                    "authentication.kubernetes.io/node-name".to_owned(),
                    vec!["n1".to_owned()]
                )]),
            }
        );
    }

    #[test]
    fn nobody_else_may_name_callers() {
        let config = config(r#"["front-proxy-client"]"#);
        assert!(config.user(None, &headers()).is_err());
        assert!(config.user(Some("kubelet"), &headers()).is_err());
        assert!(
            config
                .user(Some("front-proxy-client"), &HeaderMap::new())
                .is_err()
        );
    }

    #[test]
    fn an_empty_list_of_names_allows_every_certificate_of_the_authority() {
        assert!(config("[]").user(Some("anyone"), &headers()).is_ok());
    }

    #[test]
    fn a_cluster_without_aggregation_is_named() {
        let error = RequestHeader::read(&BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("aggregation layer"));
    }
}
