//! Tests: unit and golden tests of all crates, then the integration tests on real components.

use std::process::Command;

use anyhow::Result;

use crate::step::{self, cargo, root};

/// Runs the tests.
pub(crate) fn run(filter: Option<&str>, unit: bool) -> Result<()> {
    let filter: Vec<&str> = filter.into_iter().collect();
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--exclude",
        "catamaran-tests",
    ]);
    step::run("unit, golden and crate tests", command.args(&filter))?;
    if unit {
        return Ok(());
    }
    step::run(
        "guest images",
        Command::new(root().join("guest-images/build")).arg("all"),
    )?;
    step::run(
        "product",
        &mut cargo(&[
            "build",
            "--release",
            "--locked",
            "--package",
            "catamaran-node",
            "--package",
            "catamaran-launcher",
        ]),
    )?;
    // One at a time: the guests of two tests would share two cores and meet no deadline.
    let mut command = cargo(&["test", "--locked", "--package", "catamaran-tests", "--"]);
    step::run(
        "integration tests",
        command.args(["--test-threads", "1"]).args(&filter),
    )
}
