//! A process that outlives us: its pid and start time, which together are never used again.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::Error;

/// A process by pid and start time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// Clock ticks from the machine's boot.
    start_time: u64,
    /// The boot of the machine, so that a file from before a reboot fits no process.
    boot_id: String,
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// State and start time from `/proc/PID/stat`.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl Process {
    /// The process that has this pid now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let (_, start_time) = stat(pid)?;
        Some(Self {
            pid,
            start_time,
            boot_id: boot_id(),
        })
    }

    /// The process in the file, if it lives and has that name.
    pub(super) fn read(file: &Path, name: &str) -> Option<Self> {
        let process: Self = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
        let named = std::fs::read_to_string(format!("/proc/{}/comm", process.pid))
            .is_ok_and(|comm| comm.trim() == name || comm.trim() == "setsid");
        (process.is_alive() && named).then_some(process)
    }

    /// Time since its start; at most 10 ms too much.
    pub(super) fn age(&self) -> Duration {
        // Ticks of /proc are hundredths of a second on every architecture.
        let started = Duration::from_millis(self.start_time.saturating_mul(10));
        let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
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
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    pub(super) fn write(&self, file: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec(self).expect("a struct of numbers and text is JSON");
        crate::volumes::write_file(file, &text, 0o644)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.boot_id == boot_id()
            && stat(self.pid).is_some_and(|(state, start)| {
                start == self.start_time && !matches!(state, 'Z' | 'X')
            })
    }

    /// SIGTERM, and SIGKILL when it does not end within `limit`; returns when it is gone.
    pub(super) async fn end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut signal = Signal::TERM;
        let mut sent = false;
        while self.is_alive() {
            if !sent && let Some(pid) = Pid::from_raw(self.pid) {
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
