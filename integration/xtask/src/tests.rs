//! Tests: unit and golden tests of all crates, then the integration tests on real components.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster;
use crate::step::{self, cargo, root};

/// Runs the tests: all, those with `filter` in their names, or with the filter `kubernetes` those on Kubernetes. `unit`: only those that need neither root nor a guest image. `long`: those too that boot big guests.
pub(crate) fn run(filter: Option<&str>, unit: bool, long: bool) -> Result<()> {
    let filter: Vec<&str> = filter.into_iter().collect();
    if unit {
        let mut command = cargo(&["test", "--workspace", "--locked", "--lib", "--bins"]);
        return step::run("unit tests", command.args(&filter));
    }
    complete()?;
    let guests: &[&str] = if long { &["all"] } else { &["minimal"] };
    for guest in guests {
        let name = format!("guest images: {guest}");
        step::run(
            &name,
            Command::new(root().join("guest-images/build")).arg(guest),
        )?;
    }
    if long {
        step::run(
            "guest images: two builds give the same",
            &mut Command::new(root().join("guest-images/test-reproducible")),
        )?;
    }
    // One build for all: the programs under test are those of the development profile, which checks overflows too.
    step::run(
        "product and tests",
        &mut cargo(&["test", "--workspace", "--locked", "--no-run"]),
    )?;
    step::run(
        "programs",
        &mut cargo(&["build", "--workspace", "--bins", "--locked"]),
    )?;
    // All of them, whichever has failed: one run tells everything.
    let mut failed = Vec::new();
    let mut note = |result: Result<()>| failed.extend(result.err().map(|error| error.to_string()));
    if filter != ["kubernetes"] {
        let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
        command.args(["--exclude", "catamaran-tests"]).args(&filter);
        note(step::run("unit, golden and crate tests", &mut command));
        if long {
            let mut command = cargo(&["test", "--workspace", "--locked", "--test", "hosts"]);
            let ignored = ["--", "--ignored", "--test-threads", "1"];
            command.args(ignored).args(&filter);
            note(step::run("servers in QEMU", &mut command));
        }
    }
    let (kubernetes, play): (Vec<_>, Vec<_>) = names()?
        .into_iter()
        .partition(|name| name.starts_with("kubernetes_"));
    if filter != ["kubernetes"] {
        note(integration("integration tests", &play, &filter, long));
    }
    let filter = filter
        .into_iter()
        .filter(|filter| *filter != "kubernetes")
        .collect::<Vec<_>>();
    // Who starts the cluster takes it down.
    let was_up = cluster::is_up();
    note(integration(
        "tests on Kubernetes",
        &kubernetes,
        &filter,
        long,
    ));
    if !was_up && cluster::is_up() {
        note(cluster::run(&["down".into()]));
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

/// Sees to it that no test is skipped for what this machine lacks: a green run means that all of them ran.
fn complete() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the tests make network namespaces, mounts and control groups: run them as root, or only `cargo xtask test --unit`"
        );
    }
    let output = Command::new(root().join("integration/setup/packages.sh"))
        .args(["--missing", "runtime", "build", "test", "cluster"])
        .output()
        .context("integration/setup/packages.sh")?;
    let missing = String::from_utf8_lossy(&output.stdout);
    let missing: Vec<_> = missing.split_whitespace().collect();
    if !output.status.success() || !missing.is_empty() {
        bail!(
            "not installed: {} {}; `integration/setup/packages.sh` installs what the tests need",
            missing.join(", "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Names of the files of integration tests.
fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("integration/tests/tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.display().to_string()));
        }
    }
    names.sort();
    Ok(names)
}

/// Runs files of integration tests.
fn integration(what: &str, names: &[String], filter: &[&str], long: bool) -> Result<()> {
    // With the whole workspace, as everything was built: for one package cargo would build again what others want with other features.
    let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.env("CATAMARAN_NO_SKIP", "1");
    for name in names {
        command.args(["--test", name]);
    }
    command.arg("--");
    if long {
        command
            .arg("--include-ignored")
            .env("CATAMARAN_KILLS", "50");
    }
    // One at a time: the guests of two tests would share two cores and meet no deadline.
    step::run(what, command.args(["--test-threads", "1"]).args(filter))
}
