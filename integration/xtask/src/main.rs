//! `cargo xtask`: the checks of this repository, the same on a desk and in CI.

mod checks;
mod cluster;
mod earlier;
mod generate;
mod install;
mod links;
mod pods;
mod step;
mod tests;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Checks, generators and tests of the repository"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything: `lint` and `test`
    Check,
    /// Formatting, clippy, documentation and its links, licences, generated files
    Lint,
    /// Unit, golden and integration tests on real components
    Test {
        /// Only tests whose name has this in it; `kubernetes`: all tests on Kubernetes, and no others
        filter: Option<String>,
        /// Only unit and golden tests: no root, no QEMU
        #[arg(long, conflicts_with = "long")]
        unit: bool,
        /// Also those that take minutes each: big guests
        #[arg(long)]
        long: bool,
        /// Commit that the long tests upgrade from
        #[arg(long, value_name = "REVISION", default_value = "HEAD~1")]
        earlier: String,
    },
    /// The web console: its types, build and unit tests, then its tests in Chromium
    Web,
    /// The Kubernetes of the tests: up, down, status, kubectl, helm, virtctl, node on|off|cut|heal|freeze|thaw N, exec, on N …
    #[command(disable_help_flag = true)]
    Cluster {
        /// Words for integration/cluster/cluster; none: what there is
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
    /// Build the product's container images and push them to the cluster's registry
    Images {
        /// Programs as they are released; else those of the development profile
        #[arg(long)]
        release: bool,
        /// Only build
        #[arg(long)]
        no_push: bool,
    },
    /// Write the generated files
    Generate {
        /// Only say whether they are up to date
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check => checks::lint().and_then(|()| tests::run(None, tests::Extent::Usual)),
        Command::Lint => checks::lint(),
        Command::Test {
            filter,
            unit,
            long,
            earlier,
        } => {
            let extent = match (unit, long) {
                (true, _) => tests::Extent::Unit,
                (_, true) => tests::Extent::Long { earlier: &earlier },
                (false, false) => tests::Extent::Usual,
            };
            tests::run(filter.as_deref(), extent)
        }
        Command::Web => web::browser(),
        Command::Cluster { words } => cluster::run(&words),
        Command::Images { release, no_push } => cluster::images(release, !no_push),
        Command::Generate { check } => generate::run(check),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
