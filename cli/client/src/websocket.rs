//! The client's side of a stream of the aggregated API: a websocket with the subprotocol `plain.kubevirt.io`, as a stream of bytes.

use std::io;

use bytes::Bytes;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _, future};
use hyper::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use tokio_tungstenite::tungstenite::{self};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// Subprotocol of the streams.
const PLAIN: &str = "plain.kubevirt.io";

/// The server does not switch to a stream.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It has not understood our key.
    #[error("its handshake is wrong")]
    Handshake,
    /// The connection ended.
    #[error("the connection ended")]
    Ended(#[from] hyper::Error),
}

/// A stream that is asked for.
#[derive(Debug)]
pub struct Handshake {
    key: String,
}

impl Default for Handshake {
    fn default() -> Self {
        Self {
            key: generate_key(),
        }
    }
}

impl Handshake {
    /// With a key of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What to ask.
    ///
    /// # Errors
    /// When the path is none.
    pub fn request(&self, path: &str) -> Result<Request<()>, hyper::http::Error> {
        Request::get(path)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &self.key)
            .header(SEC_WEBSOCKET_PROTOCOL, PLAIN)
            .body(())
    }

    /// The stream, from an answer of status 101.
    ///
    /// # Errors
    /// When the answer is none to this handshake.
    pub async fn switch<B>(
        self,
        response: Response<B>,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<B>, SwitchError> {
        if !is_handshake(response.headers(), &self.key) {
            return Err(SwitchError::Handshake);
        }
        let upgraded = hyper::upgrade::on(response).await?;
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let (sink, messages) = socket.split();
        let reader = StreamReader::new(bytes_of(messages));
        let writer = SinkWriter::new(CopyToBytes::new(messages_of(sink)));
        Ok(tokio::io::join(reader, writer))
    }
}

/// The server has understood the key: RFC 6455.
fn is_handshake(headers: &HeaderMap, key: &str) -> bool {
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes())
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Bytes of the messages, until the server says farewell. Pings are answered by the reading itself.
fn bytes_of<S>(messages: S) -> impl Stream<Item = io::Result<Bytes>> + Unpin + Send
where
    S: Stream<Item = tungstenite::Result<Message>> + Unpin + Send,
{
    messages
        .take_while(|message| future::ready(!ended(message)))
        .filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Text(text)) => Some(Ok(text.into())),
                Ok(_) => None,
                Err(error) => Some(Err(broken(error))),
            })
        })
}

/// The server has said farewell, or was cut off without a word as a proxy does.
fn ended(message: &tungstenite::Result<Message>) -> bool {
    matches!(
        message,
        Ok(Message::Close(_))
            | Err(tungstenite::Error::ConnectionClosed
                | tungstenite::Error::Protocol(
                    tungstenite::error::ProtocolError::ResetWithoutClosingHandshake
                ))
    )
}

fn messages_of<S>(sink: S) -> impl Sink<Bytes, Error = io::Error> + Unpin + Send
where
    S: Sink<Message, Error = tungstenite::Error> + Unpin + Send,
{
    sink.sink_map_err(broken)
        .with(|bytes: Bytes| future::ready(Ok(Message::Binary(bytes))))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_websocket_is_a_stream_of_bytes() {
        let (near, far) = tokio::io::duplex(1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let (sink, messages) = near.split();
        let mut reader = StreamReader::new(bytes_of(messages));
        let mut writer = SinkWriter::new(CopyToBytes::new(messages_of(sink)));

        writer.write_all(b"uname\n").await.unwrap();
        writer.flush().await.unwrap();
        let heard = far.next().await.unwrap().unwrap();
        assert_eq!(heard, Message::Binary("uname\n".into()));

        far.send(Message::Ping("still there?".into()))
            .await
            .unwrap();
        far.send(Message::Binary("Lin".into())).await.unwrap();
        far.send(Message::Text("ux".into())).await.unwrap();
        far.send(Message::Close(None)).await.unwrap();
        let mut said = String::new();
        reader.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "Linux");
    }
}
