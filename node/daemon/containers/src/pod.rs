//! A validated Pod: what `v1` Pod manifests mean here. [`PodSpec::parse`] is the only way to one, and reports every
//! error at once with its field path. References to ConfigMaps and Secrets stay references; they are read when
//! containers are made, as Kubernetes does it.

mod container;
mod env;
mod fields;
mod limits;
mod parse;
mod probe;
mod problem;
mod quantity;
mod volume;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use container::{Container, Port, Protocol, PullPolicy, VolumeMount};
pub use env::{EnvFrom, EnvSource, EnvVar, FieldPath, PodField};
pub use fields::{Support, all_fields};
pub use limits::{Resources, Security};
pub use probe::{Check, Probe, ProbePort};
pub use problem::{InvalidPod, Problem, Warning};
pub use volume::{FileItem, Files, HostPathType, Volume, VolumeSource};

/// Namespace and name of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodKey {
    /// Namespace, an RFC 1123 label.
    pub namespace: String,
    /// Name, an RFC 1123 subdomain.
    pub name: String,
}

impl PodKey {
    /// A key of the two words.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// `<namespace>_<name>`: neither may hold an underscore, so this is unique and fit for a file name.
    pub fn folder_name(&self) -> String {
        format!("{}_{}", self.namespace, self.name)
    }
}

impl Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A validated Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodSpec {
    /// Namespace and name.
    pub key: PodKey,
    /// `metadata.uid`, or a function of the key where the manifest has none. Another uid is another Pod.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Name inside the Pod: `spec.hostname`, else the Pod's name, at most 63 bytes.
    pub hostname: String,
    /// More lines of `/etc/hosts`.
    pub host_aliases: Vec<HostAlias>,
    /// Where names are resolved.
    pub dns: DnsPolicy,
    /// `spec.dnsConfig`, added to what `dns` gives.
    pub dns_config: DnsConfig,
    /// When an ended container is started again.
    pub restart_policy: RestartPolicy,
    /// Time from SIGTERM to SIGKILL.
    pub grace: Duration,
    /// Volumes, by unique name.
    pub volumes: Vec<Volume>,
    /// Run to success one after the other, before `containers`.
    pub init_containers: Vec<Container>,
    /// Run side by side.
    pub containers: Vec<Container>,
    /// All containers see one another's processes.
    pub share_process_namespace: bool,
    /// Defaults of the containers' security contexts.
    pub security: PodSecurity,
    /// Secrets with registry logins, in the Pod's namespace.
    pub pull_secrets: Vec<String>,
    /// `spec.serviceAccountName`; only `fieldRef` can see it.
    pub service_account: String,
    /// Digest of the Pod's `spec` (sha256, hexadecimal); a Pod whose digest differs is replaced.
    pub digest: String,
}

impl PodSpec {
    /// The container of that name, of either kind.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.init_containers
            .iter()
            .chain(&self.containers)
            .find(|container| container.name == name)
    }

    /// Every host port that the Pod asks for, with the container port behind it.
    pub fn host_ports(&self) -> impl Iterator<Item = &Port> {
        self.containers
            .iter()
            .flat_map(|container| &container.ports)
            .filter(|port| port.host_port.is_some())
    }
}

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    #[default]
    Always,
    /// When its exit code is not 0.
    OnFailure,
    /// Never.
    Never,
}

/// Where names are resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// By this node's own name server.
    #[default]
    ClusterFirst,
    /// As the host does it.
    Default,
    /// As `dnsConfig` says, and nowhere else.
    None,
}

/// Content of a `resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains tried for short names.
    pub searches: Vec<String>,
    /// Options, as in `ndots:2`.
    pub options: Vec<String>,
}

/// More names of one address in `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub address: IpAddr,
    /// Its names.
    pub names: Vec<String>,
}

/// Defaults of the containers' security contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurity {
    /// User of the containers' first processes.
    pub run_as_user: Option<i64>,
    /// Group of the containers' first processes.
    pub run_as_group: Option<i64>,
    /// Refuse to start a container as user 0.
    pub run_as_non_root: bool,
    /// More groups.
    pub supplemental_groups: Vec<i64>,
    /// `RuntimeDefault` (true) or `Unconfined` (false).
    pub seccomp: Option<bool>,
}
