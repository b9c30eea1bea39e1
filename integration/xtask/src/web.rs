//! The web console's own checks, by npm: building and checking the rest needs no Node.js.

use std::process::Command;

use anyhow::Result;

use crate::step::{root, run};

/// The oldest Node.js that builds the web console.
const NODE: (u32, u32) = (20, 19);

/// Types, build and unit tests, where there is a Node.js for them.
pub(crate) fn lint() -> Result<()> {
    if is_there() {
        npm(&["ci"])?;
        npm(&["run", "check"])?;
        npm(&["run", "build"])?;
        npm(&["test"])?;
    }
    Ok(())
}

/// Those, and the tests in a browser, on the demo's invented cluster: minutes.
pub(crate) fn browser() -> Result<()> {
    lint()?;
    if is_there() {
        npm(&["run", "e2e"])?;
    }
    Ok(())
}

fn npm(words: &[&str]) -> Result<()> {
    run(
        &format!("web console: npm {}", words.join(" ")),
        Command::new("npm")
            .args(words)
            .current_dir(root().join("controller/console/web")),
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
