//! Metrics with the peer's names; no labels with names of hosts.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// What is counted over all hosts.
#[derive(Debug, Clone)]
pub struct HostMetrics {
    pub(crate) reconciled: IntCounter,
    pub(crate) errors: IntCounterVec,
    pub(crate) power: IntCounterVec,
    pub(crate) changes: IntCounterVec,
    pub(crate) durations: HistogramVec,
    pub(crate) missing: IntCounter,
    pub(crate) invalid: IntCounter,
    pub(crate) overdue: IntCounterVec,
    pub(crate) not_deprovisioned: IntCounter,
    pub(crate) not_powered_off: IntCounter,
    pub(crate) fences: IntCounterVec,
}

impl HostMetrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// When the registry has a metric of one of the names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let durations = HistogramVec::new(
            HistogramOpts::new(
                "metal3_operation_duration_seconds",
                "Time of an operation, from entering its state to leaving it",
            )
            .buckets(vec![1.0, 5.0, 20.0, 60.0, 300.0, 1200.0, 3600.0]),
            &["operation"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            reconciled: counter("metal3_reconcile_total", "Looks at hosts")?,
            errors: counters(
                "metal3_host_error_total",
                "Failures of hosts",
                &["error_type"],
            )?,
            power: counters(
                "metal3_operation_power_change_total",
                "Power changes that were made and read back",
                &["on_off"],
            )?,
            changes: counters(
                "metal3_provisioning_state_change_total",
                "Changes of state",
                &["prev_state", "new_state"],
            )?,
            durations,
            missing: counter(
                "metal3_credentials_missing_total",
                "Looks at hosts whose credentials are not there or not complete",
            )?,
            invalid: counter(
                "metal3_credentials_invalid_total",
                "Credentials that a BMC refused",
            )?,
            overdue: counters(
                "metal3_host_overdue_total",
                "Looks at hosts that have been in a state for longer than it may take",
                &["state"],
            )?,
            not_deprovisioned: counter(
                "metal3_delete_without_deprovisioning_total",
                "Hosts that were deleted without ending their use",
            )?,
            not_powered_off: counter(
                "metal3_delete_without_powering_off_total",
                "Hosts that were deleted without being turned off",
            )?,
            fences: counters(
                "metal3_fence_total",
                "Hosts that were to be fenced, by what came of it",
                &["result"],
            )?,
        })
    }
}
