//! A private containerd below the state folder, for hosts where none is running.
//!
//! It is started in a session of its own and outlives the daemon together with its containers; a file with its pid
//! and start time lets the next daemon adopt it. When containerd itself dies, its shims keep the containers, and a new
//! containerd takes them over.

mod config;
mod process;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::cri::Cri;
use crate::error::{Error, MAX_SOCKET_PATH};
use process::Process;

/// The image of sandboxes; it is imported from a local OCI layout, never pulled.
pub const PAUSE_IMAGE: &str = "catamaran.local/pause:dev";

/// Time for containerd to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Time for containerd to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// A log of this size is put aside.
const MAX_LOG: u64 = 8 << 20;
/// CNI plugins that the network's configuration uses.
const CNI_PLUGINS: &[&str] = &["bridge", "host-local", "loopback"];
/// Variables that containerd gets from the daemon: how to reach registries, and where to put temporary files.
const PASSED_ON: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TMPDIR",
];

/// Where a private containerd has its files, and what it uses of the host.
#[derive(Clone, Debug)]
pub struct PrivateOptions {
    /// Its folder: configuration, socket, pid file, log, content, mounts.
    pub folder: PathBuf,
    /// Folder with the one CNI network's `.conflist`, written by the caller; it may come after the start.
    pub cni_conf_dir: PathBuf,
    /// Folder with CNI's plugins.
    pub cni_bin_dir: PathBuf,
    /// Folder with `<registry>/hosts.toml` files (mirrors, CAs, plain HTTP).
    pub registries_dir: Option<PathBuf>,
    /// Where programs are looked for, in the form of `PATH`.
    pub path: OsString,
}

impl PrivateOptions {
    /// Options with Debian's folders, `PATH` of this process and files below `folder`.
    pub fn new(folder: impl Into<PathBuf>, cni_conf_dir: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cni_conf_dir: cni_conf_dir.into(),
            cni_bin_dir: PathBuf::from("/usr/lib/cni"),
            registries_dir: Some(PathBuf::from("/etc/containerd/certs.d"))
                .filter(|folder| folder.is_dir()),
            path: std::env::var_os("PATH").unwrap_or_default(),
        }
    }
}

/// The programs of a private containerd.
#[derive(Clone, Debug)]
struct Programs {
    containerd: PathBuf,
    runc: PathBuf,
    setsid: PathBuf,
}

/// A private containerd that runs.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    options: PrivateOptions,
    programs: Programs,
    /// It was stopped on purpose, and nothing but another `find` starts it again.
    stopped: bool,
}

impl Private {
    /// Checks that everything is installed.
    pub(crate) fn find(options: PrivateOptions) -> Result<Self, Error> {
        let mut missing = Vec::new();
        let mut find = |name: &str| {
            let found = find_program(&options.path, name);
            if found.is_none() {
                missing.push(name.to_owned());
            }
            found.unwrap_or_default()
        };
        let programs = Programs {
            containerd: find("containerd"),
            runc: find("runc"),
            setsid: find("setsid"),
        };
        for name in ["containerd-shim-runc-v2", "ctr"] {
            find(name);
        }
        missing.extend(
            CNI_PLUGINS
                .iter()
                .filter(|name| !options.cni_bin_dir.join(name).is_file())
                .map(|name| format!("CNI plugin {name}")),
        );
        if missing.is_empty() {
            Ok(Self {
                options,
                programs,
                stopped: false,
            })
        } else {
            Err(Error::NotInstalled {
                missing,
                cni_bin_dir: options.cni_bin_dir,
            })
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.options.folder.join("containerd.sock")
    }
    fn log(&self) -> PathBuf {
        self.options.folder.join("containerd.log")
    }
    fn pid_file(&self) -> PathBuf {
        self.options.folder.join("containerd.pid")
    }
    fn config_file(&self) -> PathBuf {
        self.options.folder.join("config.toml")
    }

    /// Starts containerd, or adopts the one that runs; one that runs with another configuration is started anew
    /// (its containers stay).
    pub(crate) async fn ensure(&self) -> Result<Cri, Error> {
        let socket = self.socket();
        if self.stopped {
            let message = "the private containerd was shut down".to_owned();
            return Err(Error::NoAnswer { socket, message });
        }
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(Error::SocketPath { socket, length });
        }
        let folder = &self.options.folder;
        std::fs::create_dir_all(folder).map_err(Error::file("make the folder", folder))?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
            .map_err(Error::file("set the mode of", folder))?;
        let config = config::text(
            &self.options,
            &self.programs.runc,
            self.major_version().await?,
        );
        let same = std::fs::read_to_string(self.config_file()).is_ok_and(|text| text == config);
        match Process::read(&self.pid_file(), "containerd") {
            Some(process) if same => {
                debug!(pid = process.pid(), "adopting the private containerd");
                let adopted = self.wait(&process).await;
                // It may have been dying when it was found.
                if adopted.is_ok() || process.is_alive() {
                    return adopted;
                }
            }
            Some(process) => {
                info!(
                    pid = process.pid(),
                    "the private containerd's configuration has changed: starting it anew"
                );
                process.end(STOP_LIMIT).await;
            }
            None => {}
        }
        let path = self.config_file();
        catamaran_host::file::replace(&path, config.as_bytes(), 0o600)
            .map_err(Error::file("write", &path))?;
        let process = self.spawn()?;
        info!(pid = process.pid(), socket = %socket.display(), "started a private containerd");
        self.wait(&process).await
    }

