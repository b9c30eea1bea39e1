//! Programs of this host with their libraries, as a disk that a guest unpacks: what tests try in guests need not be in a guest's image.
//!
//! The disk is a bare tar archive, so a guest needs no more than busybox: `tar -xf /dev/vdb -C /x; chroot /x …`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command;
use crate::manifest::add_disk;
use crate::programs::which;

/// Links that every file system of Debian has.
const LINKS: [(&str, &str); 4] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];
/// Folders that have to be there.
const FOLDERS: [&str; 11] = [
    "usr/bin",
    "usr/sbin",
    "usr/lib",
    "usr/lib64",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "etc",
    "var/tmp",
];

/// Packs programs (a name on the PATH, or a path) with their libraries, and text files, into the file `disk`.
///
/// # Errors
/// When one of them is not on this host, or the archive can't be written.
pub fn pack(disk: &Path, programs: &[&str], files: &[(&str, &str)]) -> Result<()> {
    let work = tempfile::tempdir()?;
    let root = work.path();
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for (link, target) in LINKS {
        symlink(target, root.join(link))?;
    }
    let mut all = BTreeSet::new();
    for program in programs {
        let path = if program.starts_with('/') {
            PathBuf::from(program)
        } else {
            which(program).with_context(|| format!("{program} is not installed"))?
        };
        all.extend(libraries(&path));
        all.insert(path);
    }
    for path in &all {
        // Through the links above it lands below `usr`.
        let target = root.join(path.strip_prefix("/")?);
        fs::create_dir_all(target.parent().context("no folder")?)?;
        fs::copy(path, &target).with_context(|| path.display().to_string())?;
    }
    for (path, text) in files {
        let target = root.join(path);
        fs::create_dir_all(target.parent().context("no folder")?)?;
        fs::write(target, text)?;
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--file"])
        .arg(disk)
        .arg("--directory")
        .arg(root)
        .arg(".");
    command::stdout(&mut tar)?;
    Ok(())
}

/// The libraries of a program; none of what is no program for the dynamic linker.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let said = command::stdout(Command::new("ldd").arg(program)).unwrap_or_default();
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the linker itself without an arrow.
    said.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// Gives a machine the disk, as its next one.
pub fn add(machine: &mut Value, disk: &Path) {
    add_disk(
        machine,
        "parcel",
        &json!({"disk": {"bus": "virtio", "readonly": true}}),
        &json!({"hostDisk": {"path": disk, "type": "Disk", "shared": true}}),
    );
}
