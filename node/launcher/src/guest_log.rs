//! The guest's kernel log, read from its memory, without its help.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use catamaran_guest_memory::dmesg::{Limits, read, render_tail};
use catamaran_guest_memory::guest_ram::{GuestRam, Machine};
use catamaran_wire::{ErrorKind, WireError};

/// Longest log that is handed on, bytes.
const LOG_MAX: usize = 1 << 20;
/// Length of the tail that is kept of a panicked guest, bytes.
const CRASH_TAIL: usize = 64 << 10;

/// The newest `tail` bytes of the kernel log of the guest in QEMU's process `pid`.
///
/// # Errors
/// When the guest is not a Linux that has booted, or its memory cannot be seen.
pub async fn dmesg(pid: i32, machine: String, tail: Option<u64>) -> Result<String, WireError> {
    let tail = tail
        .map_or(LOG_MAX, |tail| usize::try_from(tail).unwrap_or(LOG_MAX))
        .min(LOG_MAX);
    tokio::task::spawn_blocking(move || {
        let failed = |message: String| WireError::new(ErrorKind::Failed, message);
        let kind = Machine::from_name(&machine).ok_or_else(|| {
            WireError::new(
                ErrorKind::Unsupported,
                format!("the RAM of a {machine} is not known"),
            )
        })?;
        let ram = GuestRam::of_process(pid.unsigned_abs(), kind)
            .map_err(|error| failed(error.to_string()))?;
        // Whoever asks waits, and the guest does not notice.
        let log = read(&ram, &Limits::patient())
            .map_err(|error| WireError::new(ErrorKind::Unavailable, error.to_string()))?;
        let text = render_tail(&log, tail);
        drop(log);
        catamaran_libvirt::trim_memory();
        Ok(text)
    })
    .await
    .map_err(|error| WireError::new(ErrorKind::Failed, error.to_string()))?
}

/// Keeps the tail of a panicked guest's log in `file`, replacing an older one.
///
/// # Errors
/// When there is no log to be read, or the file cannot be written.
pub async fn keep(pid: i32, machine: String, file: &Path) -> Result<(), WireError> {
    let text = dmesg(pid, machine, Some(CRASH_TAIL as u64)).await?;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o640)
        .open(file)
        .and_then(|mut handle| {
            handle.write_all(text.as_bytes())?;
            handle.sync_data()
        })
        .map_err(|error| WireError::new(ErrorKind::Failed, format!("{}: {error}", file.display())))
}
