//! PID 1 of a machine's pid namespace.
//!
//! It reaps at once and records each orphan's exit, forwards SIGTERM to the launcher, starts the launcher again while
//! QEMU lives, ends with the machine's result, and can execute itself anew (SIGHUP, by hand only). Nothing else: it must be so small
//! and dull that it never has to be replaced, since its end is the end of everything in the namespace.
//!
//! ```text
//!            launcher ends: "machine is over" (code 0 or 10)
//!   ┌─────────┐ ───────────────────────────────────────────────> exit with that code
//!   │ running │
//!   └─────────┘ ── otherwise, QEMU lives or few failures ──> ┌─────────┐ ── pause over ──> running
//!        ^                                                   │ waiting │
//!        └───────────────────────────────────────────────────└─────────┘ ── too many ──> exit 11
//! ```

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use catamaran_host::process::{Stat, is_alive};
use catamaran_plan::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::os::fd::AsFd;

use crate::records::{self, Exit};
use crate::sandbox::files;

/// Exit code of a launcher whose machine has ended as it was meant to.
pub const CODE_ENDED: u8 = 0;
/// Exit code of a launcher whose machine has failed: QEMU crashed, the guest panicked, or it never started.
pub const CODE_FAILED: u8 = 10;
/// Exit code of init when the launcher failed too often without a QEMU.
pub const CODE_NO_LAUNCHER: u8 = 11;

/// Failures in a row without a living QEMU after which init gives up.
const FAILURES_MAX: u32 = 6;
/// A launcher that ran for this long was well.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Where things are; constants but for the tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// What to run as the launcher.
    pub launcher: PathBuf,
    /// This program's newest version, for SIGHUP.
    pub init: PathBuf,
    /// The record of exits.
    pub exits: PathBuf,
    /// libvirt's folder, which says whether QEMU lives.
    pub libvirt_root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        let code = Path::new(paths::CODE).join("current");
        Self {
            launcher: code.join("catamaran-launcher"),
            init: code.join("catamaran-init"),
            exits: paths::EXITS.into(),
            libvirt_root: paths::LIBVIRT_ROOT.into(),
        }
    }
}

/// Runs until the machine is over. `launcher` is the running launcher's pid after init has executed itself anew.
///
/// # Errors
/// When signals cannot be received; everything else is survived.
pub fn run(places: &Places, launcher: Option<i32>) -> nix::Result<ExitCode> {
    let _ = rustix::process::setsid();
    let signals = signals()?;
    let mut state = State {
        launcher: None,
        ending: false,
        failures: 0,
        started: Instant::now(),
        wait: None,
    };
    if let Some(pid) = launcher.filter(|pid| is_alive(*pid)) {
        state.launcher = Some(Pid::from_raw(pid));
    } else {
        // The first failure in a row never ends it.
        state.launch(places);
    }
    loop {
        // Reaping first: a child may have ended before the signals were blocked.
        for (pid, exit) in reap(&places.exits) {
            if state.launcher == Some(pid)
                && let Some(code) =
                    state.launcher_ended(&exit, files::live_qemu(&places.libvirt_root).is_some())
            {
                return Ok(ExitCode::from(code));
            }
        }
        if state.wait.is_some_and(|until| until <= Instant::now()) {
            state.wait = None;
            if let Some(code) = state.launch(places) {
                return Ok(ExitCode::from(code));
            }
        }
        let timeout = state.wait.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut descriptors = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut descriptors, timeout)
            && error != nix::errno::Errno::EINTR
        {
            return Err(error);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGTERM | Signal::SIGINT) => state.end(),
                Ok(Signal::SIGHUP) => anew(places, state.launcher),
                _ => {}
            }
        }
    }
}

/// Runs one program with the duties of a PID 1, and ends when it ends, with its exit code.
///
/// # Errors
/// When signals cannot be received.
pub fn task(argv: &[String]) -> nix::Result<ExitCode> {
    let signals = signals()?;
    let Some((program, arguments)) = argv.split_first() else {
        return Err(nix::errno::Errno::EINVAL);
    };
    let child = match unblocked(Command::new(program).args(arguments)) {
        Ok(pid) => pid,
        Err(error) => {
            say(&format!("{program} cannot be run: {error}"));
            return Ok(ExitCode::from(127));
        }
    };
    loop {
        for (pid, exit) in reap(Path::new(paths::EXITS)) {
            if pid == child {
                let code = exit
                    .code
                    .unwrap_or_else(|| 128 + exit.signal.unwrap_or_default());
                return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
            }
        }
        let mut descriptors = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut descriptors, PollTimeout::NONE)
            && error != nix::errno::Errno::EINTR
        {
            return Err(error);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            if matches!(
                Signal::try_from(info.ssi_signo.cast_signed()),
                Ok(Signal::SIGTERM | Signal::SIGINT)
            ) {
                let _ = kill(child, Signal::SIGTERM);
            }
        }
    }
}

struct State {
    launcher: Option<Pid>,
    /// SIGTERM has come.
    ending: bool,
    /// Launchers in a row that failed.
    failures: u32,
    started: Instant,
    /// When to start the next launcher.
    wait: Option<Instant>,
}

impl State {
    /// Starts a launcher. Whether to end instead, and with which code.
    fn launch(&mut self, places: &Places) -> Option<u8> {
        self.started = Instant::now();
        let mut command = Command::new(&places.launcher);
        if self.ending {
            command.arg("--stop");
        }
        match unblocked(&mut command) {
            Ok(pid) => {
                self.launcher = Some(pid);
                None
            }
            Err(error) => {
                say(&format!(
                    "{} cannot be run: {error}",
                    places.launcher.display()
                ));
                self.failed(files::live_qemu(&places.libvirt_root).is_some())
            }
        }
    }

