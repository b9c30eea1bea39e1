//! The websocket handshake: subprotocol `plain.kubevirt.io`, binary frames with the bare bytes of the stream.

use axum::body::Body;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::answer::Refusal;

/// The peer's subprotocol.
pub(crate) const PROTOCOL: &str = "plain.kubevirt.io";
/// Longest message that a client may send, bytes. Terminals and VNC clients send far less.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// A websocket on the client's side.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A handshake that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Handshake {
    accept: HeaderValue,
    protocol: bool,
}

impl Handshake {
    /// Reads the client's headers.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        if !has(headers, &UPGRADE, "websocket") || !has(headers, &CONNECTION, "upgrade") {
            return Err(Refusal::bad_request(
                "websocket: the client is not using the websocket protocol: this path is a stream",
            ));
        }
        if !has(headers, &SEC_WEBSOCKET_VERSION, "13") {
            return Err(Refusal::bad_request(
                "websocket: unsupported version: 13 is spoken here",
            ));
        }
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| Refusal::bad_request("websocket: Sec-WebSocket-Key is missing"))?;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|error| Refusal::bad_request(format!("websocket: {error}")))?;
        Ok(Self {
            accept,
            protocol: has(headers, &SEC_WEBSOCKET_PROTOCOL, PROTOCOL),
        })
    }

    /// `101`. A client that offers no subprotocol gets none and is served all the same, as by the peer.
    pub(crate) fn answer(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        }
        response
    }
}

/// The websocket, once the client has switched.
pub(crate) async fn switched(upgrade: OnUpgrade) -> Result<Socket, hyper::Error> {
    let upgraded = upgrade.await?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
}

/// Whether a header's comma-separated list has that word.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::Handshake;

    fn headers(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_handshake_is_that_of_rfc_6455() {
        let answer = Handshake::read(&headers("x, plain.kubevirt.io"))
            .unwrap()
            .answer();
        assert_eq!(answer.status(), 101);
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(
            answer.headers()["sec-websocket-protocol"],
            "plain.kubevirt.io"
        );
    }

    #[test]
    fn a_client_without_our_subprotocol_is_served_without_it() {
        let answer = Handshake::read(&headers("v5.channel.k8s.io"))
            .unwrap()
            .answer();
        assert!(!answer.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn a_plain_request_is_refused() {
        assert_eq!(Handshake::read(&HeaderMap::new()).unwrap_err().0.code, 400);
    }
}
