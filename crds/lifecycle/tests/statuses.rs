//! Statuses as they are stored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use catamaran_api::{VirtualMachine, VirtualMachineCondition, VirtualMachineInstance};
use catamaran_lifecycle::{
    BackOff, Facts, StatusInput, VmView, VmiView, decide, from_time, machine_conditions,
    machine_status,
};
use serde_json::json;

fn vm() -> VirtualMachine {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": { "name": "a", "generation": 3 },
        "spec": { "running": true, "template": {} },
    }))
    .unwrap()
}

fn vmi(conditions: &serde_json::Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": { "name": "a", "uid": "u1" },
        "spec": { "domain": { "devices": {} }, "terminationGracePeriodSeconds": 7 },
        "status": {
            "phase": "Running", "conditions": conditions,
            "phaseTransitionTimestamps": [
                { "phase": "Pending", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z" },
                { "phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:05Z" },
            ],
        },
    }))
    .unwrap()
}

fn types(conditions: &[VirtualMachineCondition]) -> Vec<String> {
    conditions
        .iter()
        .map(|c| format!("{}={}", c.type_, c.status))
        .collect()
}

#[test]
fn conditions_of_the_instance_are_copied_and_dropped() {
    let running = vmi(
        &json!([{ "type": "Ready", "status": "True" }, { "type": "AgentConnected", "status": "True" }, { "type": "Failure", "status": "True" }]),
    );
    let first = machine_conditions(&[], Some(&running), None, 100);
    assert_eq!(types(&first), ["Ready=True", "AgentConnected=True"]);
    let gone = machine_conditions(&first, None, None, 200);
    assert_eq!(types(&gone), ["Ready=False", "AgentConnected=True"]);
    assert_eq!(gone[0].reason.as_deref(), Some("VMINotExists"));
    assert_eq!(
        from_time(gone[0].last_transition_time.as_ref().unwrap()),
        200
    );
    assert_eq!(
        from_time(gone[1].last_transition_time.as_ref().unwrap()),
        100,
        "the status has not changed"
    );
    let mute = machine_conditions(
        &gone,
        Some(&vmi(&json!([]))),
        Some(("FailedCreate", "no image")),
        300,
    );
    assert_eq!(types(&mute), ["Ready=False", "Failure=True"]);
    assert_eq!(mute[0].reason.as_deref(), Some("VMIConditionMissing"));
}

#[test]
fn a_running_machine_has_the_status_that_clients_read() {
    let (vm, vmi) = (vm(), vmi(&json!([{ "type": "Ready", "status": "True" }])));
    let view = VmView::of(&vm, "digest", BackOff::default()).unwrap();
    let decision = decide(
        &view,
        Some(&VmiView::of(&vmi)),
        &Facts::default(),
        1_767_225_700,
    );
    let input = StatusInput {
        vm: &vm,
        view: &view,
        vmi: Some(&vmi),
        decision: &decision,
        failure: None,
        volumes: None,
        restart_required: true,
        observed_generation: Some(3),
    };
    let status = serde_json::to_value(machine_status(&input, 1_767_225_700)).unwrap();
    assert_eq!(
        status,
        json!({
            "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:01:40Z" },
                { "type": "RestartRequired", "status": "True", "reason": "RestartRequired", "message": "a non-live-updatable field was changed in the template spec", "lastTransitionTime": "2026-01-01T00:01:40Z" },
            ],
            "created": true, "ready": true, "printableStatus": "Running", "runStrategy": "Always", "desiredGeneration": 3, "observedGeneration": 3,
        })
    );
}

#[test]
fn what_is_false_is_left_out_as_clients_expect() {
    let mut vm = vm();
    vm.spec.run_strategy = Some("Halted".to_owned());
    let view = VmView::of(&vm, "digest", BackOff::default()).unwrap();
    let decision = decide(&view, None, &Facts::default(), 1_767_225_700);
    let input = StatusInput {
        vm: &vm,
        view: &view,
        vmi: None,
        decision: &decision,
        failure: None,
        volumes: None,
        restart_required: false,
        observed_generation: None,
    };
    let status = serde_json::to_value(machine_status(&input, 1_767_225_700)).unwrap();
    assert_eq!(status["printableStatus"], "Stopped");
    let fields = status.as_object().unwrap();
    assert!(
        !fields.contains_key("ready") && !fields.contains_key("created"),
        "{status}"
    );
}

#[test]
fn an_instance_is_viewed_with_its_times() {
    let view = VmiView::of(&vmi(
        &json!([{ "type": "Paused", "status": "True" }, { "type": "Synchronized", "status": "False", "reason": "ErrImagePull" }]),
    ));
    assert_eq!(
        (view.running_since, view.ended_at),
        (Some(1_767_225_605), None)
    );
    assert_eq!(
        (
            view.paused,
            view.acpi,
            view.grace_seconds,
            view.sync_failure.as_deref()
        ),
        (true, true, 7, Some("ErrImagePull"))
    );
}
