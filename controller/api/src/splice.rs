//! A websocket and a raw stream (or datagrams), joined until either ends.
//!
//! Nothing is buffered beyond one message: a client that does not read holds up its own stream only. A client that answers no ping for a
//! minute is gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How a client is found to be gone.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between two pings.
    ping: Duration,
    /// Silence after which the client is gone.
    silence: Duration,
}

const PACE: Pace = Pace {
    ping: Duration::from_secs(10),
    silence: Duration::from_secs(60),
};
/// For the client's answer to our farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of one message from a stream.
const CHUNK: usize = 10 * 1024;
/// Bytes of the largest datagram.
const DATAGRAM: usize = 64 * 1024;

/// Where bytes come from.
trait Source: Send {
    /// Bytes put into the buffer; `None` at the end.
    fn next(&mut self, buffer: &mut [u8])
    -> impl Future<Output = io::Result<Option<usize>>> + Send;
}

/// Where bytes go.
trait Drain: Send {
    /// Takes all of them.
    fn put(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// No more will come.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl<T: AsyncRead + AsyncWrite + Send> Source for ReadHalf<T> {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(Some(self.read(buffer).await?).filter(|count| *count > 0))
    }
}

impl<T: AsyncRead + AsyncWrite + Send> Drain for WriteHalf<T> {
    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await?;
        self.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.shutdown().await
    }
}

impl Source for Arc<UdpSocket> {
    async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(Some(self.recv(buffer).await?))
    }
}

impl Drain for Arc<UdpSocket> {
    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes).await.map(drop)
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Joins a websocket with a stream.
pub(crate) async fn stream<W, T>(socket: WebSocketStream<W>, stream: T)
where
    W: AsyncRead + AsyncWrite + Unpin + Send,
    T: AsyncRead + AsyncWrite + Send,
{
    let (source, drain) = tokio::io::split(stream);
    join(socket, source, drain, CHUNK, PACE).await;
}

/// Joins a websocket with datagrams, one for each message.
pub(crate) async fn datagrams<W>(socket: WebSocketStream<W>, peer: UdpSocket)
where
    W: AsyncRead + AsyncWrite + Unpin + Send,
{
    let peer = Arc::new(peer);
    join(socket, peer.clone(), peer, DATAGRAM, PACE).await;
}

async fn join<W>(
    socket: WebSocketStream<W>,
    mut source: impl Source,
    mut drain: impl Drain,
    chunk: usize,
    pace: Pace,
) where
    W: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (sink, messages) = socket.split();
    let left = {
        let to_client = std::pin::pin!(to_client(sink, &mut source, chunk, pace.ping));
        let mut from_client = std::pin::pin!(from_client(messages, &mut drain, pace.silence));
        tokio::select! {
            () = &mut from_client => true,
            () = to_client => {
                let _ = timeout(FAREWELL, from_client).await;
                false
            }
        }
    };
    if left {
        let _ = timeout(FAREWELL, end(source, drain, chunk)).await;
    }
}

/// What the client sent last may be on its way still: a connection that is dropped with something unread in it loses that.
async fn end(mut source: impl Source, mut drain: impl Drain, chunk: usize) {
    let mut buffer = vec![0; chunk];
    if drain.finish().await.is_ok() {
        while let Ok(Some(_)) = source.next(&mut buffer).await {}
    }
}

