//! The sandbox of one virtual machine: what it shows, and how the daemon starts it.
//!
//! ```text
//!  daemon (root) ── catamaran-init sandbox ── catamaran-init enter ══exec══> catamaran-init run ── catamaran-launcher ── QEMU
//!                   joins cgroups and netns,   builds the root, pivots,       PID 1, uid 107,
//!                   unshares, answers, ends    drops everything                no capabilities
//! ```
//!
//! A [`SandboxSpec`] is data; [`SandboxSpec::start`] is the call the daemon makes. What runs inside outlives the daemon.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use catamaran_host::process::Stat;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub mod files;
pub mod privileges;
pub mod root;
pub mod seccomp;
pub mod stage;

/// Where the daemon's cache of QEMU's capabilities is shown inside (read-only), if there is one.
pub const CAPABILITIES_SEED: &str = "/var/cache/catamaran/capabilities";
/// Name of the file in the run folder that takes the standard output of a task.
pub const TASK_OUTPUT: &str = "task.out";
/// Name of the log of init and launcher in the run folder.
pub const LOG: &str = "init.log";

/// Everything a sandbox consists of. Paths are the host's unless the field says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSpec {
    /// The machine's key, `<namespace>_<name>`; for messages.
    pub vm: String,
    /// Host name inside.
    pub hostname: String,
    /// Run folder, shown as `/vm`. Made and given to uid 107 when missing.
    pub run: PathBuf,
    /// Persistent folder, shown as `/state`. Made and given to uid 107 when missing.
    pub state: PathBuf,
    /// Folder with `<version>/catamaran-launcher`, `<version>/catamaran-init` and the link `current`, shown read-only
    /// as `/vm/code`. One folder may serve all machines: their launchers then share the page cache.
    pub code: PathBuf,
    /// The daemon's cache of QEMU's capabilities, shown at [`CAPABILITIES_SEED`].
    #[serde(default)]
    pub capabilities: Option<PathBuf>,
    /// Further files and folders.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Network namespace to join (such as `/run/netns/NAME`); `None` = a new, empty one.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// Device nodes besides the harmless ones, such as `/dev/kvm`, `/dev/net/tun`; uid 107 gets them. Missing ones are
    /// an error.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    /// cgroup folders to join (one on v2, one for each controller on v1).
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    /// Limits, by their lower-case name without `RLIMIT_`: `nofile`, `memlock`, `nproc`, `core`.
    #[serde(default)]
    pub limits: BTreeMap<String, Limit>,
    /// A program to run instead of the launcher, with the sandbox ending when it ends; see [`SandboxSpec::run_task`].
    #[serde(default)]
    pub task: Option<Vec<String>>,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Soft limit; `None` = unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` = unlimited.
    pub hard: Option<u64>,
}

/// A file or folder of the host that the sandbox shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bind {
    /// On the host; a file or a folder.
    pub host: PathBuf,
    /// Absolute path inside.
    pub inside: PathBuf,
    /// Whether the sandbox may write.
    pub writable: bool,
    /// The file that must be found there, for one that was checked and whose folder others may write to.
    #[serde(default)]
    pub file: Option<FileId>,
}

/// Which file of this machine: the same as long as somebody has it open, whatever happens to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileId {
    /// Device number of its file system.
    pub device: u64,
    /// Number in its file system.
    pub inode: u64,
}

/// What the stage answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Process id of the sandbox's init, in the daemon's pid namespace.
    pub pid: i32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`): pid and start time together name one
    /// process for good.
    pub start_time: u64,
}

