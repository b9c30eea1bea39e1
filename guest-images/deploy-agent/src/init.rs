//! PID 1: mounts, sets the clock, loads drivers, starts the worker again when it ends, reaps. It never ends, since that would be a kernel panic.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use catamaran_deploy_wire::{Parameters, SLOT_NAME};
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, wait};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::drivers;

/// Between two starts of the worker.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A worker that lived so long did not die of its start.
const LIVED: Duration = Duration::from_secs(120);

/// Reads the parameters that came with the ISO.
///
/// # Errors
/// They are absent or wrong.
pub fn parameters() -> Result<Parameters> {
    let path = format!("/{SLOT_NAME}");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(Parameters::parse(&text)?)
}

/// Everything that PID 1 does.
///
/// # Errors
/// Only before the worker is started for the first time.
pub fn run() -> Result<()> {
    for (source, target, kind) in [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("tmpfs", "/run", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
    ] {
        fs::create_dir_all(target)?;
        if let Err(error) = mount(source, target, kind, MountFlags::empty(), None) {
            tracing::warn!("{target} can't be mounted: {error}");
        }
    }
    tracing::info!(
        "catamaran-deploy-agent {} begins",
        env!("CARGO_PKG_VERSION")
    );
    match parameters() {
        Ok(parameters) => set_clock(parameters.issued_at),
        Err(error) => tracing::error!("{error:#}"),
    }
    drivers::load(Path::new("/sys"));
    supervise()
}

/// Sets the clock where it is behind: a server whose battery is empty would take every certificate for one of the future.
fn set_clock(issued_at: u64) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    if now >= issued_at {
        return;
    }
    let time = Timespec {
        tv_sec: i64::try_from(issued_at).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => tracing::warn!("the clock was {} s behind and was set", issued_at - now),
        Err(error) => tracing::error!("the clock is behind and can't be set: {error}"),
    }
}

fn supervise() -> Result<()> {
    let mut pause = PAUSE_MIN;
    loop {
        let begin = std::time::Instant::now();
        match start_worker() {
            Ok(worker) => {
                let status = reap_until(&worker);
                tracing::error!(
                    "the worker ended ({status}); it is started again in {} s",
                    pause.as_secs()
                );
            }
            Err(error) => tracing::error!("the worker can't be started: {error:#}"),
        }
        if begin.elapsed() > LIVED {
            pause = PAUSE_MIN;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn start_worker() -> Result<Child> {
    Command::new("/proc/self/exe")
        .env("CATAMARAN_DEPLOY_CONSOLES", "1")
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .spawn()
        .context("starting the worker")
}

/// Reaps whatever ends, until the worker does; says how it ended.
fn reap_until(worker: &Child) -> String {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == worker.id() => {
                return format!("{status:?}");
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return error.to_string(),
        }
    }
}
