//! The systemd units that are packaged with the daemon, and what the daemon tells systemd.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::{SHORT, Setting, run_in, wait::Seen, wait_for};
use rustix::process::{Pid, Signal, kill_process};

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

/// Waits for a word of the daemon to systemd; others that come before it are passed over.
fn wait_notified(socket: &UnixDatagram, wanted: &str) -> Result<()> {
    wait_for(&format!("the daemon tells {wanted}"), SHORT, || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer)?;
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Ok(Seen::when(said.lines().any(|line| line == wanted), said))
    })
}

#[test]
fn systemd_is_told_when_the_daemon_can_be_asked_that_it_lives_and_when_it_stops() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let setting = Setting {
        variables: vec![
            ("NOTIFY_SOCKET".to_owned(), path.into_os_string()),
            ("WATCHDOG_USEC".to_owned(), "2000000".into()),
        ],
        ..Setting::default()
    };
    run_in(setting, |bench| {
        wait_notified(&socket, "READY=1")?;
        ensure!(bench.answers(), "it is not ready");
        wait_notified(&socket, "WATCHDOG=1")?;
        kill_process(
            Pid::from_raw(bench.daemon_pid()?).context("no pid")?,
            Signal::TERM,
        )?;
        wait_notified(&socket, "STOPPING=1")?;
        bench.kill_daemon()
    })
}
