//! The words of the command line.
//!
//! One program answers to three names: `kubectl-catamaran` takes every verb; `kubectl-create-vm` and `kubectl-create-virtualmachine` are
//! `create` alone, which is how `kubectl create vm` finds it. Usage texts show what the user typed.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use catamaran_client::Format;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::target::Target;

mod create;
mod host;
mod making;

pub(crate) use create::{Binding, Create};
pub(crate) use host::{
    Enroll, Host, HostLog, HostName, HostReadings, HostVerb, Import, Inspect, PowerVerb, Waiting,
};
pub(crate) use making::{DryRun, Making};

/// Virtual machines of a Kubernetes cluster with Catamaran.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-catamaran",
    bin_name = "kubectl catamaran",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Create a virtual machine.
#[derive(Debug, Parser)]
#[command(name = "kubectl-create-vm", version, max_term_width = 100)]
struct CreateCli {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    create: Create,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// Which cluster, as whom.
    pub(crate) globals: Globals,
    /// What to do.
    pub(crate) command: Command,
}

impl Invocation {
    /// Reads the words, the program's own name first.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let name = words.first().map(PathBuf::from).unwrap_or_default();
        if let Some(spelling) = create_spelling(&name) {
            let command = CreateCli::command().bin_name(spelling);
            let matches = command.try_get_matches_from(words)?;
            let CreateCli { globals, create } = CreateCli::from_arg_matches(&matches)?;
            let command = Command::Create(Box::new(create));
            return Ok(Self { globals, command });
        }
        let Cli { globals, command } =
            Cli::try_parse_from(&words).map_err(|error| in_one_word(error, &words))?;
        Ok(Self { globals, command })
    }
}

/// Tells who typed `vm NAME`, as for kubectl's own verbs, how a machine is named here.
fn in_one_word(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(surplus)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let kind = words
        .windows(2)
        .find(|pair| pair[1] == surplus.as_str())
        .and_then(|pair| pair[0].to_str());
    if let Some(kind @ ("vm" | "vms" | "virtualmachine" | "virtualmachines" | "vmi" | "vmis")) =
        kind
    {
        let tip = format!("a machine is named in one word: {kind}/{surplus}");
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![tip.into()]),
        );
    }
    error
}

/// The whole command line, for completion and man pages.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

/// What the user has typed, when the program is called by one of the names that kubectl looks for.
fn create_spelling(program: &Path) -> Option<&'static str> {
    match program.file_stem()?.to_str()? {
        "kubectl-create-vm" => Some("kubectl create vm"),
        "kubectl-create-virtualmachine" => Some("kubectl create virtualmachine"),
        _ => None,
    }
}

/// Which cluster, as whom: as kubectl's flags of these names.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// kubeconfig file (default: $KUBECONFIG, else ~/.kube/config, else the pod's service account)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    pub(crate) context: Option<String>,
    /// Namespace (default: the context's)
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Cluster"
    )]
    pub(crate) namespace: Option<String>,
    /// User to impersonate
    #[arg(
        long = "as",
        global = true,
        value_name = "USER",
        help_heading = "Cluster"
    )]
    pub(crate) as_user: Option<String>,
    /// Group to impersonate; can be repeated
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "as_user",
        help_heading = "Cluster"
    )]
    pub(crate) as_groups: Vec<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a virtual machine
    Create(Box<Create>),
    /// List virtual machines, and why those that do not run do not
    #[command(visible_alias = "ls")]
    List(List),
    /// Start a virtual machine
    Start(Start),
    /// Stop a virtual machine
    Stop(Stop),
    /// Stop and start a virtual machine
    Restart(Restart),
    /// Stop the processors of a virtual machine
    Pause(Verb),
    /// Let the processors go on
    Unpause(Verb),
    /// Ask the guest to reboot
    SoftReboot(Name),
    /// Reset a virtual machine without asking the guest
    Reset(Name),
    /// Open the serial console (Ctrl+] leaves)
    Console(Console),
    /// Show the screen in a VNC viewer
    Vnc(Vnc),
    /// Save a picture of the screen
    Screenshot(Screenshot),
    /// Run the system's ssh to a guest, through the API server
    Ssh(Ssh),
    /// Pass local ports on to a guest, through the API server
    PortForward(PortForward),
    /// Print the kernel log of a Linux guest, read from its memory
    Dmesg(Dmesg),
    /// Ask the guest agent
    Guest(Guest),
    /// Manage servers: enrol, inspect, switch and import them
    Host(Host),
    /// Explain in one sentence why a virtual machine does not run or is not ready
    Why(Name),
    /// Collect what support needs into an archive, without secrets
    Bundle(Bundle),
    /// Print the versions of plugin and server
    Version(Version),
    /// Print a completion script
    Completion(Completion),
    /// Write man pages
    Man(Man),
    /// Candidates for kubectl's completion
    #[command(name = "__complete", hide = true)]
    Complete(Complete),
}

