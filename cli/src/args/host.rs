//! Words of `host`.

use std::path::PathBuf;

use catamaran_client::Format;
use clap::{ArgGroup, Args, Subcommand};

use super::{List, Making};

/// `host`.
#[derive(Debug, Args)]
pub(crate) struct Host {
    #[command(subcommand)]
    pub(crate) verb: HostVerb,
}

/// What is done with servers.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List servers: their states and since when, their power, and why those that wait do
    #[command(visible_alias = "ls")]
    List(List),
    /// Tell all of one server: state, power, hardware, conditions and events
    Describe(HostName),
    /// Make a BareMetalHost and the Secret of its BMC
    Enroll(Box<Enroll>),
    /// Ask for a new inspection, or show what the last one found
    Inspect(Inspect),
    /// Show what its BMC measures: temperatures, fans, power
    Sensors(HostReadings),
    /// Show its BMC's event log, newest first
    Events(HostLog),
    /// Turn a server on or off, or reboot it
    Power(Power),
    /// Make BareMetalHosts of the nodes of an Ironic
    Import(Box<Import>),
}

/// A server.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostName {
    /// `[bmh/]NAME`
    #[arg(value_name = "NAME", value_parser = host_name)]
    pub(crate) name: String,
}

fn host_name(word: &str) -> Result<String, String> {
    let name = match word.split_once('/') {
        None => word,
        Some(("bmh" | "bmhost" | "baremetalhost" | "baremetalhosts", name)) => name,
        Some((kind, _)) => return Err(format!("unknown kind {kind:?}: allowed is bmh")),
    };
    if name.is_empty() || name.contains('/') {
        return Err("must be [bmh/]NAME; the namespace is named by -n".to_owned());
    }
    Ok(name.to_owned())
}

/// How long a command waits.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Waiting {
    /// Wait until it is so, and tell how far it is on standard error
    #[arg(long)]
    pub(crate) wait: bool,
    /// Seconds to wait at most
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 1800,
        requires = "wait"
    )]
    pub(crate) timeout: u64,
}

/// `host enroll`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("login").required(true).args(["password_stdin", "password_file", "credentials"]))]
pub(crate) struct Enroll {
    #[command(flatten)]
    pub(crate) host: HostName,
    /// URL of its BMC, such as redfish-virtualmedia://192.0.2.7/redfish/v1/Systems/1
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bmc: String,
    /// MAC address of the network interface that it boots from (default: found by inspection)
    #[arg(long, value_name = "MAC")]
    pub(crate) mac: Option<String>,
    /// User name at the BMC
    #[arg(
        long,
        value_name = "NAME",
        required_unless_present = "credentials",
        conflicts_with = "credentials"
    )]
    pub(crate) user: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// File with the password
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Secret with `username` and `password` that is there already, instead of making one
    #[arg(long, value_name = "SECRET")]
    pub(crate) credentials: Option<String>,
    /// SHA-256 of the only certificate of the BMC that is accepted
    #[arg(long, value_name = "SHA256")]
    pub(crate) fingerprint: Option<String>,
    /// File with the authority (PEM) that signed the BMC's certificate
    #[arg(long, value_name = "FILE", conflicts_with = "credentials")]
    pub(crate) ca: Option<PathBuf>,
    /// Accept any certificate of the BMC: whoever stands between reads the password
    #[arg(long, conflicts_with_all = ["fingerprint", "ca"])]
    pub(crate) insecure: bool,
    /// It is to be off (default: on)
    #[arg(long)]
    pub(crate) offline: bool,
    /// How its firmware boots
    #[arg(long, value_name = "MODE", value_parser = ["UEFI", "UEFISecureBoot", "legacy"])]
    pub(crate) boot_mode: Option<String>,
    /// How it is inspected: by its BMC, by a program on it, or not
    #[arg(long, value_name = "MODE", value_parser = ["fast", "agent", "disabled"])]
    pub(crate) inspection: Option<String>,
    /// Something else put an operating system on it: manage its power, nothing else
    #[arg(long)]
    pub(crate) externally_provisioned: bool,
    /// Words for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// `KEY=VALUE`; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    #[command(flatten)]
    pub(crate) making: Making,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// `host inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) host: HostName,
    /// Ask for nothing; show what the last inspection found
    #[arg(long, conflicts_with_all = ["wait", "timeout"])]
    pub(crate) show: bool,
    /// With --show or --wait: json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// `host sensors`.
