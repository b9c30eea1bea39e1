//! The hub of the guest's serial console: one connection to QEMU, any number of viewers.
//!
//! ```text
//!                    ┌── ring (256 KiB, loses its oldest) ── viewer
//!  QEMU ── hub task ─┼── ring ────────────────────────────── viewer
//!   │                └── …
//!   └── serial.log (QEMU's own; history, survives a launcher)
//! ```
//!
//! The hub always drains: a stalled reader would stall the guest. A slow viewer loses its oldest bytes and hurts nobody
//! else. History comes from QEMU's log file, whose position is counted along, so that a viewer who asks for it gets
//! every byte once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_sandbox::console_log::{give_up_before, kept_before};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, mpsc};

/// Bytes that wait for one viewer at most.
const RING: usize = 256 << 10;
/// Bytes of history a viewer gets at most.
const HISTORY: u64 = 256 << 10;
/// Bytes of the log that are kept; twice as many are there at most.
const LOG_KEPT: u64 = 1 << 20;
/// Pieces of input that wait for the guest.
const INPUT: usize = 64;

/// A handle to the hub.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Mutex<Shared>>,
    input: mpsc::Sender<Vec<u8>>,
    log: PathBuf,
}

#[derive(Debug, Default)]
struct Shared {
    viewers: Vec<Arc<Viewer>>,
    /// Length of the log that everything sent to viewers so far corresponds to.
    position: u64,
}

/// One viewer's waiting bytes.
#[derive(Debug, Default)]
pub struct Viewer {
    ring: Mutex<VecDeque<u8>>,
    wake: Notify,
}

/// The hub's task; ends with the last handle.
#[derive(Debug)]
pub struct HubTask {
    shared: Arc<Mutex<Shared>>,
    input: mpsc::Receiver<Vec<u8>>,
    socket: PathBuf,
    log: PathBuf,
}

/// A hub for the socket and log of one serial port.
#[must_use]
pub fn hub(socket: PathBuf, log: PathBuf) -> (Hub, HubTask) {
    let (sender, input) = mpsc::channel(INPUT);
    let shared = Arc::<Mutex<Shared>>::default();
    let task = HubTask {
        shared: Arc::clone(&shared),
        input,
        socket,
        log: log.clone(),
    };
    (
        Hub {
            shared,
            input: sender,
            log,
        },
        task,
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Serves one viewer until it goes away.
    pub async fn serve(&self, stream: UnixStream, early: Vec<u8>, replay: bool, read_only: bool) {
        let viewer = self.join(replay);
        let (mut reader, mut writer) = stream.into_split();
        let output = async {
            loop {
                let bytes = viewer.take().await;
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        let input = async {
            if !read_only && !early.is_empty() {
                let _ = self.input.send(early).await;
            }
            let mut buffer = vec![0; 1024];
            loop {
                match reader.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    // Waits when the guest does not read; only this viewer's input does.
                    Ok(count) if !read_only => {
                        if self.input.send(buffer[..count].to_vec()).await.is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                }
            }
        };
        tokio::select! { () = output => {}, () = input => {} }
        lock(&self.shared)
            .viewers
            .retain(|other| !Arc::ptr_eq(other, &viewer));
    }

    fn join(&self, replay: bool) -> Arc<Viewer> {
        let viewer = Arc::<Viewer>::default();
        let mut shared = lock(&self.shared);
        if replay {
            viewer.give(&history(&self.log, shared.position));
        }
        shared.viewers.push(Arc::clone(&viewer));
        viewer
    }

    /// The end of what the port has said so far.
    #[must_use]
    pub fn tail(&self) -> Vec<u8> {
        history(&self.log, u64::MAX)
    }
}

impl Viewer {
    fn give(&self, bytes: &[u8]) {
        let mut ring = lock(&self.ring);
        let bytes = &bytes[bytes.len().saturating_sub(RING)..];
        let lost = (ring.len() + bytes.len())
            .saturating_sub(RING)
            .min(ring.len());
        ring.drain(..lost);
        ring.extend(bytes);
        self.wake.notify_one();
    }

    async fn take(&self) -> Vec<u8> {
        loop {
            {
                let mut ring = lock(&self.ring);
                if !ring.is_empty() {
                    return std::mem::take(&mut *ring).into();
                }
            }
            self.wake.notified().await;
        }
    }
}

impl HubTask {
    /// Keeps a connection to QEMU and passes everything on.
    pub async fn run(mut self) {
        loop {
            let length = || std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
            let before = length();
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => {
                    // What QEMU wrote until now went to the log alone.
                    lock(&self.shared).position = before.max(length());
                    if self.pump(stream).await.is_none() {
                        return;
                    }
                }
                // No QEMU yet, or none any more. Input meanwhile goes nowhere, as on a cable without a machine.
                Err(_) => while self.input.try_recv().is_ok() {},
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = closed(&mut self.input) => return,
            }
        }
    }

    /// `None` when there is no handle to the hub any more.
    async fn pump(&mut self, stream: UnixStream) -> Option<()> {
        let (reader, mut writer) = stream.into_split();
        let output = drain(reader, &self.shared, &self.log);
        let input = async {
            while let Some(bytes) = self.input.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return Some(());
                }
            }
            None
        };
        tokio::select! { () = output => Some(()), end = input => end }
    }
}

