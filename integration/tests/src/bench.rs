//! The place of one test: network namespace, state folder, daemon.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::command;
use crate::guest::{Console, tail};
use crate::host::{Marks, Process};
use crate::manifest;
use crate::programs;
use crate::setting::{Setting, without};
use crate::snapshot::Snapshot;
use crate::wait::{BOOT, SHORT, Seen, wait_field, wait_for};

/// One test at a time: the guests of two would share the processors and meet no deadline.
static TURN: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A daemon with everything around it.
#[derive(Debug)]
pub struct Bench {
    folder: TempDir,
    marks: Marks,
    bridge: String,
    setting: Setting,
    daemon: Option<Child>,
}

/// Runs a test with a daemon that plays nothing yet.
///
/// # Errors
/// When the test fails, or leaves something on the machine.
pub fn run(test: impl FnOnce(&mut Bench) -> Result<()>) -> Result<()> {
    run_in(Setting::default(), test)
}

/// As [`run`], in a place that is out of the ordinary.
///
/// # Errors
/// As [`run`].
pub fn run_in(setting: Setting, test: impl FnOnce(&mut Bench) -> Result<()>) -> Result<()> {
    if let Some(why) = programs::missing() {
        ensure!(
            std::env::var_os("CATAMARAN_NO_SKIP").is_none(),
            "can't run here: {why}"
        );
        eprintln!("skipped: {why}");
        return Ok(());
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bench = Bench::new(setting)?;
    let before = bench.snapshot();
    let result = bench
        .start_daemon()
        .and_then(|()| test(&mut bench))
        .and_then(|()| bench.down());
    if let Err(error) = result {
        return Err(error.context(bench.report()));
    }
    let after = wait_for("nothing is left on the machine", SHORT, || {
        let difference = bench.snapshot().difference(&before);
        Ok(Seen::when(difference.is_empty(), difference.to_string()))
    });
    after.with_context(|| bench.report())
}

impl Bench {
    fn new(setting: Setting) -> Result<Self> {
        // Paths of sockets have 107 bytes at most, and containerd's are deep.
        let folder = tempfile::Builder::new()
            .prefix("ct")
            .rand_bytes(5)
            .tempdir_in("/tmp")?;
        // uid 107 passes through on its way to the disks.
        let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
        fs::set_permissions(folder.path(), passable)?;
        programs::keep(&programs::find()?, &folder.path().join("bin"))?;
        fs::create_dir(folder.path().join("hidden"))?;
        let name = format!(
            "ct{}x{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let marks = Marks {
            state: folder.path().join("s"),
            netns: name.clone(),
        };
        command::stdout(&mut command::program("ip", ["netns", "add", &name]))?;
        let bench = Self {
            folder,
            marks,
            bridge: "ctbr0".to_owned(),
            setting,
            daemon: None,
        };
        command::stdout(&mut bench.inside(["ip", "link", "set", "lo", "up"]))?;
        if let Some(bytes) = bench.setting.disk {
            fs::create_dir(bench.state())?;
            let options = format!("size={bytes},mode=0711");
            let mut mount = command::program("mount", ["-t", "tmpfs", "-o", &options, "tmpfs"]);
            command::stdout(mount.arg(bench.state()))?;
        }
        Ok(bench)
    }

    /// The daemon's state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.marks.state
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What tells the bench's things from others'.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// A program in the bench's network namespace.
    pub fn inside<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.marks.netns))
            .args(words);
        command
    }

    /// A program in the network namespace of a machine, where its tap is.
    pub fn beside<S: AsRef<OsStr>>(
        &self,
        machine: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Command {
        let namespace = self
            .marks
            .state
            .join(format!("network/netns/default_{machine}"));
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", namespace.display()))
            .args(words);
        command
    }

    /// `catamaran` with the bench's state folder.
    pub fn client<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.inside([self.folder.path().join("bin/catamaran")]);
        command.arg("--state").arg(&self.marks.state).args(words);
        command
    }

    /// Runs a verb that must succeed and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn catamaran<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        command::stdout(&mut self.client(words))
    }

    /// Runs a verb, however it ends.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn try_catamaran<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Output> {
        command::output(&mut self.client(words))
    }

    /// Runs a verb that must be refused and gives the message.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn refused<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        command::refused(&mut self.client(words))
    }

    /// Writes objects into a manifest file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn manifest(&self, objects: &[&Value]) -> Result<PathBuf> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("manifest{number}.yaml"));
        fs::write(&path, manifest::file(objects))?;
        Ok(path)
    }

    /// Applies objects.
    ///
    /// # Errors
    /// When they are refused.
    pub fn apply(&self, objects: &[&Value]) -> Result<String> {
        let path = self.manifest(objects)?;
        self.catamaran([OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
    }

    /// An object as the daemon has it; `vmi/NAME`, `vm/NAME`, `pod/NAME`.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, object: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.catamaran(["get", object, "-o", "json"])?,
        )?)
    }

    /// Waits until a field of an object has a value; `pointer` is a JSON pointer.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub fn wait_field(
        &self,
        object: &str,
        pointer: &str,
        wanted: &str,
        deadline: Duration,
    ) -> Result<Value> {
        wait_field(object, pointer, wanted, deadline, || self.get(object))
    }

    /// Waits until `get` says that an object is not there.
    ///
    /// # Errors
    /// When it stays.
    pub fn wait_gone(&self, object: &str, deadline: Duration) -> Result<()> {
        wait_for(&format!("{object} is gone"), deadline, || {
            let output = self.try_catamaran(["get", object, "-o", "json"])?;
            Ok(Seen::when(
                !output.status.success(),
                String::from_utf8_lossy(&output.stdout),
            ))
        })
    }

    /// All that a machine said on its serial line in this run.
    #[must_use]
    pub fn serial(&self, machine: &str) -> String {
        let path = self
            .marks
            .state
            .join(format!("vms/default_{machine}/run/serial.log"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Waits for a text on the serial line of a machine.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn wait_serial(&self, machine: &str, text: &str, deadline: Duration) -> Result<()> {
        wait_for(
            &format!("{text:?} on the serial line of {machine}"),
            deadline,
            || {
                let said = self.serial(machine);
                let status = || self.catamaran(["ps", "-o", "wide"]).unwrap_or_default();
                if said.contains(text) {
                    return Ok(Seen::Yes(()));
                }
                Ok(Seen::NotYet(format!("{}\n{}", tail(&said), status())))
            },
        )
    }

    /// Waits until a guest has booted, and opens its console.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn booted(&self, machine: &str) -> Result<Console> {
        self.wait_serial(machine, "catamaran-guest ready: ", BOOT)?;
        self.wait_serial(machine, ":/root# ", SHORT)?;
        Console::open(self, machine, &[])
    }

    /// Ids of the processes of a machine whose program is `program`.
    #[must_use]
    pub fn processes(&self, machine: &str, program: &str) -> Vec<i32> {
        let groups = self.marks.cgroups();
        let groups = groups
            .iter()
            .filter(|path| path.ends_with(format!("default_{machine}")));
        let pids: Vec<i32> = groups
            .filter_map(|path| fs::read_to_string(path.join("cgroup.procs")).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        let all = self.marks.processes();
        let mut found: Vec<i32> = all
            .iter()
            .filter(|process| pids.contains(&process.pid) && process.program() == program)
            .map(|process| process.pid)
            .collect();
        found.sort_unstable();
        found
    }

    /// The one process of a machine with that program.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn process(&self, machine: &str, program: &str) -> Result<i32> {
        match self.processes(machine, program).as_slice() {
            [pid] => Ok(*pid),
            other => bail!("{machine} has {} processes {program}", other.len()),
        }
    }

    /// Runs a program in the container of a pod.
    ///
    /// # Errors
    /// When the pod does not run or the program fails.
    pub fn in_pod(&self, pod: &str, program: &str, words: &[&str]) -> Result<String> {
        let inits = self.pod_processes(pod);
        let container = inits.iter().find(|process| process.program() != "pause");
        let pid = container
            .with_context(|| format!("no process in pod {pod}: {inits:?}"))?
            .pid
            .to_string();
        command::stdout(
            command::program("nsenter", ["-t", &pid, "-m", "-n", "-u", "--", program]).args(words),
        )
    }

    /// Processes of a pod.
    #[must_use]
    pub fn pod_processes(&self, pod: &str) -> Vec<Process> {
        let part = format!("{}/default_{pod}/", self.marks.groups()[1]);
        let mut found = self.marks.processes();
        found.retain(|process| {
            fs::read_to_string(format!("/proc/{}/cgroup", process.pid))
                .is_ok_and(|groups| groups.contains(&part))
        });
        found
    }

    /// What the machine has of the bench now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(
            &self.marks,
            &[
                self.marks.netns.clone(),
                self.marks.state.display().to_string(),
            ],
            self.daemon.is_some(),
        )
    }

    /// Process id of the daemon.
    ///
    /// # Errors
    /// When none was started.
    pub fn daemon_pid(&self) -> Result<i32> {
        let daemon = self.daemon.as_ref().context("the daemon was not started")?;
        Ok(i32::try_from(daemon.id())?)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    /// What the daemon said, all its lives together.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// The command that is the daemon.
    pub fn play<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.client([
            OsStr::new("--log"),
            OsStr::new("info,catamaran_node=debug"),
            OsStr::new("play"),
        ]);
        command
            .args(["--bridge", &self.bridge, "--runtime", "private", "--images"])
            .arg(programs::images())
            .args(&self.setting.words)
            .args(words)
            .envs(self.setting.variables.iter().cloned());
        if self.setting.hidden.is_empty() {
            return command;
        }
        without(&self.setting.hidden, &self.scratch(), &command)
    }

    /// An empty folder for the hiding of files.
    fn scratch(&self) -> PathBuf {
        self.folder.path().join("hidden")
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_daemon(&mut self) -> Result<()> {
        self.start_daemon_with(&[])
    }

    /// Starts the daemon with further words and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_daemon_with(&mut self, words: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.play(words);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let daemon = self
            .daemon
            .insert(command.spawn().context("catamaran play")?);
        let mut ended = None;
        while ended.is_none() {
            let answered = wait_for("the daemon answers", Duration::from_millis(500), || {
                let words = ["ps", "-o", "json"];
                let mut client = Command::new("nsenter");
                client.arg(format!("--net=/run/netns/{}", self.marks.netns));
                client
                    .arg(self.folder.path().join("bin/catamaran"))
                    .arg("--state")
                    .arg(&self.marks.state)
                    .args(words);
                command::stdout(&mut client).map(Seen::Yes)
            });
            if answered.is_ok() {
                return Ok(());
            }
            ended = daemon.try_wait()?;
        }
        bail!("the daemon ended: {ended:?}");
    }

    /// Whether a daemon answers.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.catamaran(["ps"]).is_ok()
    }

    /// Kills the daemon with SIGKILL.
    ///
    /// # Errors
    /// When there is none.
    pub fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon was not started")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Deletes everything and ends the daemon, as a user would.
    ///
    /// # Errors
    /// When something stays.
    fn down(&mut self) -> Result<()> {
        if self.daemon.is_none() {
            self.start_daemon()?;
        }
        self.catamaran(["down", "--delete", "--volumes"])?;
        let mut daemon = self.daemon.take().context("the daemon was not started")?;
        let status = wait_for("the daemon ends after `down`", SHORT, || {
            Ok(daemon
                .try_wait()?
                .map_or_else(|| Seen::NotYet("it runs".to_owned()), Seen::Yes))
        });
        if status.is_err() {
            self.daemon = Some(daemon);
        }
        let status = status?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }

    /// What helps to find out why a test failed.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = String::from("how things stood\n");
        let mut part = |what: &str, text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            let lines = &lines[lines.len().saturating_sub(60)..];
            out.push_str(&format!("--- {what}\n{}\n", lines.join("\n")));
        };
        part(
            "ps",
            &self.catamaran(["ps", "-o", "wide"]).unwrap_or_default(),
        );
        let processes: Vec<String> = self
            .marks
            .processes()
            .iter()
            .map(|process| format!("{} {:.150}", process.pid, process.command))
            .collect();
        part("processes", &processes.join("\n"));
        part("daemon", &self.daemon_log());
        for entry in fs::read_dir(self.marks.state.join("vms"))
            .into_iter()
            .flatten()
            .flatten()
        {
            for file in ["init.log", "serial.log", "libvirt/log/qemu"] {
                let path = entry.path().join("run").join(file);
                part(
                    &path.display().to_string(),
                    &String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()),
                );
            }
        }
        let containerd = self.marks.state.join("containers/runtime/containerd.log");
        part(
            "containerd",
            &fs::read_to_string(containerd).unwrap_or_default(),
        );
        out
    }

    /// Kills and removes whatever is left, however the test ended.
    fn clear(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = wait_for("all processes of the test are dead", SHORT, || {
            let left = self.marks.processes();
            for pid in left.iter().filter_map(|process| Pid::from_raw(process.pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            Ok(Seen::when(left.is_empty(), format!("{left:?}")))
        });
        for mount in self.marks.mounts().iter().rev() {
            let _ = command::output(&mut command::program("umount", ["--lazy", mount]));
        }
        for group in self.marks.cgroups().iter().rev() {
            let _ = fs::remove_dir(group);
        }
        if self.setting.disk.is_some() {
            let mut umount = command::program("umount", ["--lazy"]);
            let _ = command::output(umount.arg(self.state()));
        }
        let _ = command::output(&mut command::program(
            "ip",
            ["netns", "delete", &self.marks.netns],
        ));
        if std::env::var_os("CATAMARAN_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.clear();
    }
}
