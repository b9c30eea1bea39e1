//! The whole status of a machine, from what was decided.

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};

use crate::conditions::{machine_conditions, restart_required};
use crate::decide::Decision;
use crate::printable::{PrintableFacts, VolumeProblem, printable_status};
use crate::request::StateChangeRequest;
use crate::time::Seconds;
use crate::view::{VmView, VmiView};

/// What the status is made of.
#[derive(Debug, Clone, Copy)]
pub struct StatusInput<'a> {
    /// The machine with its last status.
    pub vm: &'a VirtualMachine,
    /// Its view.
    pub view: &'a VmView,
    /// Its instance.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// What was decided.
    pub decision: &'a Decision,
    /// (reason, message) of the error that keeps the machine from what its spec asks.
    pub failure: Option<(&'a str, &'a str)>,
    /// What is wrong with its volumes.
    pub volumes: Option<VolumeProblem>,
    /// The instance runs with an older template.
    pub restart_required: bool,
    /// Generation that the instance was made from.
    pub observed_generation: Option<i64>,
}

/// The status to store.
#[must_use]
pub fn machine_status(input: &StatusInput<'_>, now: Seconds) -> VirtualMachineStatus {
    let previous = input.vm.status.clone().unwrap_or_default();
    let mut conditions = machine_conditions(&previous.conditions, input.vmi, input.failure, now);
    restart_required(
        &mut conditions,
        input.restart_required && input.vmi.is_some(),
        now,
    );
    let view = VmView {
        requests: input.decision.requests.clone(),
        back_off: input.decision.back_off.clone(),
        ..input.view.clone()
    };
    let facts = PrintableFacts {
        volumes: input.volumes,
        ..PrintableFacts::of(input.decision)
    };
    let ready = conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    VirtualMachineStatus {
        conditions,
        // False is left out, as by the peer: its clients wait for the field to go.
        created: input.vmi.is_some().then_some(true),
        desired_generation: input.vm.metadata.generation,
        instancetype_ref: previous.instancetype_ref,
        preference_ref: previous.preference_ref,
        observed_generation: input.observed_generation.or(previous.observed_generation),
        printable_status: Some(
            printable_status(&view, input.vmi.map(VmiView::of).as_ref(), &facts)
                .as_str()
                .to_owned(),
        ),
        ready: ready.then_some(true),
        resolved_hardware: input
            .vmi
            .and_then(|vmi| vmi.status.as_ref()?.resolved_hardware.clone())
            .or(previous.resolved_hardware),
        run_strategy: input
            .decision
            .observed_run_strategy
            .map(|s| s.as_str().to_owned()),
        start_failure: input.decision.back_off.to_wire(),
        state_change_requests: input
            .decision
            .requests
            .iter()
            .map(StateChangeRequest::to_wire)
            .collect(),
    }
}
