//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// A password, which no log shows.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Maps virtual machines to pods, and serves their API.
#[derive(Debug, Clone, Parser)]
#[command(name = "catamaran-controller", version, max_term_width = 100)]
pub struct Args {
    /// What to do once; nothing: serve
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Log filter, such as `debug` or `catamaran_controller=debug`
    #[arg(
        long,
        global = true,
        env = "CATAMARAN_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Namespace of the installation
    #[arg(
        long,
        global = true,
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
    /// Image of the launcher pods; needed to serve
    #[arg(long, env = "CATAMARAN_NODE_IMAGE", value_name = "IMAGE")]
    pub node_image: Option<String>,
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
    /// https://ADDRESS:PORT by which servers and their BMCs reach the deploy server; without it no disk is written
    #[arg(
        long,
        env = "CATAMARAN_DEPLOY_URL",
        default_value = "",
        value_name = "URL"
    )]
    pub deploy_url: String,
    /// Address of the deploy server
    #[arg(
        long,
        env = "CATAMARAN_DEPLOY_LISTEN",
        default_value = "[::]:8444",
        value_name = "ADDRESS"
    )]
    pub deploy_listen: SocketAddr,
    /// ISO that servers are booted from to be inspected, written and cleaned
    #[arg(
        long,
        env = "CATAMARAN_DEPLOY_ISO",
        default_value = "/usr/share/catamaran/deploy.iso",
        value_name = "FILE"
    )]
    pub deploy_iso: PathBuf,
    /// Cut the power of nodes that are lost, have machines and are servers of ours
    #[arg(
        long,
        env = "CATAMARAN_FENCE_LOST_NODES",
        default_missing_value = "true",
        num_args = 0..=1,
        default_value_t = false,
        value_name = "BOOL"
    )]
    pub fence_lost_nodes: bool,
    /// Grafana with the dashboards of controller/deploy/dashboards, which the web console links to
    #[arg(
        long,
        env = "CATAMARAN_GRAFANA",
        default_value = "",
        value_name = "URL"
    )]
    pub grafana: String,
    /// OpenID Connect provider at which users of the web console may log in, as the API server's --oidc-issuer-url; without it they paste tokens
    #[arg(
        long,
        env = "CATAMARAN_OIDC_ISSUER",
        default_value = "",
        value_name = "URL"
    )]
    pub oidc_issuer: String,
    /// Name of the web console at the provider
    #[arg(
        long,
        env = "CATAMARAN_OIDC_CLIENT_ID",
        default_value = "catamaran",
        value_name = "NAME"
    )]
    pub oidc_client_id: String,
    /// Password of the web console at the provider; a public client has none
    #[arg(
        long,
        env = "CATAMARAN_OIDC_CLIENT_SECRET",
        default_value = "",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub oidc_client_secret: Secret,
    /// Authorities of the provider's certificate, PEM (default: the system's)
    #[arg(
        long,
        env = "CATAMARAN_OIDC_AUTHORITIES",
        default_value = "",
        hide_env_values = true,
        value_name = "PEM"
    )]
    pub oidc_authorities: String,
    /// Objects of one kind that are worked on at the same time
    #[arg(long, default_value_t = 16, value_name = "COUNT")]
    pub concurrency: u16,
    /// Servers that are worked on at the same time; most of the time their BMCs are waited for
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    pub host_concurrency: u16,
}

/// Work that is done once, as a Job of the installation.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Say whether Catamaran can be installed here; fails beside a KubeVirt
    Preflight,
    /// Take everything out of the cluster that the manifests do not name; refuses while there are machines
    Uninstall {
        /// Delete all machines with it
        #[arg(long, default_missing_value = "true", num_args = 0..=1, default_value_t = false, value_name = "BOOL")]
        delete_vms: bool,
        /// Seconds that machines and pods have to end
        #[arg(long, default_value = "300", value_parser = seconds, value_name = "SECONDS")]
        timeout: Duration,
    },
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_deleted_when_it_is_said_and_only_then() {
        let parsed = |words: &[&str]| match Args::try_parse_from(words).unwrap().command {
            Some(Command::Uninstall { delete_vms, .. }) => Some(delete_vms),
            _ => None,
        };
        let uninstall = ["catamaran-controller", "uninstall"];
        assert_eq!(parsed(&uninstall), Some(false));
        assert_eq!(
            parsed(&[&uninstall[..], &["--delete-vms"]].concat()),
            Some(true)
        );
        assert_eq!(
            parsed(&[&uninstall[..], &["--delete-vms=false"]].concat()),
            Some(false)
        );
        assert_eq!(parsed(&uninstall[..1]), None);
    }

    #[test]
    fn no_log_shows_the_password_at_the_provider() {
        let words = ["catamaran-controller", "--oidc-client-secret", "hunter2"];
        let args = Args::try_parse_from(words).unwrap();
        assert_eq!(args.oidc_client_secret.0, "hunter2");
        assert!(!format!("{args:?}").contains("hunter2"));
    }
}
