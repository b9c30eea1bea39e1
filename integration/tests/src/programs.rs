//! Which programs are tested, and whether this machine can run the tests at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The programs of the product that a daemon needs beside itself.
pub const PROGRAMS: [&str; 3] = ["catamaran", "catamaran-init", "catamaran-launcher"];

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// The OCI layout that `guest-images/build` writes.
#[must_use]
pub fn images() -> PathBuf {
    guest("oci")
}

/// A file or folder that `guest-images/build` writes.
#[must_use]
pub fn guest(path: &str) -> PathBuf {
    root().join("guest-images/out").join(path)
}

/// Folder of the programs to test: `CATAMARAN_PROGRAMS`, else the newer of the release and the debug build.
///
/// # Errors
/// When there is none.
pub fn find() -> Result<PathBuf> {
    find_all(&[])
}

/// As [`find`], with further programs that must be there.
///
/// # Errors
/// When there is none.
pub fn find_all(further: &[&str]) -> Result<PathBuf> {
    let programs = [PROGRAMS.as_slice(), further].concat();
    if let Some(folder) = std::env::var_os("CATAMARAN_PROGRAMS") {
        return Ok(folder.into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let newest = ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile))
        .filter_map(|folder| age(&folder, &programs).map(|age| (age, folder)))
        .max();
    match newest {
        Some((_, folder)) => Ok(folder),
        None => bail!(
            "{} are neither in {}/release nor in debug",
            programs.join(", "),
            target.display()
        ),
    }
}

fn age(folder: &Path, programs: &[&str]) -> Option<SystemTime> {
    let times: Option<Vec<_>> = programs
        .iter()
        .map(|program| {
            fs::metadata(folder.join(program))
                .and_then(|file| file.modified())
                .ok()
        })
        .collect();
    times?.into_iter().max()
}

/// Folder of the Python environment with the packages of `integration/setup/NAME.lock`; made the first time.
///
/// # Errors
/// When it can't be made.
pub fn python_environment(name: &str) -> Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let (setup, folder) = (root().join("integration/setup"), target.join(name));
    let mut command = Command::new(setup.join("venv"));
    command.arg(setup.join(format!("{name}.lock"))).arg(&folder);
    command::stdout(&mut command)?;
    Ok(folder)
}

/// Puts the programs into a folder of the test's own, so that a build does not change them under it.
///
/// # Errors
/// When a file can be neither linked nor copied.
pub fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for program in PROGRAMS {
        let (from, to) = (from.join(program), to.join(program));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
    }
    Ok(())
}

/// Why this machine can't run the tests.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    for program in ["qemu-system-x86_64", "containerd", "nft", "ip", "nsenter"] {
        if which(program).is_none() {
            return Some(format!(
                "{program} is not installed (integration/setup/packages.sh installs it)"
            ));
        }
    }
    if !images().join("index.json").exists() {
        return Some(format!(
            "{} is not there (guest-images/build all makes it)",
            images().display()
        ));
    }
    find().err().map(|error| error.to_string())
}

/// Where a program is.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
