//! CRI requests made from a Pod: a pure translation. Labels are the kubelet's, so that other tools show our Pods.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use k8s_cri::v1 as cri;

use crate::cri::image_spec;
use crate::pod::{Container, DnsPolicy, PodKey, PodSpec, Protocol, Resources};

/// Labels of the kubelet.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Label: which state folder a sandbox belongs to.
pub(crate) const INSTANCE: &str = "catamaran.local/instance";
/// Annotation of a sandbox: the spec's digest.
pub(crate) const DIGEST: &str = "catamaran.local/spec-digest";
/// Annotation of a sandbox: restart counts at which its containers begin, as JSON.
pub(crate) const RESTARTS: &str = "catamaran.local/restarts";
/// Annotation of a container: number of short runs in a row before it.
pub(crate) const LEVEL: &str = "catamaran.local/back-off-level";

/// Paths that a container cannot see, or only read, unless it is privileged; those of the kubelet.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Period of the CPU quota, in microseconds.
const CPU_PERIOD: i64 = 100_000;

/// This node's name server, for Pods with `dnsPolicy: ClusterFirst`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeDns {
    /// Addresses of the name server; empty: Pods use the host's.
    pub servers: Vec<IpAddr>,
    /// The zone of all names here; Pods search `<namespace>.<zone>` and the zone itself.
    pub zone: String,
}

/// Filter for everything of one Pod.
pub(crate) fn pod_labels(instance: &str, key: &PodKey) -> HashMap<String, String> {
    let labels = [
        (INSTANCE, instance),
        (POD_NAME, &key.name),
        (POD_NAMESPACE, &key.namespace),
    ];
    labels
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What a sandbox is made with, besides the Pod.
#[derive(Clone, Debug)]
pub(crate) struct SandboxContext<'a> {
    pub(crate) instance: &'a str,
    pub(crate) dns: &'a NodeDns,
    pub(crate) log_directory: String,
    /// Empty: the runtime's default.
    pub(crate) cgroup_parent: String,
    /// Host ports are CNI's business.
    pub(crate) port_mappings: bool,
}

pub(crate) fn sandbox_config(
    pod: &PodSpec,
    context: &SandboxContext<'_>,
    attempt: u32,
    restarts: &BTreeMap<String, u32>,
) -> cri::PodSandboxConfig {
    let mut labels: HashMap<_, _> = pod.labels.clone().into_iter().collect();
    labels.extend(pod_labels(context.instance, &pod.key));
    labels.insert(POD_UID.to_owned(), pod.uid.clone());
    let mut annotations: HashMap<_, _> = HashMap::from([(DIGEST.to_owned(), pod.digest.clone())]);
    if !restarts.is_empty() {
        annotations.insert(
            RESTARTS.to_owned(),
            serde_json::to_string(restarts).expect("a map of numbers is JSON"),
        );
    }
    let ports = if context.port_mappings {
        pod.host_ports().map(port_mapping).collect()
    } else {
        Vec::new()
    };
    let privileged = pod
        .init_containers
        .iter()
        .chain(&pod.containers)
        .any(|container| container.security.privileged);
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: pod.key.name.clone(),
            uid: pod.uid.clone(),
            namespace: pod.key.namespace.clone(),
            attempt,
        }),
        hostname: pod.hostname.clone(),
        log_directory: context.log_directory.clone(),
        dns_config: dns_config(pod, context.dns),
        port_mappings: ports,
        labels,
        annotations,
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: context.cgroup_parent.clone(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                seccomp: Some(seccomp(pod.security.seccomp.unwrap_or(true))),
                privileged,
                ..cri::LinuxSandboxSecurityContext::default()
            }),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        windows: None,
    }
}

fn namespaces(pod: &PodSpec) -> cri::NamespaceOption {
    let pid = if pod.share_process_namespace {
        cri::NamespaceMode::Pod
    } else {
        cri::NamespaceMode::Container
    };
    cri::NamespaceOption {
        network: cri::NamespaceMode::Pod.into(),
        pid: pid.into(),
        ipc: cri::NamespaceMode::Pod.into(),
        ..cri::NamespaceOption::default()
    }
}

fn seccomp(default: bool) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let kind = if default {
        ProfileType::RuntimeDefault
    } else {
        ProfileType::Unconfined
    };
    cri::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: String::new(),
    }
}

