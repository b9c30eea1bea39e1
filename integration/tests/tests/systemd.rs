//! The systemd units that are packaged with the daemon.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

const UNITS: [&str; 2] = ["catamaran.service", "catamaran-guests.service"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../node/daemon/systemd")
}

fn unit(name: &str) -> Result<String> {
    fs::read_to_string(folder().join(name)).context(name.to_owned())
}

/// The units as systemd would load them, with a program that is there on every machine in place of the daemon's.
fn installed() -> Result<tempfile::TempDir> {
    let installed = tempfile::tempdir()?;
    for name in UNITS {
        fs::write(
            installed.path().join(name),
            unit(name)?.replace("/usr/bin/catamaran", "/usr/bin/true"),
        )?;
    }
    Ok(installed)
}

/// What `systemd-analyze verify` says about the files of a folder; it succeeds with words about mistakes, too. `None`: not installed.
fn verify(folder: &Path) -> Result<Option<String>> {
    let files = UNITS.iter().map(|name| folder.join(name));
    match Command::new("systemd-analyze")
        .arg("verify")
        .args(files)
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output()
    {
        Ok(output) if output.status.success() => Ok(Some(String::from_utf8(output.stderr)?)),
        Ok(output) => Ok(Some(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn units_are_accepted_by_systemd_without_a_word() -> Result<()> {
    let installed = installed()?;
    let Some(said) = verify(installed.path())? else {
        eprintln!("skipped: systemd-analyze is not installed (Debian package systemd)");
        return Ok(());
    };
    assert_eq!(said, "");
    Ok(())
}

#[test]
fn a_mistake_in_a_unit_is_noticed() -> Result<()> {
    let installed = installed()?;
    let file = installed.path().join(UNITS[0]);
    fs::write(
        &file,
        fs::read_to_string(&file)?.replace("KillMode=process", "KillMode=procss"),
    )?;
    let Some(said) = verify(installed.path())? else {
        eprintln!("skipped: systemd-analyze is not installed (Debian package systemd)");
        return Ok(());
    };
    assert!(said.contains("procss"), "{said:?}");
    Ok(())
}

#[test]
fn a_stop_of_the_service_leaves_guests_alone_and_down_stays_down() -> Result<()> {
    let service = unit(UNITS[0])?;
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "Restart=on-failure",
    ] {
        assert!(
            service.lines().any(|there| there == line),
            "{line} is missing"
        );
    }
    assert!(service.contains("WatchdogSec="));
    Ok(())
}
