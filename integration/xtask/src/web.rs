//! The web console's own checks, by npm: building and checking the rest needs no Node.js.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result};

use crate::step::{root, run};

/// The oldest Node.js that builds the web console.
const NODE: (u32, u32) = (20, 19);
/// Integration tests in which people use the pages of a controller.
pub(crate) const TESTS: [&str; 2] = ["console_login", "kubernetes_browser"];
/// What of the web part's folder is in no file of the site.
const NOT_EMBEDDED: [&str; 3] = ["node_modules", "e2e", "real"];

/// Types, build and unit tests, where there is a Node.js for them; whether there is one.
pub(crate) fn lint() -> Result<bool> {
    let there = is_there();
    if there {
        npm(&["ci"])?;
        npm(&["run", "check"])?;
        npm(&["run", "build"])?;
        npm(&["test"])?;
    }
    Ok(there)
}

/// Those, and the tests in a browser.
pub(crate) fn browser() -> Result<()> {
    if lint()? { demo() } else { Ok(()) }
}

/// The tests in a browser on the demo's invented cluster, once the pages are [`built`].
pub(crate) fn demo() -> Result<()> {
    npm(&["run", "e2e"])
}

/// Sees to what the controller embeds and what [`TESTS`] need, as far as it is missing or older than what it is made of; whether there is a
/// Node.js for it.
pub(crate) fn built() -> Result<bool> {
    if !is_there() {
        return Ok(false);
    }
    let web = folder();
    let installed = time(&web.join("node_modules/.package-lock.json"));
    if installed < time(&web.join("package-lock.json")) {
        npm(&["ci"])?;
    }
    if time(&web.join("../dist/site/index.html")) < Some(newest(&web)?) {
        npm(&["run", "build"])?;
    }
    Ok(true)
}

/// When a file was written; nothing where there is none.
fn time(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|file| file.modified()).ok()
}

/// When the newest file of what the site is made of was written.
fn newest(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if NOT_EMBEDDED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let time = if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(time);
    }
    Ok(newest)
}

fn folder() -> PathBuf {
    root().join("controller/console/web")
}

fn npm(words: &[&str]) -> Result<()> {
    run(
        &format!("web console: npm {}", words.join(" ")),
        Command::new("npm").args(words).current_dir(folder()),
    )
}
/// Whether there is a Node.js that is new enough; says so if there is none.
fn is_there() -> bool {
    let said = Command::new("node").arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let said = said.unwrap_or_else(|_| "absent".to_owned());
    let enough = node_version(&said).is_some_and(|version| version >= NODE);
    if !enough {
        let (major, minor) = NODE;
        eprintln!(
            "    web console: NOT CHECKED, Node.js is {said}; {major}.{minor} or later builds it"
        );
    }
    enough
}

/// `v20.19.0`, as `node --version` says it.
fn node_version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