fn port_mapping(port: &crate::pod::Port) -> cri::PortMapping {
    let protocol = match port.protocol {
        Protocol::Tcp => cri::Protocol::Tcp,
        Protocol::Udp => cri::Protocol::Udp,
        Protocol::Sctp => cri::Protocol::Sctp,
    };
    cri::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port.into(),
        host_port: port.host_port.unwrap_or_default().into(),
        host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
    }
}

fn dns_config(pod: &PodSpec, node: &NodeDns) -> Option<cri::DnsConfig> {
    let mut config = cri::DnsConfig::default();
    if pod.dns == DnsPolicy::ClusterFirst && !node.servers.is_empty() {
        config.servers = node.servers.iter().map(ToString::to_string).collect();
        if !node.zone.is_empty() {
            config.searches = vec![
                format!("{}.{}", pod.key.namespace, node.zone),
                node.zone.clone(),
            ];
            config.options = vec!["ndots:2".to_owned()];
        }
    }
    let more = &pod.dns_config;
    config.servers.extend(more.servers.iter().cloned());
    config.searches.extend(more.searches.iter().cloned());
    config.options.extend(more.options.iter().cloned());
    // Without a configuration a Pod gets the host's.
    let given =
        !config.servers.is_empty() || !config.searches.is_empty() || !config.options.is_empty();
    given.then_some(config)
}

/// What a container is made with, besides the Pod.
#[derive(Clone, Debug)]
pub(crate) struct ContainerContext<'a> {
    pub(crate) image: &'a cri::Image,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) mounts: Vec<cri::Mount>,
    pub(crate) attempt: u32,
    pub(crate) level: u32,
    /// Memory of this machine in bytes.
    pub(crate) memory: i64,
}

/// The container's request. The error is a message for `CreateContainerConfigError`.
pub(crate) fn container_config(
    pod: &PodSpec,
    container: &Container,
    context: ContainerContext<'_>,
) -> Result<cri::ContainerConfig, String> {
    let ContainerContext {
        image,
        variables,
        mounts,
        attempt,
        level,
        memory,
    } = context;
    let labels = [
        (POD_NAME, &pod.key.name),
        (POD_NAMESPACE, &pod.key.namespace),
        (POD_UID, &pod.uid),
        (CONTAINER_NAME, &container.name),
    ];
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt,
        }),
        image: Some(cri::ImageSpec {
            image: image.id.clone(),
            ..image_spec(&container.image)
        }),
        command: crate::environment::words(&container.command, &variables),
        args: crate::environment::words(&container.args, &variables),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(&container.resources, memory)),
            security_context: Some(security(pod, container, image)?),
        }),
        envs: variables
            .into_iter()
            .map(|(key, value)| cri::KeyValue { key, value })
            .collect(),
        mounts,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect(),
        annotations: HashMap::from([(LEVEL.to_owned(), level.to_string())]),
        log_path: format!("{}/{attempt}.log", container.name),
        tty: container.tty,
        ..cri::ContainerConfig::default()
    })
}

fn resources(resources: &Resources, memory: i64) -> cri::LinuxContainerResources {
    let quota = resources
        .cpu_limit
        .filter(|limit| *limit > 0)
        .map(|limit| (limit.saturating_mul(CPU_PERIOD) / 1000).max(1000));
    cri::LinuxContainerResources {
        cpu_shares: (resources.cpu_request.unwrap_or(0).saturating_mul(1024) / 1000)
            .clamp(2, 262_144),
        cpu_period: if quota.is_some() { CPU_PERIOD } else { 0 },
        cpu_quota: quota.unwrap_or(0),
        memory_limit_in_bytes: resources.memory_limit.unwrap_or(0),
        oom_score_adj: oom_score_adj(resources, memory),
        ..cri::LinuxContainerResources::default()
    }
}

/// Who is killed first when memory is scarce: the kubelet's numbers.
fn oom_score_adj(resources: &Resources, memory: i64) -> i64 {
    match resources {
        Resources {
            cpu_request: None | Some(0),
            memory_request: None | Some(0),
            ..
        } => 1000,
        Resources {
            cpu_limit: Some(_),
            memory_limit: Some(_),
            ..
        } if resources.cpu_request == resources.cpu_limit
            && resources.memory_request == resources.memory_limit =>
        {
            -997
        }
        _ => (1000
            - 1000_i64.saturating_mul(resources.memory_request.unwrap_or(0)) / memory.max(1))
        .clamp(3, 999),
    }
}

