//! The command line.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use catamaran_client::Format;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// Virtual machines and containers on one machine, from Kubernetes manifests.
#[derive(Debug, Parser)]
#[command(
    name = "catamaran",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// State folder of the daemon
    #[arg(
        long,
        global = true,
        env = "CATAMARAN_STATE",
        default_value = "/var/lib/catamaran",
        value_name = "FOLDER"
    )]
    pub state: PathBuf,
    /// Log filter, such as `debug` or `catamaran_node=debug`
    #[arg(
        long,
        global = true,
        env = "CATAMARAN_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the words, the program's own name first.
    ///
    /// # Errors
    /// When they are no command, or ask for help. The daemon's children are not among the commands that are named then.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|mut error| {
            let command = Self::command();
            let is_hidden = |name: &String| {
                command
                    .find_subcommand(name)
                    .is_some_and(clap::Command::is_hide_set)
            };
            for kind in [
                ContextKind::ValidSubcommand,
                ContextKind::SuggestedSubcommand,
            ] {
                if let Some(ContextValue::Strings(mut names)) = error.remove(kind) {
                    names.retain(|name| !is_hidden(name));
                    if !names.is_empty() {
                        error.insert(kind, ContextValue::Strings(names));
                    }
                }
            }
            error
        })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: apply manifests and keep them running
    Play(Box<Play>),
    /// Run the daemon of a Kubernetes node
    Node(Box<Node>),
    /// Show what would be run: plan and domain XML, without a daemon
    Plan(PlanArgs),
    /// Show what this machine can do and why
    Host(Output),
    /// Apply manifests to the running daemon
    Apply(Apply),
    /// List virtual machines and pods
    Ps(Ps),
    /// Print an object as it is stored, with its status
    Get(Get),
    /// Show an object with its conditions and events
    Describe(Object),
    /// Start a virtual machine
    Start(Start),
    /// Stop a virtual machine
    Stop(Stop),
    /// Stop and start a virtual machine
    Restart(Name),
    /// Stop the processors of a virtual machine
    Pause(Name),
    /// Let the processors go on
    Unpause(Name),
    /// Reset a virtual machine without asking the guest
    Reset(Name),
    /// Ask the guest to reboot
    SoftReboot(Name),
    /// Open the serial console (Ctrl+] leaves)
    Console(Console),
    /// Offer the screen on a local port
    Vnc(Vnc),
    /// Save a picture of the screen
    Screenshot(Screenshot),
    /// Pass a local port on to a virtual machine or pod
    PortForward(PortForward),
    /// Print what a pod's container or a VM's serial console said
    Logs(Logs),
    /// Print the kernel log of a Linux guest, read from its memory
    Dmesg(Dmesg),
    /// Print the addresses of a virtual machine or pod
    Ip(Object),
    /// Delete objects
    Delete(Delete),
    /// Stop everything and end the daemon
    Down(Down),
    /// Unprivileged child of the daemon that reads image layers
    #[command(hide = true)]
    ImageWorker {
        /// What is to be done, as JSON
        request: String,
    },
    /// Unprivileged child of the daemon that answers DNS questions
    #[command(hide = true)]
    DnsServer,
}

/// `play`.
#[derive(Debug, Args)]
pub struct Play {
    /// Manifest file, folder of manifests (watched), or `-`
    #[arg(short, long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// OCI layout in which images are looked up by name before any registry
    #[arg(long = "images", value_name = "FOLDER")]
    pub images: Vec<PathBuf>,
    /// Registry host that is spoken to without TLS
    #[arg(long = "plain-http", value_name = "HOST[:PORT]")]
    pub plain_http: Vec<String>,
    /// Folder of certificates to trust besides the system's
    #[arg(long, value_name = "FOLDER")]
    pub certificates: Option<PathBuf>,
    /// IPv4 network of virtual machines and pods
    #[arg(long, default_value = "10.88.0.0/16", value_name = "NETWORK")]
    pub subnet: String,
    /// IPv6 network of virtual machines and pods
    #[arg(long, default_value = "fd88:ca7a::/64", value_name = "NETWORK")]
    pub subnet6: String,
    /// Bridge on the host, at most 11 characters
    #[arg(long, default_value = "catamaran0", value_name = "NAME")]
    pub bridge: String,
    /// Name server to ask for other names (default: those of /etc/resolv.conf)
    #[arg(long = "dns", value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
    /// Seconds of a DHCP lease (default: for ever)
    #[arg(long, value_name = "SECONDS")]
    pub lease: Option<u32>,
    /// CRI socket, or `private` for a containerd of its own (default: found, else private)
    #[arg(long, value_name = "SOCKET")]
    pub runtime: Option<PathBuf>,
    /// Address of the metrics
    #[arg(long, default_value = "127.0.0.1:9191", value_name = "ADDRESS")]
    pub metrics: SocketAddr,
    /// Serve the web console of this machine on a loopback address (127.0.0.1:8188), and print how to log in
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:8188")]
    pub console: Option<SocketAddr>,
    /// Run guests without KVM even where it works
    #[arg(long)]
    pub emulation: bool,
    /// Refuse to start machines where KVM does not work, instead of emulating them
    #[arg(long, conflicts_with = "emulation")]
    pub require_kvm: bool,
    /// Bytes that the overlay of a container disk may grow to (default: the disk's size), such as 2Gi
    #[arg(long, value_name = "BYTES")]
    pub overlay_limit: Option<String>,
    /// Folder with catamaran-launcher and catamaran-init (default: beside this program)
    #[arg(long, env = "CATAMARAN_LIBEXEC", value_name = "FOLDER")]
    pub libexec: Option<PathBuf>,
}

