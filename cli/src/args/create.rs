//! Words of `create`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Making;

/// `create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// Name of the virtual machine (`vm` or `virtualmachine` may stand before it)
    #[arg(value_name = "NAME", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
    /// Name, for kubectl 1.29 and 1.30, which take no name after `create vm`
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Disk from a container image
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Disk from a PersistentVolumeClaim; can be repeated
    #[arg(long = "pvc", value_name = "CLAIM")]
    pub(crate) claims: Vec<String>,
    /// Memory of the guest (default: 512Mi, or the instancetype's)
    #[arg(long, value_name = "QUANTITY", conflicts_with = "instancetype")]
    pub(crate) memory: Option<String>,
    /// Processors of the guest (default: 1, or the instancetype's)
    #[arg(long, value_name = "COUNT", conflicts_with = "instancetype",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpu: Option<u32>,
    /// `[KIND/]NAME` of an instancetype; without a kind that of the cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) instancetype: Option<String>,
    /// `[KIND/]NAME` of a preference; without a kind that of the cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) preference: Option<String>,
    /// When it runs
    #[arg(long, value_name = "STRATEGY", default_value = "Always",
          value_parser = ["Always", "Halted", "Manual", "Once", "RerunOnFailure"])]
    pub(crate) run_strategy: String,
    /// File with cloud-init user data, or `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_init: Option<PathBuf>,
    /// SSH public key, or the file that holds it; can be repeated
    #[arg(long = "ssh-key", value_name = "KEY")]
    pub(crate) ssh_keys: Vec<String>,
    /// How the guest joins the pod's network
    #[arg(long, value_enum, default_value_t = Binding::Masquerade, value_name = "BINDING")]
    pub(crate) network: Binding,
    /// `PORT[/tcp|/udp]` that reaches the guest (default: all); can be repeated
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<String>,
    /// `KEY=VALUE` besides `app=NAME`; can be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Seconds that the guest has to shut down
    #[arg(long, value_name = "SECONDS")]
    pub(crate) termination_grace_period: Option<u32>,
    #[command(flatten)]
    pub(crate) making: Making,
}

/// How a guest joins the pod's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Binding {
    /// A private address behind NAT
    Masquerade,
    /// The pod's own address
    Bridge,
}
