//! Benchmarks of Catamaran, an own command and no part of the tests:
//!
//! ```console
//! $ cargo run --release -p catamaran-bench -- all
//! ```
//!
//! Run by cargo, it first builds the programs that it measures.
//!
//! Each figure stands beside its floor (the least that anyone could do, such as raw QEMU with the same devices), measured in the same
//! run on the same machine, with the ratio of the medians, the number of samples and their spread. Fewer than ten samples are printed
//! as *not a figure*.
//!
//! `managed-hosts` and `enrolment` need the programs of `integration/cluster`, and no root; they are no part of `all`. `enrolment` installs an Ironic.
//!
//! `kubernetes`, `console`, `idle` and `fleet` run on the cluster of `integration/cluster`, as its tests do, and are no part of `all`. `fleet` adds
//! pretended nodes to it, whose pods only seem to run; its first run builds kwok for that.
//!
//! Needs root, QEMU, libvirt and the guest images (`guest-images/build`). All but these run in network and mount namespaces of their
//! own, below one temporary folder, and are gone afterwards.

mod benches;
mod node;
mod process;
mod raw;
mod stats;
mod table;
mod wait;

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use table::Row;

/// Minutes in which nothing happens.
const MINUTES: usize = 10;

/// Measures Catamaran against floors of the same run.
#[derive(Debug, Parser)]
#[command(name = "catamaran-bench")]
struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    name: Name,
    /// Samples of each figure (of `crowd`: machines at once; of `hosts`, `managed-hosts` and `enrolment`: hosts; of `idle` and `fleet`: machines)
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Folder with the programs to measure (default: beside this one)
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// OCI layout with the minimal guest (default: what `guest-images/build` makes)
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
}

/// The benchmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Everything that needs no Kubernetes, one after another
    All,
    /// PSS of launcher and init, and QEMU's overhead
    Memory,
    /// Launcher's start to a running domain and to the guest's marker
    Start,
    /// Twenty machines at once, to their markers
    Crowd,
    /// PSS of the daemon with no, 20 and 100 machines
    Daemon,
    /// A thousand mocked BMCs, registered and inspected
    Hosts,
    /// A thousand mocked BMCs as hosts of the controller, with a real API server alone
    ManagedHosts,
    /// A hundred mocked BMCs from enrolment to available, beside a real Ironic
    Enrolment,
    /// On Kubernetes: starts, restarts, deletions and what they cost, beside pods
    Kubernetes,
    /// On Kubernetes: serial consoles of the web console in Chromium, and the controller's memory with fifty of them
    Console,
    /// On Kubernetes: fifty machines that halt on one node, for ten minutes, and the node's daemon
    Idle,
    /// On Kubernetes: the controller with five thousand machines on pretended nodes
    Fleet,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let beside = std::env::current_exe()?
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default();
    if let (None, Some(cargo)) = (&arguments.programs, std::env::var_os("CARGO")) {
        build(&cargo, arguments.name)?;
    }
    let programs = arguments.programs.unwrap_or(beside);
    if arguments.name == Name::Hosts || arguments.name == Name::All {
        print(&benches::hosts::run(
            &programs,
            arguments.samples.unwrap_or(1000),
        )?)?;
    }
    match arguments.name {
        Name::Hosts => return Ok(()),
        Name::ManagedHosts => {
            let hosts = arguments.samples.unwrap_or(1000);
            return print(&benches::managed::run(&programs, hosts)?);
        }
        Name::Enrolment => {
            let hosts = arguments.samples.unwrap_or(100);
            return print(&benches::enrolment::run(&programs, hosts)?);
        }
        Name::Kubernetes => {
            return benches::kubernetes::starts(&programs, arguments.samples.unwrap_or(10), print);
        }
        Name::Console => {
            let samples = arguments.samples.unwrap_or(10);
            return benches::kubernetes::console(&programs, samples, print);
        }
        Name::Idle => {
            let machines = arguments.samples.unwrap_or(50);
            return benches::kubernetes::idle(&programs, machines, MINUTES, print);
        }
        Name::Fleet => {
            let machines = arguments.samples.unwrap_or(5000);
            return benches::kubernetes::fleet(&programs, machines, print);
        }
        _ => {}
    }
    let images = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../guest-images/out/oci"
    ));
    let setting = node::Setting {
        programs,
        images: arguments
            .images
            .unwrap_or(images)
            .canonicalize()
            .context("the OCI layout of the guest images; run guest-images/build")?,
    };
    let wanted = |name| arguments.name == Name::All || arguments.name == name;
    // Memory and start need the same machines: one pass measures both.
    if wanted(Name::Memory) || wanted(Name::Start) {
        let measured = benches::single::run(&setting, arguments.samples.unwrap_or(10))?;
        if wanted(Name::Memory) {
            print(&measured.memory)?;
        }
        if wanted(Name::Start) {
            print(&measured.start)?;
        }
    }
    if wanted(Name::Crowd) {
        print(&benches::crowd::run(
            &setting,
            arguments.samples.unwrap_or(20),
        )?)?;
    }
    if wanted(Name::Daemon) {
        benches::daemon::run(&setting, arguments.samples.unwrap_or(10), print)?;
    }
    Ok(())
}

/// Prints the figures of one benchmark as soon as they are there.
fn print(rows: &[Row]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table::render(rows)).context("standard output")
}

/// Builds what is measured, like this program itself.
fn build(cargo: &OsStr, name: Name) -> Result<()> {
    let node = ["catamaran-node", "catamaran-launcher", "catamaran-bench"];
    let mock = ["catamaran-redfish-mock"];
    let packages = match name {
        Name::Hosts => mock.to_vec(),
        Name::ManagedHosts | Name::Enrolment => {
            vec!["catamaran-controller", "catamaran-redfish-mock"]
        }
        Name::Kubernetes | Name::Console | Name::Idle | Name::Fleet => vec![
            "catamaran-node",
            "catamaran-launcher",
            "catamaran-controller",
        ],
        Name::All => [node.as_slice(), &mock].concat(),
        _ => node.to_vec(),
    };
    let mut command = Command::new(cargo);
    command.arg("build");
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let built = command
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .status()
        .context("cargo")?;
    ensure!(built.success(), "the programs to measure cannot be built");
    Ok(())
}

/// Says on standard error how far a run is.
fn say(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}
