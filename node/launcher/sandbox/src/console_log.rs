//! `catamaran-init console-log`: the guest's serial output on standard output, so that `kubectl logs -c guest-console-log` shows it.
//!
//! Runs in a container of its own beside the launcher's, sees the run folder read-only, and ends with the guest: init holds a lock on
//! [`paths::ALIVE`] for as long as it lives, and the kernel tells its end to whoever waits for the lock, however init ended.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use catamaran_plan::paths;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{FlockOperation, SeekFrom, flock, seek};

/// Pause between looks at a log that grows; doubles up to [`LONGEST`] while it does not.
const SHORTEST: Duration = Duration::from_millis(20);
/// Pause between looks at a silent log. The log keeps its last MiB at least, more than a serial port says meanwhile.
const LONGEST: Duration = Duration::from_millis(320);
/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Makes the file whose lock says that init lives, locked before it has its name. Keep what is returned.
///
/// # Errors
/// When the folder is not writable.
pub fn hold(alive: &Path) -> io::Result<File> {
    let unnamed = alive.with_extension("new");
    let file = File::create(&unnamed)?;
    flock(&file, FlockOperation::LockExclusive)?;
    std::fs::rename(unnamed, alive)?;
    Ok(file)
}

/// Writes the log out until the guest is over.
///
/// # Errors
/// When the log can't be read, or nobody takes what it says.
pub fn run() -> io::Result<ExitCode> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // The guest has its grace period, and what it says in it is heard; without an init there is nothing to wait for.
    let in_vain = || {
        let asked = matches!(signals.read_signal(), Ok(Some(_)));
        asked && !Path::new(paths::ALIVE).exists()
    };
    let over = end_of(Path::new(paths::ALIVE).to_owned());
    let log = Path::new(paths::SERIAL_LOG);
    follow(log, &over, in_vain, &mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

/// A channel that closes when the holder of the lock has ended.
fn end_of(alive: std::path::PathBuf) -> Receiver<()> {
    let (sender, over) = channel();
    thread::spawn(move || {
        let _sender = sender;
        let file = loop {
            match File::open(&alive) {
                Ok(file) => break file,
                Err(_) => thread::sleep(LONGEST),
            }
        };
        while flock(&file, FlockOperation::LockShared) == Err(rustix::io::Errno::INTR) {}
    });
    over
}

/// Copies what the log has and gets, each byte once, until the channel is closed and the rest is written.
fn follow(
    log: &Path,
    over: &Receiver<()>,
    in_vain: impl Fn() -> bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let (mut position, mut pause) = (0, SHORTEST);
    loop {
        // Asked before the last read, so that nothing said before the end is missed.
        let last = over.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) || in_vain();
        let copied = copy(log, &mut position, out)?;
        if last {
            return Ok(());
        }
        pause = if copied {
            SHORTEST
        } else {
            (pause * 2).min(LONGEST)
        };
    }
}

/// Copies what is behind `position`; whether there was anything.
fn copy(log: &Path, position: &mut u64, out: &mut impl Write) -> io::Result<bool> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length < *position {
        // Begun anew.
        *position = 0;
    }
    // The oldest part of a long log is given up; its place is a hole.
    let data = match seek(&file, SeekFrom::Data(*position)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if data > *position {
        let lost = data - *position;
        writeln!(
            out,
            "\n[{lost} bytes were not read in time and are not kept]"
        )?;
        *position = data;
    }
    file.seek(io::SeekFrom::Start(*position))?;
    let mut buffer = vec![0; PIECE];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        out.write_all(&buffer[..count])?;
        *position += count as u64;
    }
    out.flush()?;
    Ok(true)
}

/// Gives up everything before `position` of a log, without moving what is behind it.
///
/// # Errors
/// When the file system has no holes; then the log is as it was.
pub fn give_up_before(log: &File, position: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(log, flags, 0, position)?)
}

/// The kept end of a log before `position`, at most `max` bytes of it.
///
/// # Errors
/// When the file can't be read.
pub fn kept_before(log: &File, position: u64, max: u64) -> io::Result<Vec<u8>> {
    let end = log.metadata()?.len().min(position);
    let wanted = end.saturating_sub(max);
    let start = match seek(log, SeekFrom::Data(wanted)) {
        Ok(data) => data.min(end),
        Err(rustix::io::Errno::NXIO) => end,
        Err(error) => return Err(error.into()),
    };
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
    log.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<u8>>>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_is_followed_until_init_has_ended_and_then_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (log, alive) = (dir.path().join("serial.log"), dir.path().join("alive"));
        let shown = Shown::default();
        let follower = {
            let (log, alive, mut shown) = (log.clone(), alive.clone(), shown.clone());
            thread::spawn(move || follow(&log, &end_of(alive), || false, &mut shown))
        };
        let init = hold(&alive).unwrap();
        std::fs::write(&log, "early ").unwrap();
        while *shown.0.lock().unwrap() != b"early " {
            thread::sleep(Duration::from_millis(5));
        }
        let mut guest = OpenOptions::new().append(true).open(&log).unwrap();
        guest.write_all(b"late ").unwrap();
        guest.write_all(b"last").unwrap();
        drop(init);
        follower.join().unwrap().unwrap();
        assert_eq!(*shown.0.lock().unwrap(), b"early late last");
    }

    #[test]
    fn a_part_that_was_given_up_is_skipped_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("serial.log");
        std::fs::write(&log, [vec![b'a'; 1 << 20], b"end".to_vec()].concat()).unwrap();
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .open(&log)
            .unwrap();
        give_up_before(&file, 1 << 20).unwrap();
        let (mut out, mut position) = (Vec::new(), 0);
        assert!(copy(&log, &mut position, &mut out).unwrap());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "\n[1048576 bytes were not read in time and are not kept]\nend"
        );
        assert_eq!(kept_before(&file, u64::MAX, 1 << 30).unwrap(), b"end");
        assert!(!copy(&log, &mut position, &mut io::sink()).unwrap());
    }

    #[test]
    fn a_pod_whose_launcher_never_came_does_not_wait_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (_keep, over) = channel();
        follow(&dir.path().join("none"), &over, || true, &mut io::sink()).unwrap();
    }
}