/// Until the source ends or the client does not take any more.
async fn to_client<W>(
    mut sink: SplitSink<WebSocketStream<W>, Message>,
    source: &mut impl Source,
    chunk: usize,
    ping: Duration,
) where
    W: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = vec![0; chunk];
    let mut pings = interval(ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    loop {
        let message = tokio::select! {
            _ = pings.tick() => Message::Ping("keep alive".into()),
            read = source.next(&mut buffer) => match read {
                Ok(Some(count)) => Message::binary(buffer[..count].to_vec()),
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(error = %error, "stream ended");
                    break;
                }
            },
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let _ = timeout(FAREWELL, sink.send(Message::Close(None))).await;
}

/// Until the client ends, falls silent, or nobody takes its bytes.
async fn from_client<W>(
    mut messages: SplitStream<WebSocketStream<W>>,
    drain: &mut impl Drain,
    silence: Duration,
) where
    W: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let bytes = match timeout(silence, messages.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Text(text)))) => text.into(),
            // Pings are answered, and a farewell is returned, by the next read.
            Ok(Some(Ok(_))) => continue,
            Ok(Some(Err(_)) | None) | Err(_) => return,
        };
        if drain.put(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{SinkExt as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::net::UdpSocket;
    use tokio::task::JoinSet;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::{Pace, datagrams, join, stream};

    /// Both ends of a websocket.
    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (client, server) = duplex(4096);
        (
            WebSocketStream::from_raw_socket(client, Role::Client, None).await,
            WebSocketStream::from_raw_socket(server, Role::Server, None).await,
        )
    }

    async fn next(client: &mut WebSocketStream<DuplexStream>) -> Option<Message> {
        let got = tokio::time::timeout(Duration::from_secs(10), client.next()).await;
        got.expect("a message within ten seconds")
            .map(Result::unwrap)
    }

    #[tokio::test]
    async fn bytes_travel_bare_in_binary_frames() {
        let (mut client, server) = pair().await;
        let (mut guest, raw) = duplex(4096);
        let mut tasks = JoinSet::new();
        tasks.spawn(stream(server, raw));
        guest.write_all(b"login: ").await.unwrap();
        assert_eq!(
            next(&mut client).await,
            Some(Message::binary(&b"login: "[..]))
        );
        client.send(Message::binary(&b"root\n"[..])).await.unwrap();
        client.send(Message::text("ls\n")).await.unwrap();
        let mut typed = [0; 8];
        guest.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"root\nls\n");
    }

    #[tokio::test]
    async fn the_end_of_the_stream_closes_the_websocket() {
        let (mut client, server) = pair().await;
        let (mut guest, raw) = duplex(4096);
        let mut tasks = JoinSet::new();
        tasks.spawn(stream(server, raw));
        guest.write_all(b"bye").await.unwrap();
        drop(guest);
        assert_eq!(next(&mut client).await, Some(Message::binary(&b"bye"[..])));
        assert!(matches!(next(&mut client).await, Some(Message::Close(_))));
        assert_eq!(next(&mut client).await, None);
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_the_stream() {
        let (mut client, server) = pair().await;
        let (mut guest, raw) = duplex(4096);
        let mut tasks = JoinSet::new();
        tasks.spawn(stream(server, raw));
        client.close(None).await.unwrap();
        assert!(matches!(
            next(&mut client).await,
            None | Some(Message::Close(_))
        ));
        let mut rest = Vec::new();
        guest.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }

    #[tokio::test]
    async fn a_client_that_answers_no_ping_is_gone() {
        let (client, server) = pair().await;
        let (mut guest, raw) = duplex(4096);
        let (source, drain) = tokio::io::split(raw);
        let pace = Pace {
            ping: Duration::from_millis(20),
            silence: Duration::from_millis(200),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(join(server, source, drain, 64, pace));
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), guest.read_to_end(&mut rest));
        ended.await.expect("an end within ten seconds").unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_only_answers_pings_stays() {
        let (mut client, server) = pair().await;
        let (mut guest, raw) = duplex(4096);
        let (source, drain) = tokio::io::split(raw);
        let pace = Pace {
            ping: Duration::from_millis(20),
            silence: Duration::from_millis(500),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(join(server, source, drain, 64, pace));
        let began = std::time::Instant::now();
        while began.elapsed() < 2 * pace.silence {
            assert!(matches!(next(&mut client).await, Some(Message::Ping(_))));
        }
        guest.write_all(b"still here").await.unwrap();
        loop {
            match next(&mut client).await {
                Some(Message::Ping(_)) => {}
                other => break assert_eq!(other, Some(Message::binary(&b"still here"[..]))),
            }
        }
    }

    #[tokio::test]
    async fn datagrams_stay_apart() {
        let (mut client, server) = pair().await;
        let guest = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let ours = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        ours.connect(guest.local_addr().unwrap()).await.unwrap();
        guest.connect(ours.local_addr().unwrap()).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(datagrams(server, ours));
        client.send(Message::binary(&b"one"[..])).await.unwrap();
        client.send(Message::binary(&b"two"[..])).await.unwrap();
        let mut buffer = [0; 16];
        for expected in [&b"one"[..], b"two"] {
            let count = guest.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], expected);
        }
        guest.send(b"three").await.unwrap();
        assert_eq!(
            next(&mut client).await,
            Some(Message::binary(&b"three"[..]))
        );
    }
}
