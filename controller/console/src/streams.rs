//! A browser's websocket, joined with a stream of a machine until either ends, the session ends or the right is taken away.
//!
//! Nothing is buffered beyond one message: a browser that does not read holds up its own stream only.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::SEC_WEBSOCKET_PROTOCOL;
use axum::http::{HeaderMap, HeaderValue, Response};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use crate::backend::{Duplex, Failure};

/// The sub-protocol that we speak.
const PROTOCOL: &str = "catamaran.console.v1";
/// Before a ticket among the sub-protocols.
const TICKET: &str = "ticket.";
/// Longest message of a browser, bytes.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes of one message to a browser.
const CHUNK: usize = 16 * 1024;
/// Longest reason of a farewell, bytes (RFC 6455).
const REASON_BYTES: usize = 123;
/// For the farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two pings: proxies drop what is silent for a minute.
const PING: Duration = Duration::from_secs(25);
/// A browser that is silent so long is gone: it answers each ping.
const SILENCE: Duration = Duration::from_secs(75);

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The guest's side.
    Guest,
    /// What is between us and the guest.
    Lost,
    /// The browser's side.
    Browser,
    /// The web session.
    Session,
    /// The right was taken away.
    Right(String),
    /// The ticket is not good.
    Ticket(String),
    /// There is nothing to be connected with.
    NotRunning(String),
}

impl End {
    /// Code of the farewell.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Guest | Self::Browser => 1000,
            Self::Lost => 1012,
            Self::Session => 4001,
            Self::Right(_) => 4003,
            Self::Ticket(_) => 4008,
            Self::NotRunning(_) => 4404,
        }
    }

    /// Reason of the farewell.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Guest => "the machine has ended the stream",
            Self::Lost => "the connection to the machine was lost",
            Self::Browser => "the browser has ended the stream",
            Self::Session => "the session has ended: log in again",
            Self::Right(words) | Self::Ticket(words) | Self::NotRunning(words) => words,
        }
    }

    fn frame(&self) -> CloseFrame {
        let mut reason = self.reason();
        while reason.len() > REASON_BYTES {
            let cut = reason.char_indices().next_back().map_or(0, |(at, _)| at);
            reason = &reason[..cut];
        }
        CloseFrame {
            code: CloseCode::from(self.code()),
            reason: reason.into(),
        }
    }
}

impl From<Failure> for End {
    /// What a refusal of the stream means.
    fn from(failure: Failure) -> Self {
        match failure.status {
            401 => Self::Session,
            403 => Self::Right(failure.message),
            // The node's daemon has served this ticket before.
            410 => Self::Ticket(failure.message),
            _ => Self::NotRunning(failure.message),
        }
    }
}

/// The ticket among the sub-protocols of a request, if our own protocol is there too.
pub(crate) fn ticket(headers: &HeaderMap) -> Option<&str> {
    let words: Vec<_> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let ours = words.contains(&PROTOCOL);
    let ticket = words.iter().find_map(|word| word.strip_prefix(TICKET));
    ticket.filter(|_| ours)
}

/// The answer to a websocket's handshake, and what comes of it.
pub(crate) fn switch(request: &mut Request) -> Result<(Response<Body>, OnUpgrade), Failure> {
    let mut head = axum::http::Request::new(());
    *head.method_mut() = request.method().clone();
    *head.version_mut() = request.version();
    head.headers_mut().clone_from(request.headers());
    let response = create_response(&head)
        .map_err(|error| Failure::new(400, format!("this path is a websocket: {error}")))?;
    let mut response = response.map(|()| Body::empty());
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    Ok((response, hyper::upgrade::on(request)))
}

/// The browser's side, once it has switched.
pub(crate) async fn switched(
    upgrade: OnUpgrade,
) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, hyper::Error> {
    let upgraded = TokioIo::new(upgrade.await?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Server, Some(config)).await)
}

/// Says farewell.
pub(crate) async fn farewell<W>(socket: &mut WebSocketStream<W>, end: &End)
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(FAREWELL, async {
        socket.send(Message::Close(Some(end.frame()))).await.ok()?;
        // A connection that is dropped with something unread in it loses our farewell.
        while let Some(Ok(_)) = socket.next().await {}
        Some(())
    })
    .await;
}

