//! What keeps other pages out: the headers of every answer, the origin of every request that changes something, and the cookie.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Name of the cookie. Browsers take one of this name over HTTPS only.
const COOKIE_NAME: &str = "__Secure-catamaran-console";
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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

/// Whether our own page sends a request. Browsers name the origin with every request that is neither GET nor HEAD.
pub(crate) fn from_our_page(headers: &HeaderMap) -> bool {
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    match (one(ORIGIN), one(HOST)) {
        (Some(origin), Some(host)) => origin
            .strip_prefix("https://")
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host)),
        _ => false,
    }
}

/// The session's id in the cookie.
pub(crate) fn session(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, id)| id)
}

/// Gives the browser the session's id, for as long as the browser runs.
pub(crate) fn give(id: &str) -> String {
    format!("{COOKIE_NAME}={id}; Path=/console; HttpOnly; Secure; SameSite=Strict")
}

/// Takes it away.
pub(crate) fn take() -> String {
    format!("{}; Max-Age=0", give(""))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;
    use axum::http::header::{COOKIE, HOST, HeaderName, ORIGIN};

    use super::{from_our_page, give, session, take};

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn only_our_own_origin_may_change_something() {
        let ours =
            |origin: &str| from_our_page(&headers(&[(HOST, "c.example:8443"), (ORIGIN, origin)]));
        assert!(ours("https://c.example:8443"));
        assert!(!ours("http://c.example:8443"));
        assert!(!ours("https://c.example"));
        assert!(!ours("https://evil.example"));
        assert!(!ours("https://c.example:8443.evil.example"));
        assert!(!ours("null"));
        assert!(!from_our_page(&headers(&[(HOST, "c.example:8443")])));
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        for word in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/console"] {
            assert!(give("1").split("; ").any(|part| part == word), "{word}");
            assert!(take().split("; ").any(|part| part == word), "{word}");
        }
        assert!(take().ends_with("Max-Age=0"));
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let cookies = headers(&[(COOKIE, "a=b; __Secure-catamaran-console=42; c=d")]);
        assert_eq!(session(&cookies), Some("42"));
        assert_eq!(session(&headers(&[(COOKIE, "a=b")])), None);
    }
}