    /// Whether to end, and with which code.
    fn launcher_ended(&mut self, exit: &Exit, qemu_lives: bool) -> Option<u8> {
        self.launcher = None;
        let code = exit.code.and_then(|code| u8::try_from(code).ok());
        if let Some(code @ (CODE_ENDED | CODE_FAILED)) = code {
            return Some(code);
        }
        if self.started.elapsed() >= WELL_AFTER {
            self.failures = 0;
        }
        let end = self.failed(qemu_lives);
        let next = if end.is_some() {
            "init gives up"
        } else {
            "it is started again"
        };
        say(&format!(
            "the launcher ended with {exit}; {next} (failure {} in a row)",
            self.failures
        ));
        end
    }

    /// Counts a failure. Without a living QEMU too many of them are the end, whether the launcher fails or can't even be executed.
    fn failed(&mut self, qemu_lives: bool) -> Option<u8> {
        self.failures = self.failures.saturating_add(1);
        self.wait = Some(Instant::now() + pause(self.failures));
        (self.failures > FAILURES_MAX && !qemu_lives).then_some(CODE_NO_LAUNCHER)
    }

    fn end(&mut self) {
        self.ending = true;
        match self.launcher {
            Some(pid) => {
                let _ = kill(pid, Signal::SIGTERM);
            }
            // It is started with `--stop` then, without further waiting.
            None => self.wait = Some(Instant::now()),
        }
    }
}

/// The first restart is at once, since a viewer may be looking; then 0.1 s, doubling up to 30 s.
fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => Duration::from_millis(100 << (n - 2).min(9)).min(Duration::from_secs(30)),
    }
}

fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Starts a child. It inherits the blocked signals and unblocks them when it is ready for them.
fn unblocked(command: &mut Command) -> std::io::Result<Pid> {
    let child = command.process_group(0).spawn()?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()))
}

/// Reaps every child that has ended, and records it.
fn reap(record: &Path) -> Vec<(Pid, Exit)> {
    let mut ended = Vec::new();
    loop {
        // Looked at before it is reaped: only a zombie still has a name.
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Some(pid) = waitid(Id::All, peek).ok().and_then(|status| status.pid()) else {
            return ended;
        };
        let name = Stat::of(pid.as_raw())
            .map(|stat| stat.name)
            .unwrap_or_default();
        let (code, signal) = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => (Some(code), None),
            Ok(WaitStatus::Signaled(_, signal, _)) => (None, Some(signal as i32)),
            _ => return ended,
        };
        let exit = Exit {
            pid: pid.as_raw(),
            name,
            code,
            signal,
            time_ms: records::now_ms(),
        };
        if let Err(error) = records::add_exit(record, &exit) {
            say(&format!(
                "the exit of process {pid} ({exit}) is not recorded: {error}"
            ));
        }
        ended.push((pid, exit));
    }
}

/// Executes the newest init, which keeps the pid, the children and the blocked signals.
fn anew(places: &Places, launcher: Option<Pid>) {
    let mut command = Command::new(&places.init);
    command.arg("run");
    if let Some(pid) = launcher {
        command.arg(pid.to_string());
    }
    let error = command.exec();
    say(&format!(
        "{} cannot be executed: {error}; this init goes on",
        places.init.display()
    ));
}

/// One line for the log. There is no logger here, to stay small.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "catamaran-init: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            launcher: None,
            ending: false,
            failures: 0,
            started: Instant::now(),
            wait: None,
        }
    }

    fn exit(code: Option<i32>, signal: Option<i32>) -> Exit {
        Exit {
            pid: 5,
            name: String::new(),
            code,
            signal,
            time_ms: 0,
        }
    }

    #[test]
    fn a_killed_launcher_is_started_again_at_once() {
        let mut state = state();
        assert_eq!(state.launcher_ended(&exit(None, Some(9)), true), None);
        assert!(state.wait.unwrap() <= Instant::now());
    }

    #[test]
    fn the_machines_result_is_inits_result() {
        assert_eq!(
            state().launcher_ended(&exit(Some(0), None), false),
            Some(CODE_ENDED)
        );
        assert_eq!(
            state().launcher_ended(&exit(Some(10), None), false),
            Some(CODE_FAILED)
        );
    }

    #[test]
    fn init_gives_up_only_without_a_living_qemu() {
        let mut state = state();
        for _ in 0..20 {
            assert_eq!(state.launcher_ended(&exit(Some(1), None), true), None);
        }
        assert_eq!(
            state.launcher_ended(&exit(Some(1), None), false),
            Some(CODE_NO_LAUNCHER)
        );
    }

    #[test]
    fn init_gives_up_on_a_launcher_that_can_not_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places {
            launcher: folder.path().join("missing"),
            init: folder.path().join("missing"),
            exits: folder.path().join("exits"),
            libvirt_root: folder.path().to_owned(),
        };
        let mut state = state();
        let mut codes: Vec<_> = (0..=FAILURES_MAX).map(|_| state.launch(&places)).collect();
        assert_eq!(codes.pop(), Some(Some(CODE_NO_LAUNCHER)));
        assert!(codes.iter().all(Option::is_none), "{codes:?}");
        assert!(state.wait.is_some());
    }

    #[test]
    fn pauses_grow_and_end_at_half_a_minute() {
        let pauses: Vec<_> = (1..15).map(pause).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&Duration::from_secs(30)));
    }

    #[test]
    fn a_stop_without_a_launcher_reaches_the_next_one() {
        let mut state = state();
        state.end();
        assert!(state.ending && state.wait.is_some());
    }
}
