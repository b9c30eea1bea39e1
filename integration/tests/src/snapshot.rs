//! What a test could leave behind, before and after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command;
use crate::host::Marks;

/// Sets of names, by what they are the names of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeMap<&'static str, BTreeSet<String>>);

/// Folders outside the state folder in which the daemon, libvirt, containerd, runc or the CNI plugins keep things while something runs.
const SHARED: [&str; 9] = [
    "/run/catamaran",
    "/run/containerd",
    "/run/libvirt",
    "/run/netns",
    "/run/runc",
    "/var/lib/cni",
    "/var/lib/libvirt",
    "/var/lib/catamaran",
    "/etc/cni",
];

impl Snapshot {
    /// Looks at the machine. Sockets of containerd's shims carry names that nobody can trace to their owner, so files of the shared folders count
    /// only when the name holds one of `names`.
    /// The group above those of the machines belongs to a daemon that runs.
    #[must_use]
    pub fn take(marks: &Marks, names: &[String], daemon_runs: bool) -> Self {
        let [own, _] = marks.groups();
        let own = own.trim_start_matches('/');
        let mut all = BTreeMap::new();
        let mut put = |what, lines: Vec<String>| all.insert(what, lines.into_iter().collect());
        put(
            "links",
            inside(marks, &["ip", "-o", "link", "show"], |line| {
                line.split(": ")
                    .nth(1)
                    .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            }),
        );
        put(
            "addresses",
            inside(
                marks,
                &["ip", "-o", "addr", "show", "scope", "global"],
                |line| line.split_whitespace().nth(3).map(str::to_owned),
            ),
        );
        put(
            "routes",
            inside(marks, &["ip", "route", "show"], |line| {
                Some(line.trim().to_owned())
            }),
        );
        put(
            "nftables",
            inside(marks, &["nft", "list", "tables"], |line| {
                Some(line.to_owned())
            }),
        );
        put("mounts", marks.mounts());
        put(
            "control groups",
            marks
                .cgroups()
                .iter()
                .filter(|path| !daemon_runs || !path.ends_with(own))
                .map(|path| path.display().to_string())
                .collect(),
        );
        put(
            "processes",
            marks
                .processes()
                .iter()
                .map(|process| process.program().to_owned())
                .collect(),
        );
        put("namespaces", files(&marks.state.join("network/netns"), 1));
        put("machines", files(&marks.state.join("vms"), 1));
        put("pods", files(&marks.state.join("containers/pods"), 1));
        put("leases", files(&marks.state.join("network/leases"), 1));
        put("host ports", files(&marks.state.join("network/ports"), 1));
        put(
            "objects",
            files(&marks.state.join("objects"), 4)
                .into_iter()
                .filter(|path| path.ends_with(".json"))
                .collect(),
        );
        let shared = SHARED.iter().flat_map(|folder| files(Path::new(folder), 3));
        put(
            "shared folders",
            shared
                .filter(|path| names.iter().any(|name| path.contains(name.as_str())))
                .collect(),
        );
        Self(all)
    }

    /// What is there now and was not before (`+`), and the other way round (`-`); empty when nothing changed.
    #[must_use]
    pub fn difference(&self, before: &Self) -> Difference {
        let none = BTreeSet::new();
        let mut lines = Vec::new();
        for (what, now) in &self.0 {
            let then = before.0.get(what).unwrap_or(&none);
            lines.extend(now.difference(then).map(|name| format!("+ {what}: {name}")));
            lines.extend(then.difference(now).map(|name| format!("- {what}: {name}")));
        }
        Difference(lines)
    }
}

/// How two snapshots differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference(Vec<String>);

impl Difference {
    /// Whether they are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Lines of a program run in the bench's network namespace. What can't be seen is not the same as what could not be seen before.
fn inside(marks: &Marks, words: &[&str], line: impl Fn(&str) -> Option<String>) -> Vec<String> {
    static UNSEEN: AtomicU32 = AtomicU32::new(0);
    let mut nsenter = command::program("nsenter", [format!("--net=/run/netns/{}", marks.netns)]);
    match command::stdout(nsenter.args(words)) {
        Ok(text) => text.lines().filter_map(line).collect(),
        Err(error) => {
            let number = UNSEEN.fetch_add(1, Ordering::Relaxed);
            vec![format!("not seen ({number}): {error:#}")]
        }
    }
}

/// Files and folders below a folder, to a depth.
fn files(folder: &Path, depth: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path(), depth - 1));
        }
    }
    found
}
