//! The floor of what a machine costs: QEMU started directly, with the devices of a machine that Catamaran runs.
//!
//! The command line is read from the running QEMU; only what ties it to libvirt and to its sandbox is put in other words: descriptors
//! that it inherited, secrets, the tap (in its place QEMU's own network), the paths of disks and sockets.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::node::marker_in;
use crate::process::{self, Pid};
use crate::wait;

/// Everything raw QEMU needs to start again and again.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// The guest's host name.
    name: String,
    words: Vec<String>,
    /// Copies of the machine's read-only files: where they were, where they are.
    files: Vec<(String, PathBuf)>,
    /// Overlays to be made anew at each start: where they were, on which of the files.
    overlays: Vec<(String, PathBuf)>,
}

impl Recipe {
    /// Reads a running machine's command line, and copies its read-only disks to `folder`.
    pub(crate) fn of(name: &str, qemu: Pid, folder: &Path) -> Result<Recipe> {
        let words = process::words(qemu)?;
        let (mut files, mut overlay_names) = (Vec::new(), Vec::new());
        for name in words
            .iter()
            .filter(|word| word.starts_with('{'))
            .filter_map(|word| disk_of(word))
        {
            if name.starts_with("/vm/overlays/") {
                overlay_names.push(name);
            } else if !files.iter().any(|(known, _)| *known == name) {
                let copy = folder.join(format!("disk{}", files.len()));
                fs::copy(process::in_root_of(qemu, &name), &copy)
                    .with_context(|| format!("copy of the machine's {name}"))?;
                files.push((name, copy));
            }
        }
        let base = files
            .iter()
            .find(|(name, _)| name.starts_with("/disks/"))
            .map(|(_, copy)| copy.clone());
        let base = base.context("the machine has no container disk")?;
        let overlays = overlay_names
            .into_iter()
            .map(|name| (name, base.clone()))
            .collect();
        Ok(Recipe {
            name: name.to_owned(),
            words,
            files,
            overlays,
        })
    }

    /// Starts QEMU in `folder`.
    pub(crate) fn start(&self, folder: &Path) -> Result<Raw> {
        let mut disks = self.files.clone();
        for (n, (name, base)) in self.overlays.iter().enumerate() {
            let overlay = folder.join(format!("overlay{n}"));
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .args([base, &overlay])
                .status()
                .context("qemu-img")?;
            ensure!(made.success(), "qemu-img cannot make {}", overlay.display());
            disks.push((name.clone(), overlay));
        }
        let words = translate(&self.name, &self.words, folder, &disks);
        let (program, arguments) = words
            .split_first()
            .context("the machine's command line is empty")?;
        let log = fs::File::create(folder.join("qemu.log"))?;
        let started = Instant::now();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("raw {program}"))?;
        Ok(Raw {
            child,
            folder: folder.to_owned(),
            started,
        })
    }
}

/// A raw QEMU; killed on drop.
#[derive(Debug)]
pub(crate) struct Raw {
    child: Child,
    folder: PathBuf,
    started: Instant,
}

impl Raw {
    pub(crate) fn pid(&self) -> Result<Pid> {
        Ok(Pid::try_from(self.child.id())?)
    }

