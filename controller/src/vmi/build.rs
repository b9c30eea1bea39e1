//! The launcher pod of an instance. Pure: the same instance, claims and settings give the same pod.

mod attachment;
mod console_log;
mod probes;
mod resources;
mod volumes;

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::{
    GENERATION_ANNOTATION, HARDWARE_ANNOTATION, TEMPLATE_ANNOTATION, machine_uid,
};
use catamaran_plan::pod::{COMMAND, CONTAINER};
use catamaran_plan::{Identity, networks, overhead, paths};
use catamaran_spec::{MachineSpec, Protocol};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, LocalObjectReference, Pod, PodReadinessGate,
    PodSecurityContext, PodSpec, SeccompProfile, SecurityContext, VolumeDevice, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};

use crate::settings::Settings;
use crate::vmi::pod_view::GATE;
use crate::vmi::state;
use crate::vmi::{ID_LABEL, NAME_LABEL};

pub use attachment::{ATTACHMENT_GRACE, Attach, attachment, attachment_name};

/// Seconds that a pod has longer than its guest.
const AFTER_GRACE: i64 = 15;
/// Longest name of a pod: it is the host name of the pod where there is no other.
const NAME_LENGTH: usize = 63;
/// Digits of the names' last part: neither vowels nor what looks alike.
const DIGITS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Annotations of an instance that are nobody's business in a pod.
const PRIVATE: [&str; 4] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    GENERATION_ANNOTATION,
    HARDWARE_ANNOTATION,
    TEMPLATE_ANNOTATION,
];

/// Whether a claim is a file system or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimMode {
    /// A file system with a `disk.img`.
    Filesystem,
    /// A device.
    Block,
}

/// What a pod is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The instance.
    pub vmi: &'a VirtualMachineInstance,
    /// What it means.
    pub machine: &'a MachineSpec,
    /// Modes of its claims; a claim that is not here counts as a file system.
    pub claims: &'a BTreeMap<String, ClaimMode>,
    /// Settings of the cluster.
    pub settings: &'a Settings,
}

/// Name of the pod: a function of the instance, so that a second one can't be made however old a cache is.
#[must_use]
pub fn pod_name(vmi: &str, uid: &str) -> String {
    let prefix = "virt-launcher-";
    let end: String = Sha256::digest(uid)
        .iter()
        .take(5)
        .map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()]))
        .collect();
    let room = NAME_LENGTH - prefix.len() - 1 - end.len();
    let middle: String = vmi.chars().take(room).collect();
    let middle = middle.trim_end_matches(['-', '.']);
    format!("{prefix}{middle}-{end}")
}

/// The pod.
#[must_use]
pub fn pod(input: &Input<'_>) -> Pod {
    let Input {
        vmi,
        machine,
        settings,
        ..
    } = input;
    let load = resources::load(machine, settings.emulation);
    let overhead = overhead::total(machine, load);
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let name = vmi.metadata.name.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(&name, &uid)),
            namespace: vmi.metadata.namespace.clone(),
            labels: Some(labels(vmi, &name, &uid)),
            annotations: Some(annotations(vmi, machine, &name, overhead)),
            owner_references: Some(vec![OwnerReference {
                api_version: catamaran_api::API_VERSION.to_owned(),
                block_owner_deletion: Some(true),
                controller: Some(true),
                kind: "VirtualMachineInstance".to_owned(),
                name,
                uid,
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(input, overhead)),
        status: None,
    }
}

