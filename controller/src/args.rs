//! The command line.

use std::net::SocketAddr;

use clap::Parser;

/// Maps virtual machines to pods, and serves their API.
#[derive(Debug, Clone, Parser)]
#[command(name = "catamaran-controller", version, max_term_width = 100)]
pub struct Args {
    /// Log filter, such as `debug` or `catamaran_controller=debug`
    #[arg(
        long,
        env = "CATAMARAN_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Namespace of the installation
    #[arg(
        long,
        env = "POD_NAMESPACE",
        default_value = "catamaran-system",
        value_name = "NAMESPACE"
    )]
    pub namespace: String,
    /// Name of this replica
    #[arg(
        long,
        env = "POD_NAME",
        default_value = "catamaran-controller",
        value_name = "NAME"
    )]
    pub name: String,
    /// Image of the launcher pods
    #[arg(long, env = "CATAMARAN_NODE_IMAGE", value_name = "IMAGE")]
    pub node_image: String,
    /// Pull policy of the launcher pods' image
    #[arg(
        long,
        env = "CATAMARAN_IMAGE_PULL_POLICY",
        default_value = "IfNotPresent",
        value_name = "POLICY"
    )]
    pub image_pull_policy: String,
    /// Address of the health endpoints
    #[arg(
        long,
        env = "CATAMARAN_HEALTH",
        default_value = "[::]:8081",
        value_name = "ADDRESS"
    )]
    pub health: SocketAddr,
    /// Address of the aggregated API and of admission
    #[arg(
        long,
        env = "CATAMARAN_LISTEN",
        default_value = "[::]:8443",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Port of the node daemons
    #[arg(
        long,
        env = "CATAMARAN_NODE_PORT",
        default_value_t = 8186,
        value_name = "PORT"
    )]
    pub node_port: u16,
    /// Objects of one kind that are worked on at the same time
    #[arg(long, default_value_t = 16, value_name = "COUNT")]
    pub concurrency: u16,
}
