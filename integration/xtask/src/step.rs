//! Running other programs, each step with its name and its time.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// The repository's top folder.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A cargo command in the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a step to its end.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let status = command.status().with_context(|| {
        format!(
            "{name}: could not start {}",
            command.get_program().display()
        )
    })?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    eprintln!("    {name}: {} s", start.elapsed().as_secs());
    Ok(())
}
