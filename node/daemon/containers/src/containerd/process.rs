//! A process that outlives us, on disk: started by one daemon, found again and ended by another.

use std::fs;
use std::path::Path;
use std::time::Duration;

use catamaran_host::{file, process};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::Error;

/// A process by pid, start time and boot.
#[derive(Clone, Debug)]
pub(super) struct Process(process::Process);

impl Process {
    /// The process that has this pid now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        process::Process::of(pid).ok().flatten().map(Self)
    }

    /// The process in the file, if it lives and has that name.
    pub(super) fn read(file: &Path, name: &str) -> Option<Self> {
        let process = Self(serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?);
        let named = fs::read_to_string(format!("/proc/{}/comm", process.pid()))
            .is_ok_and(|comm| comm.trim() == name || comm.trim() == "setsid");
        (process.is_alive() && named).then_some(process)
    }

    pub(super) fn pid(&self) -> i32 {
        self.0.pid
    }

    /// Time since its start; at most 10 ms too much.
    pub(super) fn age(&self) -> Duration {
        let started = process::ticks(self.0.start_time());
        let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = text
            .split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .map(Duration::from_secs_f64);
        uptime.unwrap_or_default().saturating_sub(started)
    }

    /// Kills it, if it is still the same process.
    pub(super) fn kill(&self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.0).expect("a struct of numbers and text is JSON");
        file::replace(path, &text, 0o644).map_err(Error::file("write", path))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// SIGTERM, and SIGKILL when it does not end within `limit`; returns when it is gone.
    pub(super) async fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut signal = Signal::TERM;
        let mut sent = false;
        while self.is_alive() {
            if !sent && let Some(pid) = Pid::from_raw(self.pid()) {
                let _ = kill_process(pid, signal);
                sent = true;
            }
            if signal == Signal::TERM && Instant::now() > deadline {
                (signal, sent) = (Signal::KILL, false);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}
