//! PID 1 of a launcher pod: the kubelet has made the sandbox, so only what it can't make is added, and then init runs as under `play`.
//!
//! The container has a read-only root, uid 107, no capabilities and no way to get privileges; [`catamaran_plan::pod::WRITABLE`] are its writable
//! folders.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use catamaran_plan::{paths, pod};

use crate::console_log;
use crate::sandbox::{SandboxError, Step, root, seccomp, stage};

/// Prepares `/vm` and becomes init; returns only when that fails.
///
/// # Errors
/// A folder that is not writable, by its path; a capability that is left; a missing program.
pub fn run() -> Result<Infallible, SandboxError> {
    for (volume, path) in pod::WRITABLE {
        writable(Path::new(path)).step(|| {
            format!("write to {path} (the pod's volume {volume:?} must be writable for uid 107)")
        })?;
    }
    let left = caps::read(None, caps::CapSet::Permitted)
        .map_err(|error| io::Error::other(error.to_string()))
        .step(|| "read the capabilities".into())?;
    if !left.is_empty() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied))
            .step(|| format!("go on with capabilities ({left:?}); the container must drop all"));
    }
    code(Path::new(paths::CODE))?;
    configuration(Path::new(stage::CONFIG_HOME))?;
    rustix::thread::set_no_new_privs(true).step(|| "forbid new privileges".into())?;
    seccomp::install()?;
    let alive =
        console_log::hold(Path::new(paths::ALIVE)).step(|| format!("lock {}", paths::ALIVE))?;
    // Held by what this process becomes, to its end.
    rustix::io::fcntl_setfd(&alive, rustix::io::FdFlags::empty())
        .map_err(io::Error::from)
        .step(|| format!("hold the lock of {}", paths::ALIVE))?;
    let init = format!("{}/current/catamaran-init", paths::CODE);
    let error = Command::new(&init)
        .arg("run")
        .current_dir("/")
        .env_clear()
        .envs(stage::environment())
        .exec();
    Err(error).step(|| format!("execute {init}"))
}

fn writable(folder: &Path) -> io::Result<()> {
    let probe = folder.join(".writable");
    fs::write(&probe, "")?;
    fs::remove_file(probe)
}

/// `current` names the programs of the image, until the daemon puts others beside them.
fn code(folder: &Path) -> Result<(), SandboxError> {
    make(folder)?;
    let current = folder.join("current");
    if current.exists() {
        return Ok(());
    }
    let own = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_else(|| PathBuf::from(pod::LIBEXEC));
    // A link that leads nowhere is in the way after a version went.
    let _ = fs::remove_file(&current);
    symlink(&own, &current).step(|| format!("make the link {}", current.display()))
}

/// The TPM's certificate authority lies in the state folder; its programs look for their settings here before `/etc`.
fn configuration(folder: &Path) -> Result<(), SandboxError> {
    make(folder)?;
    for (name, text) in root::TPM_SETTINGS {
        let path = folder.join(name);
        fs::write(&path, text).step(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), SandboxError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(folder)
        .step(|| format!("make the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_the_daemon_has_put_there_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        code(dir.path()).unwrap();
        let current = dir.path().join("current");
        assert!(fs::read_link(&current).unwrap().is_absolute());
        fs::remove_file(&current).unwrap();
        fs::create_dir(dir.path().join("v2")).unwrap();
        symlink("v2", &current).unwrap();
        code(dir.path()).unwrap();
        assert_eq!(fs::read_link(&current).unwrap(), Path::new("v2"));
    }

    #[test]
    fn settings_of_the_tpm_point_into_the_state_folder() {
        let dir = tempfile::tempdir().unwrap();
        configuration(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join("swtpm-localca.conf")).unwrap();
        assert!(text.contains("statedir = /state/tpm-ca"));
    }
}
