//! Tests: unit and golden tests of all crates, then the integration tests on real components.

use std::process::Command;

use anyhow::Result;

use crate::step::{self, cargo, root};

/// Runs the tests. `unit`: only those that need neither root nor a guest image. `long`: those too that boot big guests.
pub(crate) fn run(filter: Option<&str>, unit: bool, long: bool) -> Result<()> {
    let filter: Vec<&str> = filter.into_iter().collect();
    if unit {
        let mut command = cargo(&["test", "--workspace", "--locked", "--lib", "--bins"]);
        return step::run("unit tests", command.args(&filter));
    }
    let guests: &[&str] = if long { &["all"] } else { &["minimal"] };
    for guest in guests {
        let name = format!("guest images: {guest}");
        step::run(
            &name,
            Command::new(root().join("guest-images/build")).arg(guest),
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
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--locked",
        "--exclude",
        "catamaran-tests",
    ]);
    step::run("unit, golden and crate tests", command.args(&filter))?;
    // One at a time: the guests of two tests would share two cores and meet no deadline.
    let mut command = cargo(&["test", "--locked", "--package", "catamaran-tests", "--"]);
    if long {
        command.arg("--include-ignored");
    }
    step::run(
        "integration tests",
        command.args(["--test-threads", "1"]).args(&filter),
    )
}