async fn closed(input: &mut mpsc::Receiver<Vec<u8>>) {
    while input.recv().await.is_some() {}
}

async fn drain(mut reader: OwnedReadHalf, shared: &Mutex<Shared>, log: &Path) {
    let mut buffer = vec![0; 4096];
    let mut due = lock(shared).position + LOG_KEPT;
    loop {
        let count = match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        let mut shared = lock(shared);
        shared.position += count as u64;
        for viewer in &shared.viewers {
            viewer.give(&buffer[..count]);
        }
        if shared.position >= due {
            if let Err(error) = cut(log, &mut shared.position) {
                tracing::warn!(error = %error, "the serial log is not cut");
            }
            due = shared.position + LOG_KEPT;
        }
    }
}

/// Gives up the log's oldest part. Its end stays where it is, so that whoever reads along misses nothing.
fn cut(log: &Path, position: &mut u64) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(log)?;
    if give_up_before(&file, position.saturating_sub(LOG_KEPT)).is_err() {
        // A file system without holes: QEMU appends, so it goes on at the new end.
        file.set_len(0)?;
        *position = 0;
    }
    Ok(())
}

/// At most [`HISTORY`] bytes before `position` of the log.
fn history(log: &Path, position: u64) -> Vec<u8> {
    let read = std::fs::File::open(log).and_then(|file| kept_before(&file, position, HISTORY));
    read.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use tokio::net::UnixListener;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), future)
                .await
                .unwrap()
        })
    }

    struct Rig {
        dir: tempfile::TempDir,
        hub: Hub,
        guest: UnixStream,
        tasks: tokio::task::JoinSet<()>,
    }

    /// A hub whose QEMU has said `before` so far.
    async fn rig(before: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (socket, log) = (dir.path().join("s"), dir.path().join("serial.log"));
        std::fs::write(&log, before).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let (hub, task) = hub(socket, log);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(task.run());
        let (guest, _) = listener.accept().await.unwrap();
        Rig {
            dir,
            hub,
            guest,
            tasks,
        }
    }

    impl Rig {
        fn viewer(&mut self, replay: bool, read_only: bool) -> UnixStream {
            let (mine, theirs) = UnixStream::pair().unwrap();
            let hub = self.hub.clone();
            self.tasks
                .spawn(async move { hub.serve(theirs, Vec::new(), replay, read_only).await });
            mine
        }

        async fn say(&mut self, text: &[u8]) {
            let path = self.dir.path().join("serial.log");
            std::fs::OpenOptions::new()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(text)
                .unwrap();
            self.guest.write_all(text).await.unwrap();
        }
    }

    async fn read(stream: &mut UnixStream, count: usize) -> String {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn replay_gives_every_byte_once_and_without_it_only_new_ones_come() {
        block_on(async {
            let mut rig = rig("old ").await;
            let mut first = rig.viewer(true, false);
            assert_eq!(read(&mut first, 4).await, "old ");
            rig.say(b"new ").await;
            assert_eq!(read(&mut first, 4).await, "new ");
            let mut plain = rig.viewer(false, false);
            let mut late = rig.viewer(true, false);
            assert_eq!(read(&mut late, 8).await, "old new ");
            rig.say(b"x").await;
            assert_eq!(read(&mut plain, 1).await, "x");
            assert_eq!(read(&mut late, 1).await, "x");
        });
    }

    #[test]
    fn a_read_only_viewer_cannot_type() {
        block_on(async {
            let mut rig = rig("").await;
            let (mut reader, mut typist) = (rig.viewer(false, true), rig.viewer(false, false));
            reader.write_all(b"bad").await.unwrap();
            typist.write_all(b"good").await.unwrap();
            assert_eq!(read(&mut rig.guest, 4).await, "good");
        });
    }

    #[test]
    fn a_stalled_viewer_loses_its_oldest_bytes_and_stalls_nobody() {
        block_on(async {
            let mut rig = rig("").await;
            let mut stalled = rig.viewer(false, false);
            let mut quick = rig.viewer(false, false);
            // Both are there when they see the first byte.
            rig.say(b"!").await;
            read(&mut quick, 1).await;
            read(&mut stalled, 1).await;
            let piece = vec![b'a'; 64 << 10];
            for _ in 0..32 {
                rig.say(&piece).await;
                read(&mut quick, piece.len()).await;
            }
            rig.say(b"end").await;
            assert_eq!(read(&mut quick, 3).await, "end");
            let mut got = Vec::new();
            while !got.ends_with(b"end") {
                stalled.read_buf(&mut got).await.unwrap();
            }
            assert!(got.len() < 32 * piece.len(), "{} bytes came", got.len());
        });
    }

    #[test]
    fn a_large_log_is_cut_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        std::fs::write(&log, [vec![b'a'; 3 << 20], b"end".to_vec()].concat()).unwrap();
        let mut position = (3 << 20) + 3;
        cut(&log, &mut position).unwrap();
        let metadata = std::fs::metadata(&log).unwrap();
        assert_eq!((position, metadata.len()), ((3 << 20) + 3, position));
        assert!(metadata.blocks() * 512 < 2 << 20);
        let history = history(&log, position);
        assert!(history.ends_with(b"end") && history.len() as u64 == HISTORY);
    }
}