    /// 1 or 2.
    async fn major_version(&self) -> Result<u32, Error> {
        let output = Command::new(&self.programs.containerd)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(Error::file("run", &self.programs.containerd))?;
        // containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split_whitespace()
            .nth(2)
            .unwrap_or_default()
            .trim_start_matches('v');
        Ok(version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(1))
    }

    fn spawn(&self) -> Result<Process, Error> {
        let log = self.log();
        self.trim_log();
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::file("open", &log))?;
        let again = file.try_clone().map_err(Error::file("open", &log))?;
        // setsid executes containerd in its own place, since a child just made leads no process group.
        let mut command = Command::new(&self.programs.setsid);
        command
            .arg(&self.programs.containerd)
            .arg("--config")
            .arg(self.config_file());
        command
            .env_clear()
            .env("PATH", search_path(&self.options.path))
            .env("HOME", "/root");
        command.envs(
            PASSED_ON
                .iter()
                .filter_map(|name| std::env::var_os(name).map(|value| (name, value))),
        );
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .kill_on_drop(false);
        // Dropping the child leaves it to tokio to reap it.
        let child = command
            .spawn()
            .map_err(Error::file("run", &self.programs.containerd))?;
        let process = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Process::of);
        let process = process.ok_or_else(|| Error::NotStarted {
            limit: START_LIMIT,
            message: "it ended at once".to_owned(),
            log: self.log(),
        })?;
        process.write(&self.pid_file())?;
        Ok(process)
    }

    /// Puts the log aside when it has grown too large; containerd and its shims append, so that it can be emptied.
    pub(crate) fn trim_log(&self) {
        let log = self.log();
        if std::fs::metadata(&log).is_ok_and(|data| data.len() > MAX_LOG)
            && std::fs::copy(&log, log.with_extension("log.1")).is_ok()
            && let Ok(file) = std::fs::File::options().write(true).open(&log)
        {
            let _ = file.set_len(0);
        }
    }

    /// Kills shims that hold nothing: containerd leaves one when its client dies in the middle of a start. `known` are the
    /// ids of all sandboxes and containers; shims younger than `age` may be of a start that goes on.
    pub(crate) fn sweep(&self, known: &BTreeSet<String>, age: Duration) {
        let socket = self.socket();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let Some(process) = Process::of(pid) else {
                continue;
            };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).collect();
            let after = |flag: &[u8]| {
                words
                    .windows(2)
                    .find(|pair| pair[0] == flag)
                    .map(|pair| pair[1])
            };
            let is_shim = words[0].ends_with(b"containerd-shim-runc-v2");
            let ours = after(b"-address") == Some(socket.as_os_str().as_encoded_bytes());
            let id = after(b"-id")
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            if is_shim && ours && !known.contains(&*id) && process.age() >= age {
                warn!(pid, %id, "killing a shim that holds nothing");
                process.kill();
            }
        }
    }

    async fn wait(&self, process: &Process) -> Result<Cri, Error> {
        let cri = Cri::new(&self.socket());
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let Err(error) = cri.version().await else {
                return Ok(cri);
            };
            let ended = !process.is_alive();
            if ended || Instant::now() > deadline {
                let tail = last_error(&self.log()).unwrap_or_else(|| error.to_string());
                let message = if ended {
                    format!("it ended: {tail}")
                } else {
                    tail
                };
                return Err(Error::NotStarted {
                    limit: START_LIMIT,
                    message,
                    log: self.log(),
                });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends containerd, and removes the mounts and files that only a running one needs. Containers that still run
    /// keep running without it.
    pub(crate) async fn stop(&mut self) {
        self.stopped = true;
        if let Some(process) = Process::read(&self.pid_file(), "containerd") {
            process.end(STOP_LIMIT).await;
            info!(pid = process.pid(), "stopped the private containerd");
        }
        let state = self.options.folder.join("state");
        for mount in crate::volumes::mounts_below(&state) {
            if let Err(error) = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH)
            {
                warn!(mount = %mount.display(), %error, "cannot unmount");
            }
        }
        for file in [
            self.pid_file(),
            self.socket(),
            self.socket().with_extension("sock.ttrpc"),
        ] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// `PATH` for containerd: the caller's, and the folders where Debian has runc and iptables.
fn search_path(path: &OsStr) -> OsString {
    let system = [
        "/usr/local/sbin",
        "/usr/local/bin",
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
    ]
    .map(PathBuf::from);
    let own: Vec<_> = std::env::split_paths(path).collect();
    let more = system
        .into_iter()
        .filter(|folder| !own.contains(folder))
        .collect::<Vec<_>>();
    std::env::join_paths(own.iter().chain(&more)).unwrap_or_else(|_| path.to_owned())
}

fn find_program(path: &OsStr, name: &str) -> Option<PathBuf> {
    let runs = |file: &PathBuf| {
        std::fs::metadata(file)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(runs)
}

/// The last line of the log that tells of an error.
fn last_error(log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().rev().take(200).find(|line| {
        ["level=error", "level=fatal", "containerd:"]
            .iter()
            .any(|word| line.contains(word))
    })?;
    Some(line.chars().take(500).collect())
}