fn labels(vmi: &VirtualMachineInstance, name: &str, uid: &str) -> BTreeMap<String, String> {
    let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
    for (key, value) in [
        ("kubevirt.io", "virt-launcher"),
        ("kubevirt.io/created-by", uid),
        (NAME_LABEL, name),
        (ID_LABEL, name),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

fn annotations(
    vmi: &VirtualMachineInstance,
    machine: &MachineSpec,
    name: &str,
    overhead: u64,
) -> BTreeMap<String, String> {
    let mut annotations = vmi.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| {
        !PRIVATE.contains(&key.as_str()) && !key.ends_with("-observed-api-version")
    });
    for (key, value) in [
        ("kubevirt.io/domain", name.to_owned()),
        (
            "kubectl.kubernetes.io/default-container",
            CONTAINER.to_owned(),
        ),
        ("kubevirt.io/memory-overhead-bytes", overhead.to_string()),
    ] {
        annotations.insert(key.to_owned(), value);
    }
    if networks::is_wanted(machine) {
        let uid = machine_uid(vmi).and_then(|uid| uid.parse().ok());
        let selections = networks::selections(machine, &Identity::of_uid(uid.unwrap_or_default()));
        let json = serde_json::to_string(&selections).expect("names are strings");
        annotations.insert(networks::NETWORKS.to_owned(), json);
    }
    annotations
}

fn spec(input: &Input<'_>, overhead: u64) -> PodSpec {
    let Input {
        vmi,
        machine,
        claims,
        settings,
    } = input;
    let asked = &vmi.spec;
    let state = vmi
        .metadata
        .name
        .as_deref()
        .and_then(|name| state::claim_name(machine, name));
    let volumes = volumes::volumes(machine, claims, state.as_deref());
    let mut node_selector = asked.node_selector.clone();
    node_selector.insert("kubevirt.io/schedulable".to_owned(), "true".to_owned());
    node_selector.insert("kubernetes.io/arch".to_owned(), "amd64".to_owned());
    let mut pull_secrets = settings.pull_secrets.clone();
    for secret in volumes.pull_secrets {
        if !pull_secrets.contains(&secret) {
            pull_secrets.push(secret);
        }
    }
    PodSpec {
        affinity: asked.affinity.clone(),
        automount_service_account_token: Some(false),
        containers: containers(input, overhead, volumes.mounts, volumes.devices),
        dns_config: asked.dns_config.clone(),
        dns_policy: asked.dns_policy.clone(),
        enable_service_links: Some(false),
        hostname: Some(machine.hostname.clone()),
        image_pull_secrets: some(
            pull_secrets
                .into_iter()
                .map(|name| LocalObjectReference { name })
                .collect(),
        ),
        node_selector: Some(node_selector),
        priority_class_name: asked.priority_class_name.clone(),
        readiness_gates: Some(vec![PodReadinessGate {
            condition_type: GATE.to_owned(),
        }]),
        restart_policy: Some("Never".to_owned()),
        scheduler_name: asked.scheduler_name.clone(),
        security_context: Some(pod_security()),
        service_account_name: asked.service_account_name.clone(),
        subdomain: machine.subdomain.clone(),
        termination_grace_period_seconds: Some(
            i64::from(machine.termination_grace_period_seconds) + AFTER_GRACE,
        ),
        tolerations: some(asked.tolerations.clone()),
        topology_spread_constraints: some(asked.topology_spread_constraints.clone()),
        volumes: Some(volumes.volumes),
        ..PodSpec::default()
    }
}

/// Nothing of ours is root.
fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(i64::from(paths::GID)),
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        run_as_group: Some(i64::from(paths::GID)),
        run_as_non_root: Some(true),
        run_as_user: Some(i64::from(paths::UID)),
        seccomp_profile: Some(SeccompProfile {
            localhost_profile: None,
            type_: "RuntimeDefault".to_owned(),
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// The launcher's container, and the one with the guest's serial output.
fn containers(
    input: &Input<'_>,
    overhead: u64,
    mounts: Vec<VolumeMount>,
    devices: Vec<VolumeDevice>,
) -> Vec<Container> {
    let Input {
        vmi,
        machine,
        settings,
        ..
    } = input;
    let compute = Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.pull_policy.clone()),
        command: Some(COMMAND.map(str::to_owned).into()),
        liveness_probe: machine.liveness_probe.as_ref().and_then(probes::probe),
        readiness_probe: machine.readiness_probe.as_ref().and_then(probes::probe),
        ports: some(ports(machine)),
        resources: Some(resources::requirements(machine, settings, overhead)),
        security_context: Some(container_security()),
        volume_devices: some(devices),
        volume_mounts: some(mounts),
        ..Container::default()
    };
    let log = console_log::wanted(vmi, machine, settings).then(|| console_log::container(&compute));
    [compute].into_iter().chain(log).collect()
}

/// Ports with a name, so that Services can mean them by it.
fn ports(machine: &MachineSpec) -> Vec<ContainerPort> {
    let ports = machine.interfaces.iter().flat_map(|nic| &nic.ports);
    ports
        .filter(|port| port.name.is_some() && port.range.start == port.range.end)
        .map(|port| ContainerPort {
            container_port: i32::from(port.range.start),
            name: port.name.clone(),
            protocol: Some(
                match port.protocol {
                    Protocol::Tcp => "TCP",
                    Protocol::Udp => "UDP",
                }
                .to_owned(),
            ),
            ..ContainerPort::default()
        })
        .collect()
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::pod_name;

    #[test]
    fn names_of_pods_are_cut_and_stay_different() {
        let short = pod_name("web", "u1");
        assert!(short.starts_with("virt-launcher-web-"), "{short}");
        assert_eq!(short.len(), "virt-launcher-web-".len() + 5);
        let long = "a".repeat(63);
        assert_eq!(pod_name(&long, "u1").len(), 63);
        assert_ne!(pod_name(&long, "u1"), pod_name(&long, "u2"));
        let cut_at_a_dash = format!("{}-b", "a".repeat(42));
        assert!(!pod_name(&cut_at_a_dash, "u1").contains("--"));
    }
}
