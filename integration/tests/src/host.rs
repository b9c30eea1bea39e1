//! What this machine has of one bench: processes, mounts and control groups, found by the bench's own names.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The marks by which a bench's things are told from those of everybody else.
#[derive(Debug, Clone)]
pub struct Marks {
    /// State folder of the daemon.
    pub state: PathBuf,
    /// Name of the network namespace.
    pub netns: String,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line, words parted by spaces.
    pub command: String,
}

impl Process {
    /// Name of its program, without folder.
    #[must_use]
    pub fn program(&self) -> &str {
        let word = self.command.split(' ').next().unwrap_or_default();
        word.rsplit('/').next().unwrap_or_default()
    }
}

fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Marks {
    /// Parts of the names of control groups: of the machines, and of the pods.
    #[must_use]
    pub fn groups(&self) -> [String; 2] {
        [
            format!("/catamaran/{}", short_hash(&self.state)),
            format!(
                "/catamaran/pods-{}",
                short_hash(&self.state.join("containers/pods"))
            ),
        ]
    }

    /// All processes that belong to the bench: by control group, by network namespace, by the state folder in the command line.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let (groups, state) = (self.groups(), self.state.display().to_string());
        let namespaces = self.namespaces();
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let mut found = Vec::new();
        for pid in pids().filter(|pid| *pid != own) {
            let proc = PathBuf::from(format!("/proc/{pid}"));
            let command = command(&proc);
            let group = fs::read_to_string(proc.join("cgroup")).unwrap_or_default();
            let namespace = fs::metadata(proc.join("ns/net"))
                .map(|file| file.ino())
                .ok();
            if command.contains(&state)
                || groups.iter().any(|mark| group.contains(mark.as_str()))
                || namespace.is_some_and(|inode| namespaces.contains(&inode))
            {
                found.push(Process { pid, command });
            }
        }
        found
    }

    /// Inodes of the bench's network namespaces: its own and those that the daemon keeps.
    fn namespaces(&self) -> BTreeSet<u64> {
        let kept = fs::read_dir(self.state.join("network/netns"));
        let files = kept
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        files
            .chain([Path::new("/run/netns").join(&self.netns)])
            .filter_map(|file| fs::metadata(file).map(|file| file.ino()).ok())
            .collect()
    }

    /// Mount points below the state folder, innermost last.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let state = format!("{}/", self.state.display());
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut points: Vec<String> = text
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
            .filter(|point| point.starts_with(&state))
            .collect();
        points.sort();
        points
    }

    /// Control groups of the bench in all hierarchies, innermost last.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        for hierarchy in hierarchies
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")])
        {
            for group in self.groups() {
                folders(&hierarchy.join(group.trim_start_matches('/')), &mut found);
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// A folder and all folders below it, if it is there. Links (as `cpu` in the hierarchies of version 1) are left out.
fn folders(folder: &Path, found: &mut Vec<PathBuf>) {
    let through_link = folder
        .ancestors()
        .any(|part| fs::symlink_metadata(part).is_ok_and(|file| file.is_symlink()));
    if through_link || !folder.is_dir() {
        return;
    }
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders(&entry.path(), found);
        }
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Command line of a process; its name in brackets where it has none any more.
fn command(proc: &Path) -> String {
    let bytes = fs::read(proc.join("cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    if words.is_empty() {
        let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
        return format!("[{}]", name.trim());
    }
    words.join(" ")
}
