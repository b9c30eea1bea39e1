//! `catamaran-launcher`: owns one virtual machine.

use std::path::PathBuf;
use std::process::ExitCode;

use catamaran_launcher::hypervisor::libvirt::Libvirt;
use catamaran_launcher::places::Places;
use catamaran_launcher::probe::{self, Question};
use catamaran_launcher::program::{self, Options};
use clap::{Args, Parser, Subcommand};

/// Owns one virtual machine: starts it by libvirt's embedded driver, watches it, and serves the node daemon.
#[derive(Debug, Parser)]
#[command(name = "catamaran-launcher", version)]
struct Cli {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    verb: Option<Other>,
}

#[derive(Debug, Args)]
struct Run {
    /// Folder that stands for `/vm`.
    #[arg(long, default_value = catamaran_plan::paths::RUN)]
    run: PathBuf,
    /// Folder that stands for `/state`.
    #[arg(long, default_value = catamaran_plan::paths::STATE)]
    state: PathBuf,
    /// Pretend: no hypervisor, a guest that boots at once and powers off when asked.
    #[arg(long)]
    fake: bool,
    /// Stop the machine at once, as on SIGTERM.
    #[arg(long)]
    stop: bool,
}

#[derive(Debug, Subcommand)]
enum Other {
    /// Finds an emulator's capabilities: fills the cache below `RUN/libvirt/cache` and prints libvirt's XML.
    Capabilities {
        /// Path of the emulator.
        #[arg(long, default_value = "/usr/bin/qemu-system-x86_64")]
        emulator: String,
        /// Architecture.
        #[arg(long, default_value = "x86_64")]
        arch: String,
        /// Machine type.
        #[arg(long, default_value = "q35")]
        machine: String,
        /// `kvm` or `qemu`.
        #[arg(long, default_value = "qemu")]
        domain_type: String,
    },
    /// Asks the guest agent by way of the launcher that runs beside this: 0 means that the guest is well.
    Probe {
        /// Seconds to wait.
        #[arg(long, default_value_t = 10)]
        timeout: u32,
        /// A command for the guest; without one, the agent only has to answer.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Checks domain XML (standard input) against libvirt's schema and rules, in a folder of its own.
    Validate,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let places = Places::new(cli.run.run, cli.run.state);
    let libvirt = || {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        Libvirt::open(places.resolve(catamaran_plan::paths::LIBVIRT_ROOT), events)
    };
    match cli.verb {
        None => program::run(Options {
            places,
            fake: cli.run.fake,
            stop: cli.run.stop,
        }),
        Some(Other::Capabilities {
            emulator,
            arch,
            machine,
            domain_type,
        }) => {
            let xml = libvirt()?.capabilities(&emulator, &arch, &machine, &domain_type)?;
            std::io::Write::write_all(&mut std::io::stdout(), xml.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Other::Probe { timeout, command }) => {
            let question = if command.is_empty() {
                Question::Ping
            } else {
                Question::Exec(command)
            };
            probe::run(&places, &question, timeout)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Other::Validate) => {
            let xml = std::io::read_to_string(std::io::stdin())?;
            libvirt()?.validate(&xml)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
