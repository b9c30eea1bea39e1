//! Chromium on the pages of the web console, driven by Playwright. What it does there is in `controller/console/web/real`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::programs;

/// Tells the browser's tests where everything is.
const GIVEN: &str = "CATAMARAN_CONSOLE";
/// Names another Chromium than Debian's.
const CHROMIUM: &str = "CHROMIUM";

/// Folder of the console's web part.
#[must_use]
pub fn web() -> PathBuf {
    programs::root().join("controller/console/web")
}

/// The Chromium that is used.
#[must_use]
pub fn chromium() -> String {
    std::env::var(CHROMIUM).unwrap_or_else(|_| "/usr/bin/chromium".to_owned())
}

/// Runs the browser tests of a folder of `real`, which are told `given` (see `given.ts` there); gives what they have said.
///
/// # Errors
/// When one fails, with all that they have said.
pub fn run(folder: &str, given: &Value) -> Result<String> {
    let playwright = web().join("node_modules/@playwright/test/cli.js");
    ensure!(
        playwright.exists(),
        "{}: is not there; `cargo xtask test` and npm ci put it there",
        playwright.display()
    );
    let folder = Path::new("real").join(folder);
    let output = Command::new("node")
        .arg(&playwright)
        .args(["test", "--config", "playwright.real.config.ts"])
        .arg(format!("{}/", folder.display()))
        .current_dir(web())
        .env(GIVEN, given.to_string())
        .stdin(Stdio::null())
        .output()
        .context("node")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "browser tests: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said.into_owned())
}
