//! A daemon of its own for each benchmark: in new network and mount namespaces, with its state in a temporary folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Pid};
use crate::wait;

/// What the minimal guest says on its serial line when it has an IPv4 address. What it says next waits for DHCPv6, which the network of raw QEMU lacks.
const MARKER: &str = "catamaran-guest address: ";
/// RAM of the machines, in bytes.
pub(crate) const RAM: u64 = 128 << 20;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The network namespace is new, so its loopback is down; names of namespaces are this daemon's own.
const ENTER: &str =
    "ip link set lo up && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && exec \"$@\"";

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// Folder with `catamaran`, `catamaran-launcher`, `catamaran-init`.
    pub(crate) programs: PathBuf,
    /// OCI layout with the minimal guest.
    pub(crate) images: PathBuf,
}

/// A running daemon. On drop it and all its machines are ended.
#[derive(Debug)]
pub(crate) struct Node {
    daemon: Child,
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Node {
    /// Starts a daemon. With `fake`, machines are pretended.
    pub(crate) fn start(setting: &Setting, fake: bool) -> Result<Node> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "benchmarks need root: the daemon makes namespaces and devices"
        );
        let folder = tempfile::Builder::new()
            .prefix("catamaran-bench-")
            .tempdir()?;
        // The machines' user passes through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let program = setting.programs.join("catamaran");
        ensure!(
            program.is_file(),
            "{} is missing; build it with: cargo build --release -p catamaran-node",
            program.display()
        );
        let libexec = if fake {
            fake_programs(setting, folder.path())?
        } else {
            setting.programs.clone()
        };
        let log = fs::File::create(folder.path().join("daemon.log"))?;
        let daemon = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", ENTER, "enter"])
            .arg(&program)
            .arg("--state")
            .arg(folder.path().join("state"))
            .args(["play", "--images"])
            .arg(&setting.images)
            .arg("--libexec")
            .arg(&libexec)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("unshare")?;
        let mut node = Node {
            daemon,
            program,
            folder,
        };
        wait::every(
            Duration::from_millis(100),
            "daemon that answers",
            PATIENCE,
            || {
                if let Some(status) = node.daemon.try_wait()? {
                    bail!("the daemon ended with {status}:\n{}", node.log());
                }
                Ok(node.client(&["ps"]).ok())
            },
        )?;
        Ok(node)
    }

    /// The daemon's process: `unshare` and `sh` have become it.
    pub(crate) fn pid(&self) -> Result<Pid> {
        Ok(Pid::try_from(self.daemon.id())?)
    }

    /// Runs a client verb against the daemon.
    pub(crate) fn client(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .arg("--state")
            .arg(self.folder.path().join("state"))
            .args(words)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "catamaran {}: {}",
            words.join(" "),
            said.trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies as many machines as there are names.
    pub(crate) fn apply(&self, names: &[String]) -> Result<()> {
        let manifest = self.folder.path().join("manifest.yaml");
        let mut file = fs::File::create(&manifest)?;
        for name in names {
            writeln!(file, "{}---", manifest_of(name))?;
        }
        self.client(&["apply", "-f", &manifest.display().to_string()])
            .map(|_| ())
    }

    /// A machine's run folder, shown as `/vm` in its sandbox.
    pub(crate) fn run_folder(&self, name: &str) -> PathBuf {
        self.folder
            .path()
            .join("state/vms")
            .join(format!("default_{name}"))
            .join("run")
    }

    /// Whether a machine's guest has said its marker.
    pub(crate) fn marker(&self, name: &str) -> bool {
        marker_in(&self.run_folder(name).join("serial.log"))
    }

    /// Waits for a machine's marker; when that was.
    pub(crate) fn wait_marker(&self, name: &str, limit: Duration) -> Result<SystemTime> {
        wait::until(&format!("marker of {name}"), limit, || {
            Ok(self.marker(name).then(SystemTime::now))
        })
        .with_context(|| self.log())
    }

    /// Waits until a machine's launcher says that it runs; when it said so.
    pub(crate) fn wait_running(&self, name: &str) -> Result<SystemTime> {
        let log = self.run_folder(name).join("init.log");
        wait::every(
            Duration::from_millis(20),
            &format!("running {name}"),
            PATIENCE,
            || Ok(running_since(&fs::read_to_string(&log).unwrap_or_default())),
        )
        .with_context(|| self.log())
    }

    /// Waits until as many machines run, as the daemon sees it.
    pub(crate) fn wait_all_running(&self, count: usize) -> Result<()> {
        let what = format!("{count} running machines");
        wait::every(Duration::from_secs(1), &what, PATIENCE * 2, || {
            let running = self
                .client(&["ps"])?
                .lines()
                .filter(|line| line.starts_with("vm ") && line.contains(" Running "))
                .count();
            Ok((running >= count).then_some(()))
        })
        .with_context(|| self.log())
    }

    /// Deletes a machine and waits until nothing of it runs.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.client(&["delete", name])?;
        let run = self.run_folder(name);
        wait::every(
            Duration::from_millis(50),
            &format!("end of {name}"),
            PATIENCE,
            || Ok(process::in_sandbox(&run).is_empty().then_some(())),
        )
    }

    /// Every process of every machine.
    fn everyone(&self) -> Vec<Pid> {
        let machines = fs::read_dir(self.folder.path().join("state/vms"))
            .into_iter()
            .flatten()
            .flatten();
        machines
            .flat_map(|machine| process::in_sandbox(&machine.path().join("run")))
            .map(|(pid, _)| pid)
            .collect()
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the daemon said last:\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.client(&["down", "--delete", "--volumes"]);
        let gone = wait::every(
            Duration::from_millis(100),
            "end of the daemon",
            PATIENCE,
            || Ok(self.daemon.try_wait()?),
        );
        if gone.is_err() {
            crate::say("the daemon does not end; it and its machines are killed");
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
        for pid in self.everyone() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        // Mounts of the daemon have gone with its namespace.
        let _ = wait::every(
            Duration::from_millis(100),
            "end of the machines",
            PATIENCE,
            || Ok(self.everyone().is_empty().then_some(())),
        );
    }
}

