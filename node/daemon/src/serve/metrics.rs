//! `/metrics` with the peer's names, so that its dashboards and alerts work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use catamaran_lifecycle::Phase;
use catamaran_wire::Statistics;
use prometheus::{Encoder as _, GaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::machine::launcher::Launcher;
use crate::machine::status::phase_of;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// Longest wait for one machine's counters; a slow one is left out of this scrape.
const ANSWER: Duration = Duration::from_secs(5);
/// Labels of every machine's metrics.
const MACHINE: [&str; 3] = ["node", "namespace", "name"];

/// Listens.
///
/// # Errors
/// When the address is in use.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("metrics address {address} (--metrics names another)"))
}

/// Serves for ever.
pub async fn serve(daemon: Arc<Daemon>, listener: TcpListener) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(daemon);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(error = %error, "metrics are not served any more");
    }
}

async fn scrape(State(daemon): State<Arc<Daemon>>) -> Response {
    match text(&daemon).await {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )
            .into_response(),
    }
}

async fn text(daemon: &Daemon) -> Result<Vec<u8>, prometheus::Error> {
    let node = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let instances = daemon.store.list(Kind::VirtualMachineInstance).into_iter();
    let machines = daemon.store.list(Kind::VirtualMachine).into_iter();
    let found = Found {
        instances: instances
            .map(|(key, stored)| (key, phase_of(&stored.object)))
            .collect(),
        machines: machines.map(|(key, _)| key).collect(),
        launchers: daemon.machines.all(),
    };
    render(&node, found).await
}

/// What a page is made of.
#[derive(Debug, Default)]
pub struct Found {
    /// Instances of this node and their phases.
    pub instances: Vec<(Key, Phase)>,
    /// Machines, where this daemon keeps them.
    pub machines: Vec<Key>,
    /// Launchers of running machines.
    pub launchers: Vec<(Key, Launcher)>,
}

/// One page, made anew at each scrape: counters are the guests' own, and a machine that is gone leaves nothing behind.
///
/// # Errors
/// Never, as long as the names of the metrics are right.
pub async fn render(node: &str, found: Found) -> Result<Vec<u8>, prometheus::Error> {
    let page = Page::new()?;
    let info = page.family(
        "kubevirt_info",
        "Version information.",
        &["goversion", "kubeversion"],
    )?;
    info.with_label_values(&["", concat!("catamaran-v", env!("CARGO_PKG_VERSION"))])
        .set(1.0);
    let phases = page.family(
        "kubevirt_vmi_phase_count",
        "Sum of VMIs per phase and node.",
        &["node", "phase"],
    )?;
    let infos = page.family(
        "kubevirt_vmi_info",
        "Information about VirtualMachineInstances.",
        &["node", "namespace", "name", "phase"],
    )?;
    for (key, phase) in found.instances {
        let phase = phase.as_str().to_lowercase();
        phases.with_label_values(&[node, &phase]).inc();
        infos
            .with_label_values(&[node, &key.namespace, &key.name, &phase])
            .set(1.0);
    }
    let machines = page.family(
        "kubevirt_number_of_vms",
        "The number of VMs by namespace.",
        &["namespace"],
    )?;
    for key in found.machines {
        machines.with_label_values(&[key.namespace.as_str()]).inc();
    }
    let asked = found
        .launchers
        .into_iter()
        .map(|(key, launcher)| async move {
            let answer = tokio::time::timeout(ANSWER, launcher.statistics()).await;
            Some((key, answer.ok()?.ok()?))
        });
    for (key, statistics) in futures::future::join_all(asked).await.into_iter().flatten() {
        page.machine(&[node, &key.namespace, &key.name], &statistics)?;
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.registry.gather(), &mut text)?;
    Ok(text)
}

/// A page under construction.
struct Page {
    registry: Registry,
    families: std::sync::Mutex<std::collections::BTreeMap<String, GaugeVec>>,
}

