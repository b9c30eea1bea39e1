//! Pods: stored objects on one side, the container runtime on the other.

mod ending;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catamaran_containers::pod::Port;
use catamaran_containers::{
    ImageSources, NodeDns, Objects, PodKey, PodSpec, PodStatusSummary, PodsOptions, PrivateOptions,
    Runtime, RuntimeOptions,
};
use catamaran_network::{HostNetwork, HostPort, Owner, OwnerKind, PortTarget, Protocol, cni};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use crate::serve::daemon::{Daemon, Shutdown};
use crate::serve::layout::Layout;
use crate::serve::store::{Key, Kind, Store, Stored};
use crate::serve::time;
use ending::{End, Ending};

/// Pause after the runtime did not answer.
const RETRY: Duration = Duration::from_secs(2);
/// Grace period where a Pod names none, seconds (Kubernetes' default).
const GRACE: u64 = 30;

/// The pods of this machine.
pub struct Pods {
    /// The crate that does the work.
    pub runtime: catamaran_containers::Pods,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pods({})", self.runtime.runtime().name())
    }
}

/// What was asked for about containers.
#[derive(Debug, Clone)]
pub struct ContainerSettings {
    /// CRI socket, or the word `private`.
    pub socket: Option<PathBuf>,
    /// OCI layouts looked at first.
    pub layouts: Vec<PathBuf>,
}

/// Stored ConfigMaps and Secrets, and the host ports of machines.
struct Stores {
    store: Arc<Store>,
    network: HostNetwork,
}

impl Objects for Stores {
    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap> {
        self.store
            .get(&Key::new(Kind::ConfigMap, namespace, name))?
            .typed()
            .ok()
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.store
            .get(&Key::new(Kind::Secret, namespace, name))?
            .typed()
            .ok()
    }

    fn host_port_holder(&self, port: &Port) -> Option<String> {
        let wanted = host_port(port)?;
        // Records that can't be read are told when the port is led.
        let taken = self.network.host_ports().unwrap_or_default();
        taken
            .into_iter()
            .find(|(owner, from, _)| owner.kind == OwnerKind::Machine && from.overlaps(&wanted))
            .map(|(owner, ..)| owner.to_string())
    }
}

/// What an entry of a Pod's ports asks of the host.
fn host_port(port: &Port) -> Option<HostPort> {
    let protocol = match port.protocol {
        catamaran_containers::pod::Protocol::Udp => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    Some(HostPort {
        ip: port.host_ip,
        port: port.host_port?,
        protocol,
    })
}

/// Finds a container runtime, or starts a private one.
///
/// # Errors
/// A sentence for people: virtual machines run without one.
pub async fn connect(
    layout: &Layout,
    settings: &ContainerSettings,
    network: &HostNetwork,
    store: Arc<Store>,
) -> Result<Pods, String> {
    let cni_conf = layout.network().join("cni.d");
    cni::write_conflist(network.config(), &cni_conf)
        .map_err(|error| catamaran_client::chain(&error))?;
    let mut options = RuntimeOptions::new(PrivateOptions::new(
        layout.containers().join("runtime"),
        cni_conf,
    ));
    match &settings.socket {
        // A runtime that serves others may have no network set up, or one that machines are not on.
        Some(word) if word.as_os_str() == "private" => options.known.clear(),
        other => options.socket.clone_from(other),
    }
    // A private one is tried only where none is named: two runtimes on one machine would both be ours to keep.
    let runtime = Runtime::connect(options)
        .await
        .map_err(|error| catamaran_client::chain(&error))?;
    let images = ImageSources {
        layouts: settings.layouts.clone(),
        auth_files: catamaran_images::AuthFiles::from_environment()
            .paths()
            .to_vec(),
    };
    let gateways = network.config().gateways();
    let options = PodsOptions {
        folder: layout.containers().join("pods"),
        images,
        dns: NodeDns {
            servers: gateways.clone(),
            zone: network.config().zone.clone(),
        },
        node_name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        host_ips: gateways,
        port_mappings: false,
    };
    let network = network.clone();
    let objects = Stores { store, network };
    let runtime = catamaran_containers::Pods::new(runtime, options, Arc::new(objects))
        .map_err(|error| catamaran_client::chain(&error))?;
    Ok(Pods { runtime })
}

/// Checks a manifest: all problems, or the warnings.
///
/// # Errors
/// Every problem with its field.
pub fn check(object: &Value) -> Result<Vec<String>, Vec<String>> {
    match PodSpec::parse(object) {
        Ok((_, warnings)) => Ok(warnings.iter().map(ToString::to_string).collect()),
        Err(invalid) => Err(invalid.problems.iter().map(ToString::to_string).collect()),
    }
}

/// Brings the runtime to what is stored, at each change of either. Ends when all pods are down and the daemon is to stop.
pub async fn supervise(daemon: Arc<Daemon>) {
    let Ok(pods) = &daemon.pods else {
        no_runtime(&daemon).await;
        return;
    };
    let (mut stored, mut seen, mut stopping) = (
        daemon.store.subscribe(),
        pods.runtime.changes(),
        daemon.stopping(),
    );
    let mut ending = Ending::default();
    loop {
        stored.borrow_and_update();
        seen.borrow_and_update();
        let down = *stopping.borrow_and_update();
        let again = match pass(&daemon, pods, &mut ending, down).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(error = catamaran_client::chain(&error), "container runtime");
                Some(RETRY)
            }
        };
        if let Some(how) = down
            && again.is_none()
            && ending.is_idle()
        {
            if how.delete {
                for (key, _) in daemon.store.list(Kind::Pod) {
                    let _ = daemon.store.remove(&key);
                }
            }
            pods.runtime.runtime().shutdown().await;
            return;
        }
        tokio::select! {
            _ = stored.changed() => {}
            _ = seen.changed() => {}
            _ = stopping.changed() => {}
            () = ending.next() => {}
            () = tokio::time::sleep(again.unwrap_or(Duration::from_secs(3600))) => {}
        }
    }
}

