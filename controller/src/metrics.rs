//! `/metrics` with the peer's names, so that its dashboards and alerts work. What is counted over objects comes from the leader's caches at
//! the moment of the scrape; there are no labels with names of objects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use catamaran_api::VirtualMachineInstance;
use catamaran_baremetal::HostMetrics;
use kube::ResourceExt;
use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::kubevirt::components::Component;
use crate::nodes::Found;
use crate::world::World;

/// Kinds of errors of a reconciliation.
pub const CATEGORIES: [&str; 4] = ["conflict", "refused", "api", "object"];

/// The controller's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// The API server has answered.
    ready: IntGauge,
    /// This replica reconciles.
    leading: IntGauge,
    /// Nodes that take machines, and those whose KVM works.
    nodes: [IntGauge; 2],
    durations: HistogramVec,
    errors: IntCounterVec,
    hosts: HostMetrics,
    world: Arc<Mutex<Weak<World>>>,
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let ready = IntGauge::new(
            "kubevirt_virt_controller_ready_status",
            "Whether the controller has reached the API server",
        )?;
        let leading = IntGauge::new(
            "kubevirt_virt_controller_leading_status",
            "Whether this replica holds the lease and reconciles",
        )?;
        let nodes = [
            IntGauge::new(
                "kubevirt_allocatable_nodes",
                "Nodes that take machines, as the replica that leads has seen them",
            )?,
            IntGauge::new(
                "kubevirt_nodes_with_kvm",
                "Nodes whose KVM works, as the replica that leads has seen them",
            )?,
        ];
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "catamaran_reconcile_duration_seconds",
                "Time of one reconciliation",
            )
            .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            &["reconciler"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "catamaran_reconcile_errors_total",
                "Reconciliations that failed and are tried again; a conflict is a write by somebody else in between",
            ),
            &["reconciler", "category"],
        )?;
        registry.register(Box::new(ready.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        for gauge in &nodes {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        let hosts = HostMetrics::new(&registry)?;
        Ok(Self {
            registry,
            ready,
            leading,
            nodes,
            durations,
            errors,
            hosts,
            world: Arc::default(),
        })
    }

    /// The API server has answered.
    pub fn ready(&self) {
        self.ready.set(1);
    }

    /// Whether the API server has answered.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.get() == 1
    }

    /// This replica begins to reconcile that world.
    pub fn leads(&self, world: &Arc<World>) {
        self.leading.set(1);
        *self.world.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(world);
    }

    /// A reconciler begins: its errors are counted from nought, so that the first one shows.
    pub fn begins(&self, reconciler: &str) {
        for category in CATEGORIES {
            self.errors.with_label_values(&[reconciler, category]);
        }
    }

    /// What the leader has seen of the nodes.
    pub fn nodes(&self, found: &[Found]) {
        let [schedulable, kvm] = &self.nodes;
        let count = |holds: fn(&Found) -> bool| {
            i64::try_from(found.iter().filter(|node| holds(node)).count()).unwrap_or(i64::MAX)
        };
        schedulable.set(count(|node| node.schedulable));
        kvm.set(count(|node| node.kvm));
    }

    /// What is counted over servers.
    #[must_use]
    pub fn hosts(&self) -> &HostMetrics {
        &self.hosts
    }

    /// One reconciliation is over; `error`: the category of its error.
    pub fn reconciled(&self, reconciler: &str, took: Duration, error: Option<&str>) {
        self.durations
            .with_label_values(&[reconciler])
            .observe(took.as_secs_f64());
        if let Some(category) = error {
            self.errors.with_label_values(&[reconciler, category]).inc();
        }
    }

    /// The exposition format.
    ///
    /// # Errors
    /// When a metric can't be written as text.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = world.upgrade() {
            let namespaces = world.machines.each(ResourceExt::namespace);
            let places = world.instances.each(|instance| Some(place(instance)));
            families.extend(counted(namespaces, places)?.gather());
            let daemons = world.daemons.all();
            families.extend(components(daemons.iter().map(Component::from))?.gather());
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

/// Node and phase of an instance.
fn place(instance: &VirtualMachineInstance) -> (String, String) {
    let status = instance.status.as_ref();
    let node = status.and_then(|status| status.node_name.clone());
    let phase = status.and_then(|status| status.phase.as_deref());
    (
        node.unwrap_or_default(),
        phase.unwrap_or_default().to_lowercase(),
    )
}

/// Machines by namespace, instances by phase and node.
fn counted(
    machines: Vec<String>,
    instances: Vec<(String, String)>,
) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let by_namespace = GaugeVec::new(
        Opts::new(
            "kubevirt_number_of_vms",
            "VirtualMachines in each namespace",
        ),
        &["namespace"],
    )?;
    let by_phase = GaugeVec::new(
        Opts::new(
            "kubevirt_vmi_phase_count",
            "VirtualMachineInstances in each phase on each node",
        ),
        &["node", "phase"],
    )?;
    registry.register(Box::new(by_namespace.clone()))?;
    registry.register(Box::new(by_phase.clone()))?;
    for namespace in machines {
        by_namespace.with_label_values(&[&namespace]).inc();
    }
    let mut phases: BTreeMap<(String, String), f64> = BTreeMap::new();
    for place in instances {
        *phases.entry(place).or_default() += 1.0;
    }
    for ((node, phase), count) in phases {
        by_phase.with_label_values(&[&node, &phase]).set(count);
    }
    Ok(registry)
}

/// How many node daemons there should be, and how many are there.
fn components(daemons: impl Iterator<Item = Component>) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let desired = gauge(
        "catamaran_node_daemons_desired",
        "Nodes that should run a daemon",
    )?;
    let updated = gauge(
        "catamaran_node_daemons_updated",
        "Nodes whose daemon is of the wanted version",
    )?;
    let available = gauge(
        "catamaran_node_daemons_available",
        "Nodes whose daemon is available",
    )?;
    for component in daemons {
        desired.add(component.desired.into());
        updated.add(component.updated.into());
        available.add(component.available.into());
    }
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn instances_are_counted_by_phase_and_node() {
        let vmi = |phase: &str| {
            serde_json::from_value(json!({
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "a"},
                "spec": {"domain": {"devices": {}}}, "status": {"phase": phase, "nodeName": "n1"},
            }))
            .unwrap()
        };
        let machines = ["shop", "shop", "lab"].map(str::to_owned);
        let registry = counted(
            machines.into(),
            ["Running", "Running", "Failed"]
                .map(|phase| place(&vmi(phase)))
                .into(),
        )
        .unwrap();
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&registry.gather(), &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains("kubevirt_number_of_vms{namespace=\"shop\"} 2"),
            "{text}"
        );
        assert!(
            text.contains("kubevirt_vmi_phase_count{node=\"n1\",phase=\"running\"} 2"),
            "{text}"
        );
    }

    #[test]
    fn errors_and_times_are_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.ready();
        metrics.begins("machine");
        metrics.reconciled("machine", Duration::from_millis(3), Some("conflict"));
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        assert!(metrics.is_ready());
        assert!(
            text.contains(
                "catamaran_reconcile_errors_total{category=\"conflict\",reconciler=\"machine\"} 1"
            ),
            "{text}"
        );
        let none = "catamaran_reconcile_errors_total{category=\"api\",reconciler=\"machine\"} 0";
        assert!(text.contains(none), "{text}");
        assert!(text.contains("kubevirt_virt_controller_leading_status 0"));
    }
}
