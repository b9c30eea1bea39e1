//! Tests: unit and golden tests of all crates, then the integration tests on real components.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster;
use crate::earlier;
use crate::step::{self, cargo, root};
use crate::web;

/// How many tests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent<'a> {
    /// Those that need neither root nor a guest image.
    Unit,
    /// Those that CI runs.
    Usual,
    /// Those too that take minutes each.
    Long {
        /// Revision whose product is upgraded.
        earlier: &'a str,
    },
}

/// Runs the tests: all, those with `filter` in their names, or with the filter `kubernetes` those on Kubernetes.
pub(crate) fn run(filter: Option<&str>, extent: Extent<'_>) -> Result<()> {
    let filter: Vec<&str> = filter.into_iter().collect();
    if let Extent::Unit = extent {
        let mut command = cargo(&["test", "--workspace", "--locked", "--lib", "--bins"]);
        return step::run("unit tests", command.args(&filter));
    }
    complete()?;
    let long = matches!(extent, Extent::Long { .. });
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
    // The controller embeds its pages.
    let pages = web::built()?;
    // One build for all: the programs under test are those of the development profile, which checks overflows too.
    step::run(
        "product and tests",
        &mut cargo(&["test", "--workspace", "--locked", "--no-run"]),
    )?;
    step::run(
        "programs",
        &mut cargo(&["build", "--workspace", "--bins", "--locked"]),
    )?;
    let earlier = earlier(&filter, extent)?;
    let extra = Extra {
        long,
        earlier: earlier.as_deref(),
    };
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
        if pages && filter.is_empty() {
            note(web::demo());
        }
    }
    let (kubernetes, play): (Vec<_>, Vec<_>) = names()?
        .into_iter()
        .filter(|name| pages || !web::TESTS.contains(&name.as_str()))
        .partition(|name| name.starts_with("kubernetes_"));
    if filter != ["kubernetes"] {
        note(integration("integration tests", &play, &filter, extra));
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
        extra,
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

/// The product to upgrade from, where the test that does so is among those that run.
fn earlier(filter: &[&str], extent: Extent<'_>) -> Result<Option<PathBuf>> {
    let Extent::Long { earlier } = extent else {
        return Ok(None);
    };
    let wanted = |filter: &&str| *filter == "kubernetes" || earlier::TEST.contains(*filter);
    if !filter.iter().all(wanted) {
        return Ok(None);
    }
    match std::env::var_os(earlier::VARIABLE) {
        Some(tree) => Ok(Some(tree.into())),
        None => earlier::prepare(earlier).map(Some),
    }
}

/// What the long tests take.
#[derive(Debug, Clone, Copy)]
struct Extra<'a> {
    long: bool,
    earlier: Option<&'a Path>,
}

/// Runs files of integration tests.
fn integration(what: &str, names: &[String], filter: &[&str], extra: Extra<'_>) -> Result<()> {
    let Extra {
        long,
        earlier: tree,
    } = extra;
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
    if let Some(tree) = tree {
        command.env(earlier::VARIABLE, tree);
    }
    // One at a time: the guests of two tests would share two cores and meet no deadline.
    step::run(what, command.args(["--test-threads", "1"]).args(filter))
}