#[derive(Debug, Args)]
pub(crate) struct HostReadings {
    #[command(flatten)]
    pub(crate) host: HostName,
    /// json or yaml
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// `host events`.
#[derive(Debug, Args)]
pub(crate) struct HostLog {
    #[command(flatten)]
    pub(crate) readings: HostReadings,
    /// Entries to show at most
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub(crate) limit: u8,
    /// Newest entries to leave out
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) skip: u32,
}

/// `host power`.
#[derive(Debug, Args)]
pub(crate) struct Power {
    #[command(subcommand)]
    pub(crate) verb: PowerVerb,
}

/// What becomes of a server's power.
#[derive(Debug, Subcommand)]
pub(crate) enum PowerVerb {
    /// It is to be on
    On(PowerOn),
    /// It is to be off; its system is asked, and cut off when it does not listen
    Off(PowerOff),
    /// Off and on again, once
    Reboot(PowerReboot),
}

/// `host power on`.
#[derive(Debug, Args)]
pub(crate) struct PowerOn {
    #[command(flatten)]
    pub(crate) host: HostName,
    #[command(flatten)]
    pub(crate) boot: BootOnce,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// From where it starts.
#[derive(Debug, Clone, Args)]
pub(crate) struct BootOnce {
    /// Boot from there at its next start, and from where its firmware says again after that
    #[arg(long, value_name = "DEVICE", value_parser = ["cd", "pxe", "disk", "bios-setup"])]
    pub(crate) boot_once: Option<String>,
}

/// `host power reboot`.
#[derive(Debug, Args)]
pub(crate) struct PowerReboot {
    #[command(flatten)]
    pub(crate) off: PowerOff,
    #[command(flatten)]
    pub(crate) boot: BootOnce,
}

/// `host power off`.
#[derive(Debug, Args)]
pub(crate) struct PowerOff {
    #[command(flatten)]
    pub(crate) host: HostName,
    /// Cut its power without asking its system
    #[arg(long)]
    pub(crate) hard: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// `host import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Import {
    /// URL of the Ironic, such as https://192.0.2.1:6385
    #[arg(long, value_name = "URL")]
    pub(crate) from_ironic: String,
    /// User name at Ironic, with --ironic-password-file
    #[arg(
        long,
        value_name = "NAME",
        requires = "ironic_password_file",
        help_heading = "Ironic"
    )]
    pub(crate) ironic_user: Option<String>,
    /// File with the password at Ironic, or `-`
    #[arg(
        long,
        value_name = "FILE",
        requires = "ironic_user",
        help_heading = "Ironic"
    )]
    pub(crate) ironic_password_file: Option<PathBuf>,
    /// File with a token of Keystone, or `-` (`openstack token issue -f value -c id` prints one)
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "ironic_user",
        help_heading = "Ironic"
    )]
    pub(crate) ironic_token_file: Option<PathBuf>,
    /// File with the authority (PEM) that signed Ironic's certificate
    #[arg(long, value_name = "FILE", help_heading = "Ironic")]
    pub(crate) ironic_ca: Option<PathBuf>,
    /// YAML file with the BMCs' credentials, which Ironic does not tell, or `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// Print such a file for the nodes that need one, to be filled in, and make nothing
    #[arg(long, conflicts_with_all = ["credentials", "dry_run", "output"])]
    pub(crate) print_credentials: bool,
    /// Only these nodes, by name or UUID; can be repeated (default: all)
    #[arg(long = "node", value_name = "NODE")]
    pub(crate) nodes: Vec<String>,
    /// Manage them at once; without it they are paused, since Ironic still manages them
    #[arg(long)]
    pub(crate) unpaused: bool,
    #[command(flatten)]
    pub(crate) making: Making,
}