impl Page {
    fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            registry: Registry::new(),
            families: std::sync::Mutex::default(),
        })
    }

    fn family(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        let mut families = self
            .families
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(family) = families.get(name) {
            return Ok(family.clone());
        }
        let family = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(family.clone()))?;
        families.insert(name.to_owned(), family.clone());
        Ok(family)
    }

    fn set(
        &self,
        name: &str,
        help: &str,
        machine: &[&str; 3],
        more: &[(&str, &str)],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        let labels: Vec<&str> = MACHINE
            .iter()
            .copied()
            .chain(more.iter().map(|(label, _)| *label))
            .collect();
        let values: Vec<&str> = machine
            .iter()
            .copied()
            .chain(more.iter().map(|(_, value)| *value))
            .collect();
        self.family(name, help, &labels)?
            .with_label_values(&values)
            .set(value);
        Ok(())
    }

    fn machine(
        &self,
        machine: &[&str; 3],
        statistics: &Statistics,
    ) -> Result<(), prometheus::Error> {
        self.cpu(machine, statistics)?;
        self.memory(machine, statistics)?;
        self.network(machine, statistics)?;
        self.storage(machine, statistics)
    }

    fn cpu(&self, machine: &[&str; 3], statistics: &Statistics) -> Result<(), prometheus::Error> {
        self.set(
            "kubevirt_vmi_cpu_usage_seconds_total",
            "Total CPU time spent in all modes (sum of both vcpu and hypervisor usage).",
            machine,
            &[],
            statistics.cpu_seconds,
        )?;
        self.set(
            "kubevirt_vmi_cpu_user_usage_seconds_total",
            "Total CPU time spent in user mode.",
            machine,
            &[],
            statistics.cpu_user_seconds,
        )?;
        self.set(
            "kubevirt_vmi_cpu_system_usage_seconds_total",
            "Total CPU time spent in system mode.",
            machine,
            &[],
            statistics.cpu_system_seconds,
        )?;
        for vcpu in &statistics.vcpus {
            let id = vcpu.id.to_string();
            let label = [("id", id.as_str())];
            self.set(
                "kubevirt_vmi_vcpu_seconds_total",
                "Total amount of time spent by the vcpu.",
                machine,
                &label,
                vcpu.seconds,
            )?;
            self.set(
                "kubevirt_vmi_vcpu_wait_seconds_total",
                "Amount of time spent by each vcpu while waiting on I/O.",
                machine,
                &label,
                vcpu.wait_seconds,
            )?;
            self.set(
                "kubevirt_vmi_vcpu_delay_seconds_total",
                "Amount of time spent by each vcpu waiting in the queue instead of running.",
                machine,
                &label,
                vcpu.delay_seconds,
            )?;
        }
        Ok(())
    }

    fn memory(
        &self,
        machine: &[&str; 3],
        statistics: &Statistics,
    ) -> Result<(), prometheus::Error> {
        let memory = &statistics.memory;
        let used = memory
            .available
            .zip(memory.unused)
            .map(|(available, unused)| available.saturating_sub(unused));
        let figures = [
            (
                "kubevirt_vmi_memory_actual_balloon_bytes",
                "Current balloon size in bytes.",
                memory.actual,
            ),
            (
                "kubevirt_vmi_memory_available_bytes",
                "Amount of usable memory as seen by the domain.",
                memory.available,
            ),
            (
                "kubevirt_vmi_memory_unused_bytes",
                "The amount of memory left completely unused by the system.",
                memory.unused,
            ),
            (
                "kubevirt_vmi_memory_usable_bytes",
                "The amount of memory which can be reclaimed by balloon without pushing the guest system to swap.",
                memory.usable,
            ),
            (
                "kubevirt_vmi_memory_used_bytes",
                "Amount of used memory as seen by the domain.",
                used,
            ),
            (
                "kubevirt_vmi_memory_resident_bytes",
                "Resident set size of the process running the domain.",
                memory.resident,
            ),
            (
                "kubevirt_vmi_memory_domain_bytes",
                "The amount of memory in bytes allocated to the domain.",
                memory.domain,
            ),
            (
                "kubevirt_vmi_memory_cached_bytes",
                "The amount of memory that is being used to cache I/O and is available to be reclaimed.",
                memory.cached,
            ),
            (
                "kubevirt_vmi_memory_swap_in_traffic_bytes",
                "The total amount of data read from swap space of the guest.",
                memory.swap_in,
            ),
            (
                "kubevirt_vmi_memory_swap_out_traffic_bytes",
                "The total amount of memory written out to swap space of the guest.",
                memory.swap_out,
            ),
            (
                "kubevirt_vmi_memory_pgmajfault_total",
                "The number of page faults when disk IO was required.",
                memory.major_faults,
            ),
            (
                "kubevirt_vmi_memory_pgminfault_total",
                "The number of other page faults, when disk IO was not required.",
                memory.minor_faults,
            ),
        ];
        for (name, help, value) in figures {
            if let Some(value) = value {
                self.set(name, help, machine, &[], float(value))?;
            }
        }
        Ok(())
    }

    fn network(
        &self,
        machine: &[&str; 3],
        statistics: &Statistics,
    ) -> Result<(), prometheus::Error> {
        for network in &statistics.networks {
            let label = [(
                "interface",
                if network.name.is_empty() {
                    network.device.as_str()
                } else {
                    network.name.as_str()
                },
            )];
            for (direction, counters) in
                [("receive", network.receive), ("transmit", network.transmit)]
            {
                for (what, value) in ["bytes", "packets", "errors", "packets_dropped"]
                    .into_iter()
                    .zip(counters)
                {
                    let name = format!("kubevirt_vmi_network_{direction}_{what}_total");
                    self.set(
                        &name,
                        &format!("Total network {direction} {what}."),
                        machine,
                        &label,
                        float(value),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn storage(
        &self,
        machine: &[&str; 3],
        statistics: &Statistics,
    ) -> Result<(), prometheus::Error> {
        const NANOSECONDS: f64 = 1e9;
        for disk in &statistics.disks {
            let label = [(
                "drive",
                if disk.name.is_empty() {
                    disk.target.as_str()
                } else {
                    disk.name.as_str()
                },
            )];
            for (direction, [requests, bytes, nanoseconds]) in
                [("read", disk.read), ("write", disk.write)]
            {
                self.set(
                    &format!("kubevirt_vmi_storage_iops_{direction}_total"),
                    &format!("Total number of I/O {direction} operations."),
                    machine,
                    &label,
                    float(requests),
                )?;
                self.set(
                    &format!("kubevirt_vmi_storage_{direction}_traffic_bytes_total"),
                    &format!("Total number of bytes of {direction} operations."),
                    machine,
                    &label,
                    float(bytes),
                )?;
                self.set(
                    &format!("kubevirt_vmi_storage_{direction}_times_seconds_total"),
                    &format!("Total time spent on {direction} operations."),
                    machine,
                    &label,
                    float(nanoseconds) / NANOSECONDS,
                )?;
            }
            self.set(
                "kubevirt_vmi_storage_flush_requests_total",
                "Total storage flush requests.",
                machine,
                &label,
                float(disk.flush[0]),
            )?;
            self.set(
                "kubevirt_vmi_storage_flush_times_seconds_total",
                "Total time spent on cache flushing.",
                machine,
                &label,
                float(disk.flush[1]) / NANOSECONDS,
            )?;
        }
        Ok(())
    }
}

/// Counters above 2^53 lose their last digits, as everywhere in Prometheus.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has floats only")]
fn float(value: u64) -> f64 {
    value as f64
}