fn security(
    pod: &PodSpec,
    container: &Container,
    image: &cri::Image,
) -> Result<cri::LinuxContainerSecurityContext, String> {
    let own = &container.security;
    let user = own.run_as_user.or(pod.security.run_as_user);
    let group = own.run_as_group.or(pod.security.run_as_group);
    let image_user = image.uid.as_ref().map(|uid| uid.value);
    if own.run_as_non_root.unwrap_or(pod.security.run_as_non_root) {
        match user.or(image_user) {
            Some(0) => {
                return Err("container has runAsNonRoot and image will run as root".to_owned());
            }
            Some(_) => {}
            None if image.username.is_empty() => {
                return Err("container has runAsNonRoot and image will run as root".to_owned());
            }
            None => {
                return Err(format!(
                    "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                    image.username
                ));
            }
        }
    }
    let (run_as_user, run_as_username) = match user.or(image_user) {
        Some(value) => (Some(cri::Int64Value { value }), String::new()),
        None => (None, image.username.clone()),
    };
    // A group without a user is an error of CRI; the user is then root.
    let run_as_user = run_as_user.or_else(|| {
        (group.is_some() && run_as_username.is_empty()).then_some(cri::Int64Value { value: 0 })
    });
    let paths = |list: &[&str]| {
        if own.privileged {
            Vec::new()
        } else {
            list.iter().map(|path| (*path).to_owned()).collect()
        }
    };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: own.add_capabilities.clone(),
            drop_capabilities: own.drop_capabilities.clone(),
            ..cri::Capability::default()
        }),
        privileged: own.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user,
        run_as_group: group.map(|value| cri::Int64Value { value }),
        run_as_username,
        readonly_rootfs: own.read_only_root,
        supplemental_groups: pod.security.supplemental_groups.clone(),
        no_new_privs: !own.allow_privilege_escalation,
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        // Unlike the kubelet's, our default is the runtime's profile: this node runs VMs beside containers.
        seccomp: Some(seccomp(
            own.seccomp.or(pod.security.seccomp).unwrap_or(true) && !own.privileged,
        )),
        ..cri::LinuxContainerSecurityContext::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    #[test]
    fn resources_become_shares_quota_and_a_memory_limit() {
        let wanted = Resources {
            cpu_request: Some(250),
            cpu_limit: Some(500),
            memory_request: Some(GIB),
            memory_limit: Some(2 * GIB),
        };
        let made = resources(&wanted, 4 * GIB);
        assert_eq!(
            (
                made.cpu_shares,
                made.cpu_quota,
                made.cpu_period,
                made.memory_limit_in_bytes
            ),
            (256, 50_000, 100_000, 2 * GIB)
        );
        assert_eq!(made.oom_score_adj, 750);
        let none = resources(&Resources::default(), GIB);
        assert_eq!(
            (
                none.cpu_shares,
                none.cpu_quota,
                none.cpu_period,
                none.oom_score_adj
            ),
            (2, 0, 0, 1000)
        );
        let all = Resources {
            cpu_request: Some(1),
            cpu_limit: Some(1),
            memory_request: Some(1),
            memory_limit: Some(1),
        };
        assert_eq!(
            (
                resources(&all, GIB).cpu_quota,
                resources(&all, GIB).oom_score_adj
            ),
            (1000, -997)
        );
    }

    #[test]
    fn a_pod_searches_its_namespace_first() {
        let manifest = serde_json::json!({"metadata": {"name": "p", "namespace": "team"}, "apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "c", "image": "i"}], "dnsConfig": {"options": [{"name": "timeout", "value": "1"}]}}});
        let (mut pod, _) = PodSpec::parse(&manifest).unwrap();
        let node = NodeDns {
            servers: vec!["10.0.0.1".parse().unwrap()],
            zone: "vm.test".to_owned(),
        };
        let config = dns_config(&pod, &node).unwrap();
        assert_eq!(
            (config.servers, config.searches),
            (
                vec!["10.0.0.1".to_owned()],
                vec!["team.vm.test".to_owned(), "vm.test".to_owned()]
            )
        );
        assert_eq!(config.options, ["ndots:2", "timeout:1"]);
        pod.dns = DnsPolicy::Default;
        pod.dns_config = crate::pod::DnsConfig::default();
        assert_eq!(dns_config(&pod, &node), None, "the host's own");
    }
}
