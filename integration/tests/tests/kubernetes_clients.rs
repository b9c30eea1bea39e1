//! Clients that were written for the peer, by others, against ours.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use catamaran_tests::cluster::{self, MINIMAL};
use catamaran_tests::command::stdout;
use catamaran_tests::programs::root;

/// The Python environment of the clients; made on the first run.
fn clients() -> Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), PathBuf::from)
        .join("kubevirt-clients");
    stdout(Command::new(root().join("integration/setup/kubevirt-clients")).arg(&folder))?;
    Ok(folder)
}

#[test]
fn openshift_python_wrapper_lives_through_the_life_of_a_machine() -> Result<()> {
    cluster::run(1, |cluster| {
        let access = tempfile::NamedTempFile::new()?;
        let config = cluster.kubectl(["config", "view", "--raw", "--minify", "--flatten"])?;
        std::fs::write(access.path(), config)?;
        let said = stdout(
            Command::new(clients()?.join("bin/python"))
                .arg("-Wignore")
                .arg(root().join("integration/tests/peers/drive_kubevirt.py"))
                .args([cluster.namespace(), MINIMAL])
                .env("KUBECONFIG", access.path()),
        )?;
        let steps: Vec<&str> = said.lines().collect();
        let wanted = [
            "created",
            "started",
            "read",
            "paused",
            "unpaused",
            "restarted",
            "stopped",
            "deleted",
        ];
        ensure!(steps == wanted, "{said}");
        Ok(())
    })
}
