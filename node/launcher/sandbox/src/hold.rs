//! `catamaran-init hold`: PID 1 of an attachment pod. It does nothing, so that the kubelet keeps the pod's claim on its node.
//!
//! Whoever connects to its socket learns from the kernel which process it is, and so finds the claim in the pod; nothing is said on the socket.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use catamaran_plan::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Holds until it is asked to end.
///
/// # Errors
/// When the run folder is not writable.
pub fn run() -> io::Result<ExitCode> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let listener = listen(Path::new(paths::HOLD_SOCKET))?;
    loop {
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if matches!(signals.read_signal(), Ok(Some(_))) {
            return Ok(ExitCode::SUCCESS);
        }
        // The connection ends at once; the caller has its answer from the kernel.
        let _ = listener.accept();
    }
}

/// A container that was restarted finds the socket of the one before.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    listener.set_nonblocking(true)?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_socket_of_a_holder_that_ended_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hold.sock");
        drop(listen(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err());
        let _second = listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }
}
