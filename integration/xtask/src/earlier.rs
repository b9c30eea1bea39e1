//! The product of an earlier commit, to upgrade from: its sources in a work tree of their own, and its programs below.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::step::{self, root};

/// The test that upgrades from it.
pub(crate) const TEST: &str = "a_guest_does_not_notice_an_upgrade_from_an_earlier_commit";
/// Tells the test where it is.
pub(crate) const VARIABLE: &str = "CATAMARAN_EARLIER";

/// Checks out a revision and builds its programs, in `target/debug` of the folder that is given back.
pub(crate) fn prepare(revision: &str) -> Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let tree = target.join("earlier");
    // The folder may have been removed together with everything else that was built.
    step::run("work trees", git(&root()).args(["worktree", "prune"]))?;
    let name = format!("sources of {revision}");
    if tree.join(".git").exists() {
        let commit = output(git(&root()).args(["rev-parse", "--verify", revision]))?;
        let words = ["checkout", "--quiet", "--force", "--detach", &commit];
        step::run(&name, git(&tree).args(words))?;
    } else {
        let words = ["worktree", "add", "--quiet", "--detach"];
        step::run(&name, git(&root()).args(words).arg(&tree).arg(revision))?;
    }
    step::run(
        &format!("programs of {revision}"),
        Command::new("cargo")
            .args(["build", "--workspace", "--bins", "--locked"])
            .current_dir(&tree)
            .env("CARGO_TARGET_DIR", tree.join("target")),
    )?;
    Ok(tree)
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder);
    command
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("git")?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(said.trim().to_owned())
}
