//! The status of a machine. Pure.

use catamaran_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};
use catamaran_lifecycle::{
    Decision, Phase, Seconds, StatusInput, VmView, instance_generation, machine_status,
};

/// What the status is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// The machine.
    pub(super) vm: &'a VirtualMachine,
    /// Its view.
    pub(super) view: &'a VmView,
    /// Its instance.
    pub(super) vmi: Option<&'a VirtualMachineInstance>,
    /// The instance runs with what only a restart would change.
    pub(super) outdated: bool,
    /// What was decided.
    pub(super) decision: &'a Decision,
    /// Seconds since 1970.
    pub(super) now: Seconds,
}

/// The status to store. `failure`: (reason, message) of an error of ours; without one it is the instance's.
pub(super) fn next(input: &Input<'_>, failure: Option<(&str, &str)>) -> VirtualMachineStatus {
    let theirs = input.vmi.and_then(|vmi| {
        let conditions = &vmi.status.as_ref()?.conditions;
        conditions
            .iter()
            .find(|c| c.type_ == "Synchronized" && c.status == "False")
    });
    let theirs = theirs.map(|condition| {
        (
            condition.reason.as_deref().unwrap_or_default(),
            condition.message.as_deref().unwrap_or_default(),
        )
    });
    let running = input.vmi.filter(|vmi| {
        let status = vmi.status.as_ref();
        !Phase::parse(status.and_then(|s| s.phase.as_deref())).is_final()
    });
    let restart_required = running.is_some() && input.outdated;
    let generation = match input.vmi {
        // What was changed besides the template is in effect without a new instance.
        Some(_) if !input.outdated => input.vm.metadata.generation,
        Some(vmi) => instance_generation(vmi),
        None => None,
    };
    machine_status(
        &StatusInput {
            vm: input.vm,
            view: input.view,
            vmi: input.vmi,
            decision: input.decision,
            failure: failure.or(theirs),
            volumes: None,
            restart_required,
            observed_generation: generation,
        },
        input.now,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use catamaran_lifecycle::{BackOff, Facts, VmiView, decide, instance, outdated};
    use serde_json::json;

    fn machine() -> VirtualMachine {
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "generation": 3},
            "spec": {"runStrategy": "Always", "template": {"spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}}},
        }))
        .unwrap()
    }

    fn status(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> VirtualMachineStatus {
        let view = VmView::of(vm, "d", BackOff::default()).unwrap();
        let decision = decide(&view, Some(&VmiView::of(vmi)), &Facts::default(), 0);
        let input = Input {
            vm,
            view: &view,
            vmi: Some(vmi),
            outdated: outdated(vm, vmi),
            decision: &decision,
            now: 0,
        };
        next(&input, None)
    }

    fn in_phase(vm: &VirtualMachine, phase: &str) -> VirtualMachineInstance {
        let mut vmi = instance(vm, false);
        let ready = if phase == "Running" { "True" } else { "False" };
        vmi.status = Some(
            serde_json::from_value(
                json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}),
            )
            .unwrap(),
        );
        vmi
    }

    #[test]
    fn a_start_changes_the_status_twice() {
        let vm = machine();
        let all: Vec<_> = ["Pending", "Scheduling", "Scheduled", "Running"]
            .map(|phase| status(&vm, &in_phase(&vm, phase)))
            .into();
        assert_eq!(all[0].printable_status.as_deref(), Some("Starting"));
        assert_eq!(all[0], all[1]);
        assert_eq!(all[1], all[2]);
        assert_eq!(all[3].printable_status.as_deref(), Some("Running"));
        assert_eq!(all[3].observed_generation, Some(3));
    }

    #[test]
    fn a_changed_template_asks_for_a_restart_and_a_changed_strategy_does_not() {
        let mut vm = machine();
        let vmi = in_phase(&vm, "Running");
        let required = |status: &VirtualMachineStatus| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == "RestartRequired")
        };
        vm.metadata.generation = Some(4);
        vm.spec.run_strategy = Some("Manual".to_owned());
        assert!(!required(&status(&vm, &vmi)));
        assert_eq!(status(&vm, &vmi).observed_generation, Some(4));
        vm.metadata.generation = Some(5);
        vm.spec.template.spec.as_mut().unwrap().hostname = Some("b".to_owned());
        assert!(required(&status(&vm, &vmi)));
        assert_eq!(status(&vm, &vmi).observed_generation, Some(3));
        let over = status(&vm, &in_phase(&machine(), "Succeeded"));
        assert!(!required(&over), "the next run begins with the new one");
    }

    #[test]
    fn what_an_instance_cannot_do_is_the_machines_failure() {
        let vm = machine();
        let mut vmi = in_phase(&vm, "Pending");
        vmi.status.as_mut().unwrap().conditions.push(
            serde_json::from_value(json!({"type": "Synchronized", "status": "False", "reason": "ErrImagePull", "message": "no such image"}))
                .unwrap(),
        );
        let status = status(&vm, &vmi);
        assert_eq!(status.printable_status.as_deref(), Some("ErrImagePull"));
        let failure = status
            .conditions
            .iter()
            .find(|c| c.type_ == "Failure")
            .unwrap();
        assert_eq!(failure.message.as_deref(), Some("no such image"));
    }
}
