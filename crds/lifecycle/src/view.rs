//! What is known about a machine and its instance, reduced to what decisions need.

use catamaran_api::{VirtualMachine, VirtualMachineInstance};

use crate::back_off::BackOff;
use crate::phase::Phase;
use crate::request::StateChangeRequest;
use crate::strategy::{RunStrategy, UnknownRunStrategy};
use crate::time::{Seconds, from_time};

/// A `VirtualMachine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmView {
    /// What the spec asks for.
    pub run_strategy: RunStrategy,
    /// The object is being deleted.
    pub deleting: bool,
    /// Digest of the template; a changed one clears the back-off.
    pub spec_digest: String,
    /// Verbs that wait.
    pub requests: Vec<StateChangeRequest>,
    /// `status.runStrategy`: the strategy when the last instance was made.
    pub observed_run_strategy: Option<RunStrategy>,
    /// Failed runs in a row.
    pub back_off: BackOff,
}

impl VmView {
    /// From the stored object. The back-off is the shell's record, since the peer's status has no room for the digest.
    ///
    /// # Errors
    /// A run strategy that nobody knows.
    pub fn of(
        vm: &VirtualMachine,
        spec_digest: &str,
        back_off: BackOff,
    ) -> Result<Self, UnknownRunStrategy> {
        let status = vm.status.as_ref();
        Ok(Self {
            run_strategy: RunStrategy::of(&vm.spec)?,
            deleting: vm.metadata.deletion_timestamp.is_some(),
            spec_digest: spec_digest.to_owned(),
            requests: status
                .map(|s| {
                    s.state_change_requests
                        .iter()
                        .filter_map(StateChangeRequest::from_wire)
                        .collect()
                })
                .unwrap_or_default(),
            observed_run_strategy: status
                .and_then(|s| s.run_strategy.as_deref())
                .and_then(|word| RunStrategy::parse(word).ok()),
            back_off,
        })
    }
}

/// A `VirtualMachineInstance`. It exists until its run is proved dead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmiView {
    /// UID of the run.
    pub uid: String,
    /// Phase.
    pub phase: Phase,
    /// It has been asked to go.
    pub deleting: bool,
    /// When it became Running.
    pub running_since: Option<Seconds>,
    /// When it became Succeeded or Failed.
    pub ended_at: Option<Seconds>,
    /// The guest is paused.
    pub paused: bool,
    /// Reason of `Synchronized=False`.
    pub sync_failure: Option<String>,
    /// No node takes it.
    pub unschedulable: bool,
    /// It is ended from outside, such as by a drain of its node: it has not failed.
    pub evicted: bool,
    /// On its way to another node.
    pub migrating: bool,
    /// The guest agent answers.
    pub agent_connected: bool,
    /// ACPI is on.
    pub acpi: bool,
    /// A liveness probe other than the agent's ping is set.
    pub liveness_probe: bool,
    /// Seconds between the power button and the kill.
    pub grace_seconds: u32,
}

impl VmiView {
    /// From the stored object.
    #[must_use]
    pub fn of(vmi: &VirtualMachineInstance) -> Self {
        let empty = catamaran_api::VirtualMachineInstanceStatus::default();
        let status = vmi.status.as_ref().unwrap_or(&empty);
        let condition = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind);
        let is_true = |kind: &str| condition(kind).is_some_and(|c| c.status == "True");
        let false_reason = |kind: &str| {
            condition(kind)
                .filter(|c| c.status == "False")
                .and_then(|c| c.reason.clone())
        };
        let entered = |wanted: fn(Phase) -> bool| {
            let mut times = status.phase_transition_timestamps.iter();
            let found = times.find(|t| wanted(Phase::parse(t.phase.as_deref())));
            found
                .and_then(|t| t.phase_transition_timestamp.as_ref())
                .map(from_time)
        };
        let acpi = vmi
            .spec
            .domain
            .features
            .as_ref()
            .and_then(|f| f.acpi.as_ref());
        Self {
            uid: vmi.metadata.uid.clone().unwrap_or_default(),
            phase: Phase::parse(status.phase.as_deref()),
            deleting: vmi.metadata.deletion_timestamp.is_some(),
            running_since: entered(|p| p == Phase::Running),
            ended_at: entered(Phase::is_final),
            paused: is_true("Paused"),
            sync_failure: false_reason("Synchronized"),
            unschedulable: false_reason("PodScheduled").as_deref() == Some("Unschedulable"),
            evicted: is_true("EvictionRequested"),
            migrating: false,
            agent_connected: is_true("AgentConnected"),
            acpi: acpi.is_none_or(|a| a.enabled.unwrap_or(true)),
            liveness_probe: vmi
                .spec
                .liveness_probe
                .as_ref()
                .is_some_and(|p| p.guest_agent_ping.is_none()),
            grace_seconds: vmi
                .spec
                .termination_grace_period_seconds
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(30),
        }
    }

    /// Neither over nor asked to go.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.phase.is_final() && !self.deleting
    }
}
