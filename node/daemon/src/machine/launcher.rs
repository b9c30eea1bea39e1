//! The daemon's end of the wire to one launcher.
//!
//! The socket lies in a folder that a compromised launcher can write to: it is opened beneath the folder without following links, must be
//! a socket, and the process behind it must have the sandbox's user id.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catamaran_plan::paths::UID;
use catamaran_wire::{
    Connection, ErrorKind, FrameError, Hello, Incoming, PROTOCOL_MAX, PROTOCOL_MIN, Reply, Request,
    Statistics, Stream, Verb, VmReport, WireError,
};
use rustix::fs::{FileType, OFlags};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::machine::beneath;

/// Longest text of a report that is kept, in bytes.
const LONGEST_TEXT: usize = 4096;
/// Most warnings of a report that are kept.
const WARNINGS: usize = 16;
/// Longest wait for an answer. Verbs that take longer on purpose (stop) answer at once and report later.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest wait for a launcher's hello: it says it at once, or it hangs.
const GREETING: Duration = Duration::from_secs(10);

/// A launcher could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The socket is not there or not to be trusted.
    #[error("launcher socket {path}")]
    Connect {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stream failed.
    #[error("launcher connection")]
    Frame(#[from] FrameError),
    /// No common protocol.
    #[error(
        "the launcher speaks protocols {min} to {max}, this daemon {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    )]
    Protocol {
        /// Oldest of the launcher.
        min: u32,
        /// Newest of the launcher.
        max: u32,
    },
    /// It answered that it did not do it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// The connection is gone.
    #[error("the launcher has gone")]
    Gone,
    /// No answer in time.
    #[error("the launcher did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<Reply>>>>;

/// A connection to a launcher. Cheap to clone; the connection ends when the last clone and the task of [`connect`] go.
#[derive(Debug, Clone)]
pub struct Launcher {
    requests: mpsc::Sender<(Verb, Vec<OwnedFd>, oneshot::Sender<Reply>)>,
    reports: watch::Receiver<Option<VmReport>>,
    peer: Option<i32>,
    features: Arc<[String]>,
    run: Arc<Path>,
}

impl Launcher {
    /// Whether it has that optional ability, by its hello. One of an earlier version may not.
    #[must_use]
    pub fn knows(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    /// Process id of the launcher in the daemon's pid namespace. It names that process as long as the connection stands.
    #[must_use]
    pub fn peer(&self) -> Option<i32> {
        self.peer
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// When the launcher refuses, is gone, or does not answer in time.
    pub async fn ask(&self, verb: Verb) -> Result<Value, LauncherError> {
        self.ask_with_fds(verb, Vec::new()).await
    }

    /// What the guest has used since its start. Asked over a connection of its own: a launcher answers one request after the other, and
    /// nothing may wait behind counters.
    ///
    /// # Errors
    /// When the launcher refuses, is gone, or does not answer in time.
    pub async fn statistics(&self) -> Result<Statistics, LauncherError> {
        let (mut connection, ..) = dial(&self.run).await?;
        let answer = only(&mut connection, Verb::Statistics).await?;
        serde_json::from_value(answer).map_err(|error| {
            let words = format!("its counters can't be read: {error}");
            LauncherError::Refused(WireError::new(ErrorKind::Failed, words))
        })
    }

    /// Asks, with descriptors.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_with_fds(
        &self,
        verb: Verb,
        fds: Vec<OwnedFd>,
    ) -> Result<Value, LauncherError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send((verb, fds, answer))
            .await
            .map_err(|_| LauncherError::Gone)?;
        let reply = tokio::time::timeout(ANSWER, answered)
            .await
            .map_err(|_| LauncherError::Timeout(ANSWER))?
            .map_err(|_| LauncherError::Gone)?;
        match reply.error {
            Some(error) => Err(error.into()),
            None => Ok(reply.ok),
        }
    }

    /// What it said last of its machine; the channel closes when the connection ends.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<Option<VmReport>> {
        self.reports.clone()
    }

    /// Whether the connection still stands.
    #[must_use]
    pub fn connected(&self) -> bool {
        !self.requests.is_closed()
    }
}

/// Connects, says hello and asks for reports. The returned future is the connection's task: it ends with the connection.
///
/// # Errors
/// When there is no launcher, it is not to be trusted, or no protocol is common.
pub async fn connect(
    run: &Path,
) -> Result<(Launcher, impl Future<Output = ()> + Send + use<>), LauncherError> {
    let (connection, hello, peer) = dial(run).await?;
    let (requests, queue) = mpsc::channel(16);
    let (said, reports) = watch::channel(None);
    let launcher = Launcher {
        requests,
        reports,
        peer,
        features: hello.features.into(),
        run: run.into(),
    };
    Ok((launcher, serve(connection, queue, said)))
}

/// Opens a raw stream to the guest: what was read too much comes first.
///
/// # Errors
/// When the launcher refuses or can't be reached.
pub async fn attach(run: &Path, stream: Stream) -> Result<(UnixStream, Vec<u8>), LauncherError> {
    let (mut connection, ..) = dial(run).await?;
    only(&mut connection, Verb::Attach { stream }).await?;
    Ok(connection.into_stream())
}

/// Asks over a connection that is for nothing else.
async fn only(connection: &mut Connection, verb: Verb) -> Result<Value, LauncherError> {
    connection.send(&Request { id: 1, verb }).await?;
    loop {
        let (incoming, _) = tokio::time::timeout(ANSWER, connection.receive::<Incoming>())
            .await
            .map_err(|_| LauncherError::Timeout(ANSWER))??;
        if let Incoming::Reply(reply) = incoming {
            return match reply.error {
                Some(error) => Err(error.into()),
                None => Ok(reply.ok),
            };
        }
    }
}

async fn dial(run: &Path) -> Result<(Connection, Hello, Option<i32>), LauncherError> {
    let path = run.join("launcher.sock");
    let refused = |source: io::Error| LauncherError::Connect {
        path: path.clone(),
        source,
    };
    let socket =
        beneath::open(run, "launcher.sock", OFlags::PATH, FileType::Socket).map_err(refused)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd()))
        .await
        .map_err(refused)?;
    let peer = stream.peer_cred().map_err(refused)?;
    if peer.uid() != UID {
        return Err(refused(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("is served by user {}, not by {UID}", peer.uid()),
        )));
    }
    let mut connection = Connection::new(stream);
    let hello = greet(&mut connection).await?;
    Ok((connection, hello, peer.pid().filter(|pid| *pid > 0)))
}

