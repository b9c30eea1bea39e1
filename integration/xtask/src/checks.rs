//! Checks that need no test: formatting, clippy, documentation, licences, generated files.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::generate;
use crate::links;
use crate::step::{cargo, root, run};
use crate::web;

/// Version of cargo-deny that is installed below `target` where there is none.
const DENY: &str = "0.20.2";

/// All checks.
pub(crate) fn lint() -> Result<()> {
    run("formatting", &mut cargo(&["fmt", "--all", "--check"]))?;
    web::lint()?;
    run(
        "clippy",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    run(
        "documentation",
        cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--locked",
        ])
        .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    generate::run(true)?;
    links::check()?;
    deny()
}

/// Licences, bans and sources always; advisories where their database can be had.
fn deny() -> Result<()> {
    let program = deny_program()?;
    run(
        "cargo deny: bans, licences, sources",
        Command::new(&program)
            .args(["--locked", "check", "bans", "licenses", "sources"])
            .current_dir(root()),
    )?;
    let advisories = Command::new(&program)
        .args(["--locked", "check", "advisories"])
        .current_dir(root())
        .output()?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if advisories.status.success() {
        eprintln!("    cargo deny: advisories: none");
    } else if said.contains("failed to fetch advisory database")
        || said.contains("failed to acquire advisory database")
    {
        eprintln!(
            "    cargo deny: advisories: NOT CHECKED, their database can't be had from this machine"
        );
    } else {
        anyhow::bail!("cargo deny: advisories:\n{said}");
    }
    Ok(())
}

/// The installed cargo-deny, else one built into `target/tools`.
fn deny_program() -> Result<PathBuf> {
    let installed = Command::new("cargo-deny").arg("--version").output();
    if installed.is_ok_and(|output| output.status.success()) {
        return Ok("cargo-deny".into());
    }
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        // Unoptimised: it runs for seconds, its build would take minutes.
        run(
            "install cargo-deny",
            cargo(&[
                "install",
                "cargo-deny",
                "--version",
                DENY,
                "--locked",
                "--debug",
                "--root",
            ])
            .arg(&tools)
            .env("CARGO_PROFILE_DEV_DEBUG", "0"),
        )?;
    }
    Ok(program)
}