/// A running sandbox.
#[derive(Debug)]
pub struct Running {
    /// Who is its init.
    pub answer: Answer,
    /// Becomes readable when init is gone, and with it everything inside: the proof of death.
    pub pidfd: OwnedFd,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A step of the stage failed.
    #[error("{step}: {source}")]
    Step {
        /// What was done, naming the thing.
        step: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The stage ended with this message.
    #[error("the sandbox of {vm} did not start: {message}")]
    Stage {
        /// The machine.
        vm: String,
        /// What the stage said.
        message: String,
    },
    /// The sandbox ended at once.
    #[error("the init of {vm} (pid {pid}) ended at once; see {LOG} in its run folder")]
    Gone {
        /// The machine.
        vm: String,
        /// Its pid.
        pid: i32,
    },
}

/// Puts the step's name to a system error.
pub(crate) trait Step<T> {
    /// Names what was done.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SandboxError>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, SandboxError> {
        self.map_err(|source| SandboxError::Step {
            step: step(),
            source: source.into(),
        })
    }
}

impl SandboxSpec {
    /// Starts the sandbox with `init` (the host's `catamaran-init`) as its stage, and returns when the launcher is
    /// about to run. Blocks for some 20 ms.
    ///
    /// # Errors
    /// When a step fails; the message names the path or the namespace.
    pub fn start(&self, init: &Path) -> Result<Running, SandboxError> {
        let output = self.stage(init)?;
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|error| SandboxError::Stage {
                vm: self.vm.clone(),
                message: format!(
                    "its answer {:?} is not understood: {error}",
                    String::from_utf8_lossy(&output)
                ),
            })?;
        Running::find(answer.clone()).map_err(|_| SandboxError::Gone {
            vm: self.vm.clone(),
            pid: answer.pid,
        })
    }

    /// Runs `argv` in a sandbox like this one and waits for its end, for the probe of QEMU's capabilities. Returns its standard output, 64 MiB of it at
    /// most.
    ///
    /// # Errors
    /// When the sandbox does not start or the program fails; the message is its last words.
    pub fn run_task(&self, init: &Path, argv: Vec<String>) -> Result<Vec<u8>, SandboxError> {
        let spec = Self {
            task: Some(argv),
            ..self.clone()
        };
        spec.stage(init)?;
        let file = self.run.join(TASK_OUTPUT);
        let mut output = Vec::new();
        // The folder is the sandbox's: what lies there now is a link or a pipe if the task wanted it so.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&file, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|opened| File::from(opened).take(64 << 20).read_to_end(&mut output))
            .step(|| format!("read {}", file.display()))?;
        Ok(output)
    }

    fn stage(&self, init: &Path) -> Result<Vec<u8>, SandboxError> {
        let mut child = Command::new(init)
            .arg("sandbox")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/")
            .spawn()
            .step(|| format!("run {}", init.display()))?;
        let text = serde_json::to_vec(self)
            .map_err(std::io::Error::other)
            .step(|| "write the sandbox spec".into())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A stage that died early says why on its standard error, which is more than EPIPE does.
            let _ = stdin.write_all(&text);
        }
        let output = child
            .wait_with_output()
            .step(|| format!("wait for {}", init.display()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let mut message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if message.is_empty() {
            message = output.status.to_string();
        }
        Err(SandboxError::Stage {
            vm: self.vm.clone(),
            message,
        })
    }
}

impl Running {
    /// Finds a sandbox's init again, e.g. after a restart of the daemon.
    ///
    /// # Errors
    /// `NotFound` when that very process is gone (the pid may be someone else's by now), which is proof of death.
    pub fn find(answer: Answer) -> std::io::Result<Self> {
        let gone = || {
            std::io::Error::new(
                std::io::ErrorKind::NotFound,
                format!("process {} is gone", answer.pid),
            )
        };
        let pid = rustix::process::Pid::from_raw(answer.pid).ok_or_else(gone)?;
        let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Err(gone()),
            other => other?,
        };
        // Checked after the open: from here on the descriptor names the process that has this start time.
        if Stat::of(answer.pid)
            .is_none_or(|stat| stat.start_time != answer.start_time || stat.is_dead())
        {
            return Err(gone());
        }
        Ok(Self { answer, pidfd })
    }
}