/// A folder with the fake launcher in the launcher's place.
fn fake_programs(setting: &Setting, folder: &Path) -> Result<PathBuf> {
    let libexec = folder.join("libexec");
    fs::create_dir(&libexec)?;
    for (from, to) in [
        ("catamaran-launcher-fake", "catamaran-launcher"),
        ("catamaran-init", "catamaran-init"),
    ] {
        fs::copy(setting.programs.join(from), libexec.join(to))
            .with_context(|| format!("program {from}"))?;
    }
    Ok(libexec)
}

/// Whether a serial log holds the guest's marker.
pub(crate) fn marker_in(log: &Path) -> bool {
    fs::read(log).is_ok_and(|bytes| {
        bytes
            .windows(MARKER.len())
            .any(|window| window == MARKER.as_bytes())
    })
}

/// When a launcher said that its machine runs: `2026-01-31T12:00:00.123456Z  INFO …: the machine's state has changed state=Running`.
fn running_since(log: &str) -> Option<SystemTime> {
    let line = log.lines().find(|line| line.contains("state=Running"))?;
    time_of(line.split_whitespace().next()?)
}

/// A time of the form `2026-01-31T12:00:00.123456Z`.
fn time_of(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':').map(|part| part.parse::<f64>().ok());
    let seconds = time.next()?? * 3600.0 + time.next()?? * 60.0 + time.next()??;
    // Days since 1970, counted in years that begin with March (Hinnant's "days from civil").
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    Some(
        SystemTime::UNIX_EPOCH
            + Duration::from_secs(u64::try_from(days * 86_400).ok()?)
            + Duration::from_secs_f64(seconds),
    )
}

/// The machine that is measured: what a small real one has.
fn manifest_of(name: &str) -> String {
    format!(
        "apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata:
  name: {name}
spec:
  runStrategy: Always
  template:
    spec:
      terminationGracePeriodSeconds: 0
      domain:
        cpu:
          cores: 1
        memory:
          guest: {}Mi
        devices:
          rng: {{}}
          disks:
            - name: root
              disk:
                bus: virtio
            - name: seed
              cdrom:
                bus: sata
          interfaces:
            - name: default
              masquerade: {{}}
      networks:
        - name: default
          pod: {{}}
      volumes:
        - name: root
          containerDisk:
            image: catamaran.local/minimal:dev
        - name: seed
          cloudInitNoCloud:
            userData: |
              #cloud-config
              hostname: {name}
",
        RAM >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_logs_are_understood() {
        let at = |text| {
            time_of(text)
                .unwrap()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
        };
        assert_eq!(at("1970-01-01T00:00:00Z"), Duration::ZERO);
        assert_eq!(
            at("2026-01-31T12:00:00.250000Z"),
            Duration::from_millis(1_769_860_800_250)
        );
        assert_eq!(
            at("2024-02-29T23:59:59Z"),
            Duration::from_secs(1_709_251_199)
        );
        assert_eq!(time_of("nonsense"), None);
    }

    #[test]
    fn the_first_running_counts() {
        let log = "2026-01-31T12:00:00Z INFO x: the machine's state has changed state=Starting\n\
                   2026-01-31T12:00:01Z INFO x: the machine's state has changed state=Running\n\
                   2026-01-31T12:00:09Z INFO x: the machine's state has changed state=Running\n";
        let at = running_since(log)
            .unwrap()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(at.as_secs(), 1_769_860_801);
    }
}