/// A virtual machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct Name {
    /// `[vm/|vmi/]NAME[/NAMESPACE]`
    #[arg(value_name = "NAME")]
    pub(crate) target: Target,
}

/// `list`, `host list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// json, yaml, wide or name
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Wait for `unpause`
    #[arg(long)]
    pub(crate) paused: bool,
    /// Only ask whether it could be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Pull the plug at once
    #[arg(long)]
    pub(crate) force: bool,
    /// Seconds until the plug is pulled
    #[arg(long, value_name = "SECONDS", conflicts_with = "force")]
    pub(crate) grace_period: Option<u32>,
    /// Only ask whether it could be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `restart`.
#[derive(Debug, Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Pull the plug at once
    #[arg(long)]
    pub(crate) force: bool,
    /// Only ask whether it could be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pause`, `unpause`.
#[derive(Debug, Args)]
pub(crate) struct Verb {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Only ask whether it could be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `console`.
#[derive(Debug, Args)]
pub(crate) struct Console {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Begin with what was said before
    #[arg(long)]
    pub(crate) replay: bool,
    /// Only look
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Seconds to wait for the machine to run
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub(crate) timeout: u64,
}

/// `vnc`.
#[derive(Debug, Args)]
pub(crate) struct Vnc {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Start no viewer; print the local port as JSON and serve until Ctrl+C
    #[arg(long)]
    pub(crate) proxy_only: bool,
    /// Local port; 0 is a free one
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    pub(crate) port: u16,
    /// Local address
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// Only look
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// `screenshot`.
#[derive(Debug, Args)]
pub(crate) struct Screenshot {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// PNG file to write, or `-`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Wake the screen by moving the pointer first
    #[arg(long)]
    pub(crate) move_cursor: bool,
}

/// `ssh`.
#[derive(Debug, Args)]
pub(crate) struct Ssh {
    /// `[USER@][vm/|vmi/]NAME[/NAMESPACE]`
    #[arg(value_name = "[USER@]NAME")]
    pub(crate) destination: String,
    /// User in the guest
    #[arg(short = 'l', long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// Port in the guest
    #[arg(short, long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Private key
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity_file: Option<PathBuf>,
    /// File of known host keys (default: ssh's own)
    #[arg(long, value_name = "FILE")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// Command to run in the guest instead of a shell
    #[arg(short, long)]
    pub(crate) command: Option<String>,
    /// Further options of ssh, after `--`
    #[arg(last = true)]
    pub(crate) options: Vec<OsString>,
}

/// `port-forward`.
#[derive(Debug, Args)]
pub(crate) struct PortForward {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// `[LOCAL:]PORT`
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub(crate) ports: Vec<String>,
    /// Local address
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// Join standard input and output with the (one) port instead
    #[arg(long)]
    pub(crate) stdio: bool,
}

/// `dmesg`.
#[derive(Debug, Args)]
pub(crate) struct Dmesg {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// Newest bytes at most
    #[arg(long, value_name = "BYTES")]
    pub(crate) tail: Option<u64>,
}

/// `guest`.
#[derive(Debug, Args)]
pub(crate) struct Guest {
    #[command(subcommand)]
    pub(crate) question: Question,
}

/// What the guest agent is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// System, users and file systems
    Info(GuestInfo),
}

/// `guest info`.
#[derive(Debug, Args)]
pub(crate) struct GuestInfo {
    #[command(flatten)]
    pub(crate) vm: Name,
    /// json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// `bundle`.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// Virtual machines (default: all of the namespace)
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Archive to write, or `-`
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "catamaran-bundle.tar.gz"
    )]
    pub(crate) file: PathBuf,
    /// Newest lines of each log
    #[arg(long, value_name = "LINES", default_value_t = 2000)]
    pub(crate) log_lines: u32,
    /// Namespace that Catamaran is installed in
    #[arg(long, value_name = "NAME", default_value = "catamaran-system")]
    pub(crate) system_namespace: String,
}

/// `version`.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Only the plugin's own
    #[arg(long)]
    pub(crate) client: bool,
}

/// `completion`.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder to write the pages to
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}

/// `__complete`.
#[derive(Debug, Args)]
pub(crate) struct Complete {
    /// What was typed so far
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[cfg(test)]
mod tests;
