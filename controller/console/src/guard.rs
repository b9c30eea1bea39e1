//! What keeps other pages out: the headers of every answer, the origin of every request that changes something, and the cookie.

use std::net::IpAddr;

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Adds what every answer has. An answer that says nothing of caches is kept by none.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Where the console is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Over HTTPS, under any name.
    Https,
    /// On this machine only, over HTTP, under a name of this machine, at a port.
    Loopback(u16),
}

impl Site {
    fn scheme(self) -> &'static str {
        match self {
            Self::Https => "https://",
            Self::Loopback(_) => "http://",
        }
    }

    fn cookie(self) -> String {
        match self {
            // Browsers take one of this name over HTTPS only.
            Self::Https => "__Secure-catamaran-console".to_owned(),
            // Browsers do not tell ports apart, and each may have a console of its own.
            Self::Loopback(port) => format!("catamaran-console-{port}"),
        }
    }

    /// Whether a request is meant for this site: a name that leads to this machine by somebody else's DNS is not.
    pub(crate) fn is_meant(self, headers: &HeaderMap) -> bool {
        if self == Self::Https {
            return true;
        }
        let host = one(headers, &HOST).unwrap_or_default();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// The origin of a request of our own page. Browsers name it with every request that is neither GET nor HEAD, and with websockets.
    pub(crate) fn our_page(self, headers: &HeaderMap) -> Option<&str> {
        let (origin, host) = (one(headers, &ORIGIN)?, one(headers, &HOST)?);
        let authority = origin.strip_prefix(self.scheme())?;
        authority.eq_ignore_ascii_case(host).then_some(origin)
    }

    /// What the session's cookie holds.
    pub(crate) fn session(self, headers: &HeaderMap) -> Option<&str> {
        cookie(headers, &self.cookie())
    }

    /// Gives the browser the session, for as long as the browser runs.
    pub(crate) fn give(self, sealed: &str) -> String {
        let name = self.cookie();
        let secure = match self {
            Self::Https => "; Secure",
            Self::Loopback(_) => "",
        };
        format!("{name}={sealed}; Path=/console; HttpOnly; SameSite=Strict{secure}")
    }

    /// Takes it away.
    pub(crate) fn take(self) -> String {
        format!("{}; Max-Age=0", self.give(""))
    }
}

/// Cookie of a login at a provider that is under way. It comes back with the provider's answer, from another site.
const LOGIN: &str = "__Secure-catamaran-console-login";

/// What the cookie of a login that is under way holds.
pub(crate) fn login(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, LOGIN)
}

/// Gives the browser a login that is under way; nothing takes it away.
pub(crate) fn give_login(sealed: &str, seconds: u64) -> String {
    let seconds = if sealed.is_empty() { 0 } else { seconds };
    format!(
        "{LOGIN}={sealed}; Path=/console/api/login; HttpOnly; SameSite=Lax; Secure; Max-Age={seconds}"
    )
}

fn cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, sealed)| sealed)
}

/// Host of a request.
pub(crate) fn host(headers: &HeaderMap) -> Option<&str> {
    one(headers, &HOST)
}

/// The value of a header that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    value.filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::{COOKIE, HOST, HeaderName, ORIGIN};

    use super::Site;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_our_own_origin_may_change_something() {
        let ours = |site: Site, host: &str, origin: &str| {
            let headers = headers(&[(HOST, host), (ORIGIN, origin)]);
            site.our_page(&headers).is_some()
        };
        let https = |origin| ours(Site::Https, "c.example:8443", origin);
        assert!(https("https://c.example:8443"));
        assert!(!https("http://c.example:8443"));
        assert!(!https("https://c.example"));
        assert!(!https("https://evil.example"));
        assert!(!https("https://c.example:8443.evil.example"));
        assert!(!https("null"));
        assert_eq!(
            Site::Https.our_page(&headers(&[(HOST, "c.example:8443")])),
            None
        );
        assert!(ours(
            Site::Loopback(8188),
            "127.0.0.1:8188",
            "http://127.0.0.1:8188"
        ));
        assert!(!ours(
            Site::Loopback(8188),
            "127.0.0.1:8188",
            "http://127.0.0.1:80"
        ));
    }

    #[test]
    fn a_console_on_this_machine_answers_to_names_of_this_machine_only() {
        let meant = |host: &str| Site::Loopback(8188).is_meant(&headers(&[(HOST, host)]));
        assert!(meant("127.0.0.1:8188") && meant("localhost:8188") && meant("[::1]:8188"));
        assert!(!meant("evil.example:8188") && !meant("192.168.1.1:8188") && !meant(""));
        assert!(!meant("127.0.0.1.evil.example"));
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let has = |site: Site, word: &str| {
            site.give("1").split("; ").any(|part| part == word)
                && site.take().split("; ").any(|part| part == word)
        };
        for word in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
            assert!(
                has(Site::Https, word) && has(Site::Loopback(8188), word),
                "{word}"
            );
        }
        assert!(has(Site::Https, "Secure"));
        assert!(Site::Https.take().ends_with("Max-Age=0"));
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let cookies = headers(&[(COOKIE, "a=b; __Secure-catamaran-console=42; c=d")]);
        assert_eq!(Site::Https.session(&cookies), Some("42"));
        assert_eq!(Site::Https.session(&headers(&[(COOKIE, "a=b")])), None);
    }
}