/// `node`.
#[derive(Debug, Args)]
pub struct Node {
    /// Name of this node
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node: String,
    /// Namespace of the installation
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "catamaran-system",
        value_name = "NAME"
    )]
    pub namespace: String,
    /// Root folder of the kubelet
    #[arg(
        long,
        env = "CATAMARAN_KUBELET",
        default_value = "/var/lib/kubelet",
        value_name = "FOLDER"
    )]
    pub kubelet: String,
    /// Address for the aggregated API
    #[arg(
        long,
        env = "CATAMARAN_LISTEN",
        default_value = "[::]:8186",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Address of the metrics
    #[arg(
        long,
        env = "CATAMARAN_METRICS",
        default_value = "[::]:8187",
        value_name = "ADDRESS"
    )]
    pub metrics: SocketAddr,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Manifest file or `-`
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print the domain XML only
    #[arg(long)]
    pub xml: bool,
    /// Format
    #[command(flatten)]
    pub output: Output,
}

/// Output format.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// json, yaml, wide or name
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// Namespace.
#[derive(Debug, Clone, Args)]
pub struct Namespace {
    /// Namespace
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Manifest file, folder, or `-`
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Check only
    #[arg(long)]
    pub dry_run: bool,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Only this namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Format
    #[command(flatten)]
    pub output: Output,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// What
    #[command(flatten)]
    pub object: Object,
    /// Format
    #[command(flatten)]
    pub output: Output,
}

/// An object.
#[derive(Debug, Clone, Args)]
pub struct Object {
    /// `[KIND/]NAME` or `KIND NAME`; kinds are vm (default), vmi, pod, pvc, cm, secret
    #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
    pub words: Vec<String>,
    /// Namespace
    #[command(flatten)]
    pub namespace: Namespace,
}

/// A virtual machine.
#[derive(Debug, Clone, Args)]
pub struct Name {
    /// `NAME`, `vm/NAME` or `vm NAME` of the virtual machine
    #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
    pub words: Vec<String>,
    /// Namespace
    #[command(flatten)]
    pub namespace: Namespace,
}

/// `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// Wait for `unpause`
    #[arg(long)]
    pub paused: bool,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// Seconds until the plug is pulled
    #[arg(long, value_name = "SECONDS")]
    pub grace_period: Option<u32>,
    /// Pull the plug at once
    #[arg(long, conflicts_with = "grace_period")]
    pub force: bool,
}

/// `console`.
#[derive(Debug, Args)]
pub struct Console {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// Begin with what was said before
    #[arg(long)]
    pub replay: bool,
    /// Only look
    #[arg(long)]
    pub read_only: bool,
    /// Seconds to wait for the machine to run
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,
}

/// `vnc`.
#[derive(Debug, Args)]
pub struct Vnc {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// Local port (default: a free one)
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Local address
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Only look
    #[arg(long)]
    pub read_only: bool,
}

/// `screenshot`.
#[derive(Debug, Args)]
pub struct Screenshot {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// PNG file to write, or `-`
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
}

/// `port-forward`.
#[derive(Debug, Args)]
pub struct PortForward {
    /// `[KIND/]NAME` or `KIND NAME`; kinds are vm (default), vmi, pod
    #[arg(value_name = "NAME")]
    pub object: String,
    /// Namespace
    #[command(flatten)]
    pub namespace: Namespace,
    /// `[LOCAL:]PORT`
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    pub ports: Vec<String>,
    /// Local address
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Which
    #[command(flatten)]
    pub object: Object,
    /// Container of a pod
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as more is said
    #[arg(short, long)]
    pub follow: bool,
    /// Last lines only
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// With times
    #[arg(long)]
    pub timestamps: bool,
}

/// `dmesg`.
#[derive(Debug, Args)]
pub struct Dmesg {
    /// Which
    #[command(flatten)]
    pub vm: Name,
    /// The stored tail of the last panic
    #[arg(long)]
    pub previous: bool,
    /// Newest bytes at most
    #[arg(long, value_name = "BYTES")]
    pub tail: Option<u64>,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// `[KIND/]NAME` or `KIND NAME`; kinds are vm (default), vmi, pod, pvc, cm, secret
    #[arg(value_name = "NAME", required_unless_present = "files")]
    pub names: Vec<String>,
    /// Delete the objects of these manifests
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        conflicts_with = "names"
    )]
    pub files: Vec<PathBuf>,
    /// Namespace
    #[command(flatten)]
    pub namespace: Namespace,
    /// Delete the disk of a claim too
    #[arg(long)]
    pub volumes: bool,
    /// Do not wait until it is gone; a claim under a machine that still stops is refused then
    #[arg(long)]
    pub no_wait: bool,
}

/// `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// Delete all objects too, so that nothing starts next time
    #[arg(long)]
    pub delete: bool,
    /// With `--delete`: the disks of claims too
    #[arg(long, requires = "delete")]
    pub volumes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words = line.split(' ').map(OsString::from);
        Cli::read(words).unwrap_err().to_string()
    }

    #[test]
    fn the_daemons_children_are_no_commands_for_people() {
        for line in [
            "catamaran",
            "catamaran --help",
            // As with CATAMARAN_STATE in the environment: something was said, but no command.
            "catamaran --state /tmp/x",
            "catamaran image-work x",
            "catamaran dns-serve",
        ] {
            let said = refused(line);
            assert!(!said.contains("image-worker"), "{line}: {said}");
            assert!(!said.contains("dns-server"), "{line}: {said}");
        }
        let said = refused("catamaran --state /tmp/x");
        assert!(said.contains("port-forward"), "{said}");
    }
}