/// Without a runtime, pods say so.
async fn no_runtime(daemon: &Daemon) {
    let (mut stored, mut stopping) = (daemon.store.subscribe(), daemon.stopping());
    while stopping.borrow_and_update().is_none() {
        stored.borrow_and_update();
        let Err(reason) = &daemon.pods else { return };
        for (key, pod) in daemon.store.list(Kind::Pod) {
            if pod.deleting() {
                let _ = daemon.store.remove(&key);
                continue;
            }
            let told = daemon.store.edit(&key, |object| object["status"] = serde_json::json!({"phase": "Pending", "reason": "NoContainerRuntime", "message": reason}));
            if told.unwrap_or(false) {
                daemon
                    .events
                    .warning(&key, "NoContainerRuntime", reason.clone());
            }
        }
        tokio::select! {
            _ = stored.changed() => {}
            _ = stopping.changed() => {}
        }
    }
}

/// One look at everything. Returns when to look again; `None` = when something changes.
async fn pass(
    daemon: &Arc<Daemon>,
    pods: &Pods,
    ending: &mut Ending,
    down: Option<Shutdown>,
) -> Result<Option<Duration>, catamaran_containers::Error> {
    let mut again: Option<Duration> = None;
    let mut known = BTreeSet::new();
    for (key, stored) in daemon.store.list(Kind::Pod) {
        let pod_key = PodKey::new(&key.namespace, &key.name);
        let grace = Duration::from_secs(
            stored.object["spec"]["terminationGracePeriodSeconds"]
                .as_u64()
                .unwrap_or(GRACE),
        );
        known.insert(pod_key.clone());
        let end = match down {
            _ if stored.deleting() => Some(End::Deleted),
            Some(how) if how.delete => Some(End::Cleared),
            Some(_) => Some(End::Stopped),
            None => None,
        };
        if let Some(end) = end {
            ending.start(daemon, &pod_key, end, grace);
            continue;
        }
        // One of the same name may have been applied while the old one still goes.
        if ending.has(&pod_key) {
            continue;
        }
        let Ok((spec, _)) = PodSpec::parse(&stored.object) else {
            continue;
        };
        let summary = match pods.runtime.reconcile(&spec).await {
            Ok(summary) => summary,
            Err(error) => {
                // The others do not wait for it.
                let error = catamaran_client::chain(&error);
                tracing::warn!(pod = %key, error, "container runtime");
                again = Some(again.map_or(RETRY, |again| again.min(RETRY)));
                continue;
            }
        };
        expose(daemon, &key, &spec, &summary).await;
        publish(daemon, &key, &stored, &summary);
        if let Some(at) = summary.look_again {
            let left = at.duration_since(k8s_openapi::jiff::Timestamp::now());
            let left = Duration::try_from(left)
                .unwrap_or(Duration::ZERO)
                .max(Duration::from_millis(100));
            again = Some(again.map_or(left, |again| again.min(left)));
        }
    }
    // Pods whose object is gone: their teardown was cut off.
    for orphan in pods.runtime.list().await? {
        if !known.contains(&orphan) {
            ending.start(daemon, &orphan, End::Orphaned, Duration::from_secs(GRACE));
        }
    }
    Ok(again)
}

/// Leads the host ports of a pod that has its addresses. One that is taken is told, and the pod runs without it.
async fn expose(daemon: &Daemon, key: &Key, spec: &PodSpec, summary: &PodStatusSummary) {
    let addresses: Vec<IpAddr> = summary
        .pod_ips
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect();
    let Some(owner) = owner(key).filter(|_| !addresses.is_empty()) else {
        return;
    };
    for port in spec.host_ports() {
        let Some(from) = host_port(port) else {
            continue;
        };
        let to = PortTarget::of(&addresses, port.container_port);
        if let Err(error) = daemon.network.expose(&owner, from, to).await {
            daemon
                .events
                .warning(key, "HostPortNotExposed", catamaran_client::chain(&error));
        }
    }
}

/// A pod as the owner of host ports.
fn owner(key: &Key) -> Option<Owner> {
    let key = catamaran_network::Key::new(key.namespace.as_str(), key.name.as_str());
    key.ok().map(Owner::pod)
}

async fn unexpose(daemon: &Daemon, key: &Key) {
    let Some(owner) = owner(key) else {
        return;
    };
    if let Err(error) = daemon.network.unexpose_all(&owner).await {
        daemon
            .events
            .warning(key, "HostPortNotFreed", catamaran_client::chain(&error));
    }
}

fn publish(daemon: &Daemon, key: &Key, stored: &Stored, summary: &PodStatusSummary) {
    let Ok(status) = serde_json::to_value(summary.to_wire()) else {
        return;
    };
    let before = stored.object["status"]["phase"].clone();
    if daemon
        .store
        .edit(key, |object| object["status"] = status.clone())
        .is_err()
    {
        return;
    }
    if before != status["phase"] {
        let phase = status["phase"].as_str().unwrap_or_default();
        daemon
            .events
            .normal(key, phase, format!("Pod is {phase} since {}", time::now()));
    }
    if let (Some(reason), Some(message)) = (&summary.reason, &summary.message)
        && stored.object["status"]["message"] != *message
    {
        daemon.events.warning(key, reason, message.clone());
    }
}

/// Addresses of a pod.
#[must_use]
pub fn addresses(object: &Value) -> Vec<IpAddr> {
    crate::serve::summary::addresses(object)
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect()
}