/// Joins both sides until something ends. `watched` completes when something else than the two sides is the reason; `heard` is called for
/// whatever comes from the browser.
pub(crate) async fn join<W>(
    socket: &mut WebSocketStream<W>,
    guest: Box<dyn Duplex>,
    watched: impl Future<Output = End>,
    heard: impl Fn(&[u8]),
) -> End
where
    W: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sink, mut messages) = socket.split();
    let (mut source, mut drain) = tokio::io::split(guest);
    let to_browser = async {
        let mut buffer = vec![0; CHUNK];
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        loop {
            let message = tokio::select! {
                _ = pings.tick() => Message::Ping("still there?".into()),
                read = source.read(&mut buffer) => match read {
                    Ok(count @ 1..) => Message::binary(buffer[..count].to_vec()),
                    Ok(_) => return End::Guest,
                    Err(_) => return End::Lost,
                },
            };
            if sink.send(message).await.is_err() {
                return End::Browser;
            }
        }
    };
    let from_browser = async {
        loop {
            let bytes = match timeout(SILENCE, messages.next()).await {
                Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
                Ok(Some(Ok(Message::Text(text)))) => text.into(),
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return End::Browser,
                // Pings are answered by the next read.
                Ok(Some(Ok(_))) => continue,
            };
            heard(&bytes);
            if drain.write_all(&bytes).await.is_err() || drain.flush().await.is_err() {
                return End::Lost;
            }
        }
    };
    tokio::select! {
        end = watched => end,
        end = to_browser => end,
        end = from_browser => end,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use axum::http::HeaderMap;
    use futures::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::{Message, Role};

    use super::{End, REASON_BYTES, farewell, join, ticket};

    #[test]
    fn the_ticket_is_a_sub_protocol_beside_our_own() {
        let found = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-websocket-protocol", value.parse().unwrap());
            ticket(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(
            found("catamaran.console.v1, ticket.abc").as_deref(),
            Some("abc")
        );
        assert_eq!(found("ticket.abc"), None);
        assert_eq!(found("catamaran.console.v1"), None);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let end = End::NotRunning("ä".repeat(200));
        let frame = end.frame();
        assert!(frame.reason.len() <= REASON_BYTES);
        assert_eq!(u16::from(frame.code), 4404);
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_until_the_guest_ends_and_that_is_said() {
        let (near, far) = tokio::io::duplex(1024);
        let mut server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let mut browser = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        let (guest, mut machine) = tokio::io::duplex(1024);
        let typed = Cell::new(0);
        let serve = async {
            let watched = std::future::pending();
            let count = |_: &[u8]| typed.set(typed.get() + 1);
            let end = join(&mut server, Box::new(guest), watched, count).await;
            farewell(&mut server, &end).await;
            end
        };
        let look = async {
            browser.send(Message::binary("uname\n")).await.unwrap();
            let mut heard = [0; 6];
            machine.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"uname\n");
            machine.write_all(b"Linux").await.unwrap();
            assert_eq!(
                browser.next().await.unwrap().unwrap(),
                Message::binary("Linux")
            );
            drop(machine);
            let close = browser.next().await.unwrap().unwrap();
            let Message::Close(Some(frame)) = close else {
                panic!("{close:?}")
            };
            assert_eq!(u16::from(frame.code), 1000);
        };
        let (end, ()) = tokio::join!(serve, look);
        assert_eq!(end, End::Guest);
        assert_eq!(typed.get(), 1);
    }

    #[tokio::test]
    async fn what_watches_ends_a_stream_whose_sides_are_silent() {
        let (near, _far) = tokio::io::duplex(1024);
        let mut server = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        let (guest, _machine) = tokio::io::duplex(1024);
        let watched = async { End::Session };
        let end = join(&mut server, Box::new(guest), watched, |_: &[u8]| ()).await;
        assert_eq!(end, End::Session);
        assert_eq!(end.code(), 4001);
    }
}