/// Says hello; what the launcher says.
async fn greet(connection: &mut Connection) -> Result<Hello, LauncherError> {
    let hello = Hello {
        min: PROTOCOL_MIN,
        max: PROTOCOL_MAX,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        features: Vec::new(),
    };
    connection.send(&hello).await?;
    let (theirs, _) = tokio::time::timeout(GREETING, connection.receive::<Hello>())
        .await
        .map_err(|_| LauncherError::Timeout(GREETING))??;
    if theirs.min > PROTOCOL_MAX || theirs.max < PROTOCOL_MIN {
        return Err(LauncherError::Protocol {
            min: theirs.min,
            max: theirs.max,
        });
    }
    Ok(theirs)
}

/// Texts of a report are kept in statuses and events. A launcher that somebody has taken over could send megabytes of them.
fn shorten(report: &mut VmReport) {
    report.warnings.truncate(WARNINGS);
    for text in report.warnings.iter_mut().chain(&mut report.message) {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
}

async fn serve(
    mut connection: Connection,
    mut queue: mpsc::Receiver<(Verb, Vec<OwnedFd>, oneshot::Sender<Reply>)>,
    said: watch::Sender<Option<VmReport>>,
) {
    let pending = Pending::default();
    let lock = || {
        pending
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    };
    let mut id = 1;
    if connection
        .send(&Request {
            id,
            verb: Verb::Watch,
        })
        .await
        .is_err()
    {
        return;
    }
    loop {
        tokio::select! {
            incoming = connection.receive::<Incoming>() => match incoming {
                Ok((Incoming::Report { mut report }, _)) => {
                    shorten(&mut report);
                    let _ = said.send(Some(*report));
                }
                Ok((Incoming::Reply(reply), _)) => {
                    if let Some(waiting) = lock().remove(&reply.id) {
                        let _ = waiting.send(reply);
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %catamaran_client::chain(&error), "launcher connection ended");
                    return;
                }
            },
            request = queue.recv() => {
                let Some((verb, fds, answer)) = request else { return };
                id += 1;
                lock().insert(id, answer);
                let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
                if let Err(error) = connection.send_with_fds(&Request { id, verb }, &borrowed).await
                    && let Some(waiting) = lock().remove(&id)
                {
                    let error = Some(WireError::new(ErrorKind::Failed, error.to_string()));
                    let _ = waiting.send(Reply { id, ok: Value::Null, error });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use catamaran_wire::HOTPLUG;
    use serde_json::json;

    use super::*;

    /// What comes of a launcher's hello.
    async fn greeted(hello: Value) -> Result<Hello, LauncherError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let launcher = Connection::new(theirs);
        launcher.send(&hello).await.unwrap();
        greet(&mut Connection::new(ours)).await
    }

    #[tokio::test]
    async fn an_old_launcher_is_known_by_its_hello() {
        for (hello, expected) in [
            (json!({"min": 1, "max": 1, "version": "1"}), false),
            (
                json!({"min": 1, "max": 1, "version": "1", "features": ["replay"]}),
                false,
            ),
            (
                json!({"min": 1, "max": 2, "version": "2", "features": ["replay", HOTPLUG]}),
                true,
            ),
        ] {
            let launcher = Launcher {
                requests: mpsc::channel(1).0,
                reports: watch::channel(None).1,
                peer: None,
                features: greeted(hello).await.unwrap().features.into(),
                run: Path::new("/nowhere").into(),
            };
            assert_eq!(launcher.knows(HOTPLUG), expected);
        }
    }

    #[tokio::test]
    async fn a_launcher_of_another_protocol_is_refused() {
        let hello = json!({"min": PROTOCOL_MAX + 1, "max": PROTOCOL_MAX + 1, "version": "9"});
        let refused = greeted(hello).await.unwrap_err();
        assert!(
            matches!(refused, LauncherError::Protocol { .. }),
            "{refused}"
        );
    }

    #[test]
    fn texts_of_a_report_are_bounded() {
        let mut report: VmReport = serde_json::from_value(serde_json::json!({
            "generation": null, "sequence": 1, "state": catamaran_wire::VmState::Idle, "sinceMs": 1, "message": "ä".repeat(LONGEST_TEXT),
            "warnings": vec!["w"; 100],
        }))
        .unwrap();
        shorten(&mut report);
        assert!(report.message.unwrap().len() <= LONGEST_TEXT);
        assert_eq!(report.warnings.len(), WARNINGS);
    }
}