    /// Waits until QEMU says that its vCPUs run; time since its start.
    pub(crate) fn wait_running(&self) -> Result<Duration> {
        let socket = self.folder.join("charmonitor.sock");
        let stream = wait::until("monitor of raw QEMU", Duration::from_secs(30), || {
            Ok(UnixStream::connect(&socket).ok())
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut ask = |words: Option<&str>| -> Result<Value> {
            if let Some(words) = words {
                writeln!(&stream, "{}", json!({ "execute": words }))?;
            }
            loop {
                let line = lines.next().context("raw QEMU closed its monitor")??;
                let said: Value = serde_json::from_str(&line)?;
                if said.get("event").is_none() {
                    return Ok(said);
                }
            }
        };
        ask(None)?;
        ask(Some("qmp_capabilities"))?;
        wait::until("raw QEMU that runs", Duration::from_secs(30), || {
            Ok((ask(Some("query-status"))?["return"]["status"] == "running").then_some(()))
        })?;
        Ok(self.started.elapsed())
    }

    /// Whether the guest's marker has come; the time since QEMU's start then.
    pub(crate) fn marker(&mut self) -> Result<Option<Duration>> {
        if marker_in(&self.folder.join("serial.log")) {
            return Ok(Some(self.started.elapsed()));
        }
        if let Some(status) = self.child.try_wait()? {
            let log = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
            anyhow::bail!("raw QEMU ended with {status}: {log}");
        }
        Ok(None)
    }

    /// Waits for the guest's marker; time since QEMU's start.
    pub(crate) fn wait_marker(&mut self, limit: Duration) -> Result<Duration> {
        wait::until("marker of raw QEMU", limit, || self.marker())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The file name in a `-blockdev` word.
fn disk_of(word: &str) -> Option<String> {
    let value: Value = serde_json::from_str(word).ok()?;
    (value.get("driver")? == "file").then(|| value.get("filename")?.as_str().map(str::to_owned))?
}

/// Puts a command line of libvirt's into words that work outside its sandbox. `name` is the host name that the guest gets by DHCP.
fn translate(
    name: &str,
    words: &[String],
    folder: &Path,
    disks: &[(String, PathBuf)],
) -> Vec<String> {
    let socket = |id: &str| folder.join(format!("{id}.sock")).display().to_string();
    let mut out: Vec<String> = words.first().cloned().into_iter().collect();
    let mut rest = words.iter().skip(1).peekable();
    while let Some(option) = rest.next() {
        let value = rest.next_if(|word| !word.starts_with('-'));
        let new = match (option.as_str(), value.map(String::as_str)) {
            ("-S" | "-add-fd" | "-pidfile" | "-D", _) => continue,
            ("-object", Some(object))
                if object.contains("\"secret\"") || object.starts_with("secret,") =>
            {
                continue;
            }
            ("-netdev", Some(netdev)) => {
                Some(json!({ "type": "user", "id": id_of(netdev), "hostname": name }).to_string())
            }
            ("-vnc", Some(_)) => Some(format!("unix:{}", socket("vnc"))),
            ("-chardev", Some(chardev))
                if chardev.starts_with("socket,") || chardev.starts_with("pty") =>
            {
                let id = id_of(chardev);
                let log = if id.contains("serial") {
                    format!(",logfile={}", folder.join("serial.log").display())
                } else {
                    String::new()
                };
                Some(format!(
                    "socket,id={id},path={},server=on,wait=off{log}",
                    socket(&id)
                ))
            }
            ("-blockdev", Some(blockdev)) => Some(with_disk(blockdev, disks)),
            (_, value) => value.map(str::to_owned),
        };
        out.push(option.clone());
        out.extend(new);
    }
    out
}

/// The id in an option's value, in JSON or in QEMU's own form.
fn id_of(value: &str) -> String {
    if let Ok(value) = serde_json::from_str::<Value>(value) {
        return value["id"].as_str().unwrap_or_default().to_owned();
    }
    value
        .split(',')
        .find_map(|part| part.strip_prefix("id="))
        .unwrap_or_default()
        .to_owned()
}

/// A block device with its file where it is here.
fn with_disk(blockdev: &str, disks: &[(String, PathBuf)]) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(blockdev) else {
        return blockdev.to_owned();
    };
    let here = disks
        .iter()
        .find(|(name, _)| value["filename"] == name.as_str());
    if let Some((_, path)) = here {
        value["filename"] = json!(path);
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        translate(
            "vm",
            &words,
            Path::new("/t"),
            &[("/disks/root".to_owned(), "/copy".into())],
        )
    }

    #[test]
    fn what_ties_a_machine_to_its_sandbox_is_put_in_other_words() {
        let words = translated(&[
            "/usr/bin/qemu-system-x86_64",
            "-S",
            "-object",
            r#"{"qom-type":"secret","id":"masterKey0"}"#,
            "-chardev",
            "socket,id=charmonitor,fd=27,server=on,wait=off",
            "-add-fd",
            "set=0,fd=30,opaque=serial0-log",
            "-chardev",
            "socket,id=charserial0,fd=28,server=on,wait=off,logfile=/dev/fdset/0,logappend=on",
            "-netdev",
            r#"{"type":"tap","fd":"31","id":"hostnet0"}"#,
            "-vnc",
            "vnc=unix:/vm/vnc.sock,audiodev=audio1",
            "-blockdev",
            r#"{"driver":"file","filename":"/disks/root","node-name":"libvirt-2-storage"}"#,
        ]);
        assert_eq!(
            words,
            [
                "/usr/bin/qemu-system-x86_64",
                "-chardev",
                "socket,id=charmonitor,path=/t/charmonitor.sock,server=on,wait=off",
                "-chardev",
                "socket,id=charserial0,path=/t/charserial0.sock,server=on,wait=off,logfile=/t/serial.log",
                "-netdev",
                r#"{"hostname":"vm","id":"hostnet0","type":"user"}"#,
                "-vnc",
                "unix:/t/vnc.sock",
                "-blockdev",
                r#"{"driver":"file","filename":"/copy","node-name":"libvirt-2-storage"}"#,
            ]
        );
    }

    #[test]
    fn devices_stay_as_they_are() {
        let words = [
            "qemu",
            "-nodefaults",
            "-device",
            r#"{"driver":"virtio-rng-pci","id":"rng0"}"#,
            "-accel",
            "tcg,thread=multi",
            "-no-shutdown",
        ];
        assert_eq!(translated(&words), words);
    }

    #[test]
    fn only_files_are_disks() {
        assert_eq!(
            disk_of(r#"{"driver":"file","filename":"/a"}"#).as_deref(),
            Some("/a")
        );
        assert_eq!(disk_of(r#"{"driver":"qcow2","file":"x"}"#), None);
        assert_eq!(disk_of(r#"{"driver":"virtio-blk-pci"}"#), None);
    }
}
