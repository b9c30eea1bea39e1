//! The sockets' side of the DNS server: UDP and TCP, relays to upstreams, limits.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{self, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Reply, answer};
use super::zone::ZoneFolder;

/// Bound sockets of the server.
#[derive(Debug, Default)]
pub struct DnsSockets {
    /// UDP.
    pub udp: Vec<UdpSocket>,
    /// TCP, listening.
    pub tcp: Vec<TcpListener>,
}

/// How long one upstream has.
const UPSTREAM: Duration = Duration::from_secs(2);
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Relayed questions and TCP connections of one client at a time: one guest must not starve the others.
const PER_CLIENT: usize = 32;
/// The same of all clients.
const TOTAL: usize = 512;
/// Largest UDP message that we read.
const UDP_MAX: usize = 4096;

/// Serves until a socket fails for good. Each question sees the zone as it is on disk at that moment.
///
/// # Errors
/// A socket could not be registered, or failed.
pub async fn serve(sockets: DnsSockets, zone: ZoneFolder) -> io::Result<()> {
    let server = Arc::new(Server {
        zone,
        clients: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for socket in sockets.udp {
        socket.set_nonblocking(true)?;
        let socket = Arc::new(net::UdpSocket::from_std(socket)?);
        tasks.spawn(serve_udp(Arc::clone(&server), socket));
    }
    for listener in sockets.tcp {
        listener.set_nonblocking(true)?;
        let listener = net::TcpListener::from_std(listener)?;
        tasks.spawn(serve_tcp(Arc::clone(&server), listener));
    }
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no sockets to serve on",
        )),
    }
}

struct Server {
    zone: ZoneFolder,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// One relayed question or connection of a client; ends with its drop.
struct Place {
    server: Arc<Server>,
    client: IpAddr,
}

impl Server {
    fn place(self: &Arc<Server>, client: IpAddr) -> Option<Place> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = clients.values().sum();
        let mine = clients.entry(client).or_default();
        if total >= TOTAL || *mine >= PER_CLIENT {
            return None;
        }
        *mine += 1;
        Some(Place {
            server: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self
            .server
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

async fn serve_udp(server: Arc<Server>, socket: Arc<net::UdpSocket>) -> io::Result<()> {
    let mut relays = JoinSet::new();
    let mut buffer = vec![0; UDP_MAX];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = relays.join_next() => continue,
        };
        let Ok((length, client)) = received else {
            // An ICMP error about an earlier answer; the socket itself is fine.
            continue;
        };
        let question = &buffer[..length];
        let zone = server.zone.current();
        match answer(&zone, client.ip(), question) {
            // A client that is gone is no concern of ours.
            Reply::Answer(bytes) => drop(socket.send_to(&bytes, client).await),
            Reply::Forward => {
                let Some(place) = server.place(client.ip()) else {
                    continue;
                };
                let (socket, question) = (Arc::clone(&socket), question.to_vec());
                relays.spawn(async move {
                    if let Some(bytes) = relay_udp(&zone.upstreams, &question).await {
                        drop(socket.send_to(&bytes, client).await);
                    }
                    drop(place);
                });
            }
            Reply::Ignore => {}
        }
    }
}

async fn serve_tcp(server: Arc<Server>, listener: net::TcpListener) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        // Out of file descriptors, or the client went away: the next one may be fine.
        let Ok((stream, client)) = accepted else {
            continue;
        };
        let Some(place) = server.place(client.ip()) else {
            continue;
        };
        connections.spawn(async move {
            let result = serve_connection(&place.server, stream, client).await;
            if let Err(error) = result {
                tracing::debug!(%client, %error, "a DNS connection ended");
            }
        });
    }
}

async fn serve_connection(
    server: &Server,
    mut stream: TcpStream,
    client: SocketAddr,
) -> io::Result<()> {
    while let Some(question) = timeout(IDLE, read_message(&mut stream)).await?? {
        let zone = server.zone.current();
        let bytes = match answer(&zone, client.ip(), &question) {
            Reply::Answer(bytes) => bytes,
            Reply::Forward => match relay_tcp(&zone.upstreams, &question).await {
                Some(bytes) => bytes,
                None => return Ok(()),
            },
            Reply::Ignore => return Ok(()),
        };
        timeout(IDLE, write_message(&mut stream, &bytes)).await??;
    }
    Ok(())
}

/// Asks one upstream after the other, each from a new port, and takes only an answer to this question.
async fn relay_udp(upstreams: &[SocketAddr], question: &[u8]) -> Option<Vec<u8>> {
    for upstream in upstreams {
        match timeout(UPSTREAM, ask_udp(*upstream, question)).await {
            Ok(Ok(bytes)) => return Some(bytes),
            Ok(Err(error)) => tracing::debug!(%upstream, %error, "an upstream failed"),
            Err(_) => tracing::debug!(%upstream, "an upstream was silent"),
        }
    }
    None
}

async fn ask_udp(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if upstream.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = net::UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; UDP_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(question, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn relay_tcp(upstreams: &[SocketAddr], question: &[u8]) -> Option<Vec<u8>> {
    for upstream in upstreams {
        let ask = async {
            let mut stream = TcpStream::connect(upstream).await?;
            write_message(&mut stream, question).await?;
            read_message(&mut stream).await
        };
        match timeout(UPSTREAM, ask).await {
            Ok(Ok(Some(bytes))) if is_answer(question, &bytes) => return Some(bytes),
            other => tracing::debug!(%upstream, ?other, "an upstream failed"),
        }
    }
    None
}

/// Same identifier, and marked as an answer.
fn is_answer(question: &[u8], bytes: &[u8]) -> bool {
    bytes.len() >= 12 && bytes[..2] == question[..2] && bytes[2] & 0x80 != 0
}

/// A message with its length before it (RFC 1035, 4.2.2); none at the end of the stream.
async fn read_message(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    // One write, so that it is one segment.
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}
