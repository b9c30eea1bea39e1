//! What outlives a process of the sandbox, in files of the run folder: exits of orphans, the plan, the end.
//!
//! Architecture invariant: libvirt's own files are never the only record. A QEMU that is gone without a recorded end
//! has crashed.

use std::io::{Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An orphan that init reaped: one line of `exits.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Its pid in the sandbox.
    pub pid: i32,
    /// Its name (15 bytes at most), if it was still to be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Exit code, if it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When, milliseconds of the Unix epoch.
    pub time_ms: u64,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (_, Some(signal)) => write!(f, "signal {signal}"),
            _ => f.write_str("unknown status"),
        }
    }
}

/// Size at which `exits.jsonl` is put aside; one older file is kept.
const EXITS_MAX: u64 = 64 << 10;

/// Adds a line; an unwritable file is no reason for init to stop.
pub fn add_exit(file: &Path, exit: &Exit) -> std::io::Result<()> {
    if std::fs::metadata(file).is_ok_and(|meta| meta.len() > EXITS_MAX) {
        std::fs::rename(file, file.with_extension("jsonl.1"))?;
    }
    let mut line = serde_json::to_vec(exit)?;
    line.push(b'\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)?
        .write_all(&line)
}

/// The exit of that process, the last one if the pid was used twice.
#[must_use]
pub fn find_exit(file: &Path, pid: i32) -> Option<Exit> {
    let mut text = String::new();
    std::fs::File::open(file)
        .ok()?
        .take(2 * EXITS_MAX)
        .read_to_string(&mut text)
        .ok()?;
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Exit>(line).ok())
        .find(|exit| exit.pid == pid)
}

/// Replaces a JSON file as a whole: after a crash there is the old or the new content.
///
/// # Errors
/// When the folder cannot be written.
pub fn store<T: Serialize>(file: &Path, value: &T) -> std::io::Result<()> {
    catamaran_host::file::replace(file, &serde_json::to_vec(value)?, 0o600)
}

/// Reads what [`store`] wrote; `None` when there is no file.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn load<T: DeserializeOwned>(file: &Path) -> std::io::Result<Option<T>> {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
    }
}

/// Milliseconds of the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(pid: i32, code: i32) -> Exit {
        Exit {
            pid,
            name: "qemu".into(),
            code: Some(code),
            signal: None,
            time_ms: 1,
        }
    }

    #[test]
    fn the_last_exit_of_a_pid_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("exits.jsonl");
        for (pid, code) in [(7, 0), (8, 1), (7, 2)] {
            add_exit(&file, &exit(pid, code)).unwrap();
        }
        assert_eq!(find_exit(&file, 7).unwrap().code, Some(2));
        assert_eq!(find_exit(&file, 9), None);
    }

    #[test]
    fn the_record_of_exits_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("exits.jsonl");
        for pid in 0..3000 {
            add_exit(&file, &exit(pid, 0)).unwrap();
        }
        let size: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(size < 3 * EXITS_MAX, "{size}");
        assert!(find_exit(&file, 2999).is_some());
    }

    #[test]
    fn a_missing_file_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        assert_eq!(load::<u32>(&file).unwrap(), None);
        store(&file, &5).unwrap();
        assert_eq!(load::<u32>(&file).unwrap(), Some(5));
    }
}
