//! What is decided for an instance in each state of its pod.

use serde_json::{Value, json};

use super::*;

const NOW: Seconds = 1_000_000;

/// With a pod, or with one that never mattered.
fn decide(vmi: &VirtualMachineInstance, pod: Option<&PodView>, now: Seconds) -> Decision {
    super::decide(vmi, pod, None, Some(NodeState::Answers), now)
}

fn over() -> Fate {
    Fate::Over {
        words: "it is off".to_owned(),
    }
}

fn unknown() -> Fate {
    Fate::Unknown {
        reason: "NodeNotReady",
        words: "who knows".to_owned(),
    }
}

fn vmi(phase: &str, more: Value) -> VirtualMachineInstance {
    let mut object = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "finalizers": [finalizers::INSTANCE]},
        "spec": {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}},
        "status": {"phase": phase, "conditions": []},
    });
    merge(&mut object, more);
    serde_json::from_value(object).unwrap()
}

fn merge(base: &mut Value, more: Value) {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            for (key, value) in more {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, more) => *base = more,
    }
}

fn deleted(phase: &str) -> VirtualMachineInstance {
    vmi(
        phase,
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"terminationGracePeriodSeconds": 5}}),
    )
}

fn pod(state: PodState) -> PodView {
    PodView {
        uid: "p1".to_owned(),
        node: Some("n1".to_owned()),
        has_address: true,
        created: NOW,
        deleting: None,
        qos: Some("Burstable".to_owned()),
        image: Some("node:1".to_owned()),
        state,
        unschedulable: None,
        image_failure: None,
        gate: None,
        ready: false,
    }
}

fn ended(well: bool, ago: Seconds) -> PodView {
    pod(PodState::Ended {
        well,
        words: "w".to_owned(),
        at: Some(NOW - ago),
    })
}

fn phase(decision: &Decision) -> &str {
    decision.status.phase.as_deref().unwrap_or_default()
}

fn condition<'a>(decision: &'a Decision, type_: &str) -> Option<(&'a str, &'a str)> {
    let found = decision
        .status
        .conditions
        .iter()
        .find(|c| c.type_ == type_)?;
    Some((&found.status, found.reason.as_deref().unwrap_or_default()))
}

#[test]
fn a_new_instance_gets_a_pod_and_no_write() {
    let vmi = vmi("Pending", json!({}));
    let decision = decide(&vmi, None, NOW);
    assert_eq!(decision.pod, PodAction::Create);
    assert_eq!(Some(decision.status), vmi.status);
}

#[test]
fn a_fast_pod_is_handed_over_in_one_write() {
    let vmi = vmi("Pending", json!({}));
    let waiting = decide(&vmi, Some(&pod(PodState::Waiting)), NOW + 1);
    assert_eq!(waiting.status, vmi.status.clone().unwrap());
    assert_eq!(waiting.again_in, Some(1));
    let running = decide(&vmi, Some(&pod(PodState::Running)), NOW + 1);
    assert_eq!(phase(&running), "Scheduled");
    assert_eq!(running.hand_over.as_deref(), Some("n1"));
    assert_eq!(running.status.node_name.as_deref(), Some("n1"));
    assert_eq!(running.status.active_pods["p1"], "n1");
    assert_eq!(condition(&running, "LiveMigratable").unwrap().0, "False");
}

#[test]
fn a_slow_pod_is_scheduling() {
    let decision = decide(
        &vmi("Pending", json!({})),
        Some(&pod(PodState::Waiting)),
        NOW + 2,
    );
    assert_eq!(phase(&decision), "Scheduling");
    assert_eq!(decision.again_in, None);
}

#[test]
fn a_pod_without_an_address_is_not_handed_over() {
    let mut pod = pod(PodState::Running);
    pod.has_address = false;
    let decision = decide(&vmi("Pending", json!({})), Some(&pod), NOW);
    assert_eq!(decision.hand_over, None);
}

#[test]
fn the_scheduler_is_quoted_after_a_second_and_forgotten_when_a_node_is_found() {
    let mut pod = pod(PodState::Waiting);
    pod.unschedulable = Some("0/2 nodes".to_owned());
    let young = decide(&vmi("Pending", json!({})), Some(&pod), NOW);
    assert_eq!(condition(&young, "PodScheduled"), None);
    let old = decide(&vmi("Pending", json!({})), Some(&pod), NOW + 5);
    assert_eq!(
        condition(&old, "PodScheduled"),
        Some(("False", "Unschedulable"))
    );
    let mut later = vmi("Scheduling", json!({}));
    later.status = Some(old.status);
    pod.unschedulable = None;
    let found = decide(&later, Some(&pod), NOW + 6);
    assert_eq!(condition(&found, "PodScheduled"), None);
}

#[test]
fn a_scheduler_that_only_counts_anew_costs_no_write() {
    let words = |count: u32, reason: &str| {
        format!("0/{count} nodes are available: {count} Insufficient {reason}.")
    };
    let mut pod = pod(PodState::Waiting);
    let mut vmi = vmi("Scheduling", json!({}));
    let mut write = |words: String| {
        pod.unschedulable = Some(words);
        let decision = decide(&vmi, Some(&pod), NOW + 5);
        let written = Some(&decision.status) != vmi.status.as_ref();
        vmi.status = Some(decision.status);
        written
    };
    assert!(write(words(2, "memory")));
    assert!(!write(words(3, "memory")));
    assert!(write(words(3, "cpu")));
}

#[test]
fn an_image_that_cannot_be_had_costs_two_writes_however_often_it_is_tried() {
    let mut pod = pod(PodState::Waiting);
    let mut vmi = vmi("Pending", json!({}));
    let (mut writes, mut warnings) = (0, 0);
    for round in 0..6 {
        let reason = ["ErrImagePull", "ImagePullBackOff"][round % 2];
        pod.image_failure = Some((reason.to_owned(), "no such image".to_owned()));
        let decision = decide(&vmi, Some(&pod), NOW + 5);
        writes += u32::from(Some(&decision.status) != vmi.status.as_ref());
        warnings += u32::from(decision.warning.is_some());
        vmi.status = Some(decision.status);
    }
    assert_eq!((writes, warnings), (2, 1));
    let last = decide(&vmi, Some(&pod), NOW + 6);
    assert_eq!(
        condition(&last, "Synchronized"),
        Some(("False", "ImagePullBackOff"))
    );
}

#[test]
fn a_running_guest_opens_the_gate_and_a_paused_one_closes_it() {
    let running = vmi("Running", json!({}));
    let mut pod = pod(PodState::Running);
    let decision = decide(&running, Some(&pod), NOW);
    assert_eq!(decision.gate, Some(true));
    assert_eq!(condition(&decision, "Ready"), Some(("True", "")));
    pod.gate = Some(true);
    let mut settled = running.clone();
    settled.status = Some(decision.status.clone());
    assert_eq!(decide(&settled, Some(&pod), NOW + 9).gate, None);
    assert_eq!(
        decide(&settled, Some(&pod), NOW + 9).status,
        decision.status,
        "an idle machine costs no write"
    );
    let paused = vmi(
        "Running",
        json!({"status": {"conditions": [{"type": "Paused", "status": "True"}]}}),
    );
    let decision = decide(&paused, Some(&pod), NOW);
    assert_eq!(decision.gate, Some(false));
    assert_eq!(
        condition(&decision, "Ready"),
        Some(("False", "GuestNotRunning"))
    );
}

#[test]
fn a_pod_that_somebody_deletes_is_an_eviction_and_no_failure() {
    let mut pod = pod(PodState::Running);
    pod.deleting = Some(30);
    let decision = decide(&vmi("Running", json!({})), Some(&pod), NOW);
    assert_eq!(
        condition(&decision, "EvictionRequested"),
        Some(("True", "PodDeleted"))
    );
    assert_eq!(phase(&decision), "Running");
}

#[test]
fn a_readiness_probe_decides_about_ready() {
    let vmi = vmi(
        "Running",
        json!({"spec": {"readinessProbe": {"tcpSocket": {"port": 80}}}}),
    );
    let mut pod = pod(PodState::Running);
    let not_yet = decide(&vmi, Some(&pod), NOW);
    assert_eq!(
        condition(&not_yet, "Ready"),
        Some(("False", "ContainersNotReady"))
    );
    pod.ready = true;
    assert_eq!(
        condition(&decide(&vmi, Some(&pod), NOW), "Ready"),
        Some(("True", ""))
    );
}

#[test]
fn a_guest_whose_node_does_not_answer_is_not_ready_and_not_over() {
    // Whether its pod has ever been ready does not matter: the control plane leaves one alone that has not.
    let (vmi, pod) = (vmi("Running", json!({})), pod(PodState::Running));
    for (node, expected) in [
        (Some(NodeState::Answers), ("True", "")),
        (Some(NodeState::NotReady), ("False", "NodeNotReady")),
        (Some(NodeState::Silent), ("False", "NodeNotReady")),
        (Some(NodeState::OutOfService), ("False", "NodeNotReady")),
        (None, ("False", "NodeNotReady")),
    ] {
        let decision = super::decide(&vmi, Some(&pod), None, node, NOW);
        assert_eq!(phase(&decision), "Running");
        assert_eq!(condition(&decision, "Ready"), Some(expected), "{node:?}");
    }
}

#[test]
fn a_pod_that_never_ran_fails_its_instance_at_once() {
    let decision = decide(&vmi("Scheduling", json!({})), Some(&ended(true, 0)), NOW);
    assert_eq!(phase(&decision), "Failed");
}

#[test]
fn the_daemon_is_heard_before_the_pod() {
    let vmi = vmi("Running", json!({}));
    let soon = decide(&vmi, Some(&ended(true, 1)), NOW);
    assert_eq!((phase(&soon), soon.again_in), ("Running", Some(2)));
    let later = decide(&vmi, Some(&ended(true, 3)), NOW);
    assert_eq!(phase(&later), "Succeeded");
    let badly = decide(&vmi, Some(&ended(false, 3)), NOW);
    assert_eq!(phase(&badly), "Failed");
    assert_eq!(badly.status.reason.as_deref(), Some("w"));
}

#[test]
fn a_vanished_pod_that_was_never_handed_over_fails_its_instance_and_is_not_made_again() {
    let decision = decide(&vmi("Scheduling", json!({})), None, NOW);
    assert_eq!(phase(&decision), "Failed");
    assert_eq!(decision.pod, PodAction::Nothing);
}

#[test]
fn a_vanished_pod_ends_a_guest_only_with_a_proof() {
    for before in ["Scheduled", "Running"] {
        for vmi in [vmi(before, json!({})), deleted(before)] {
            for fate in [None, Some(&unknown())] {
                let waits = super::decide(&vmi, None, fate, None, NOW);
                assert_eq!(phase(&waits), before);
                assert!(!waits.release && waits.pod == PodAction::Nothing);
                assert!(waits.again_in.is_some());
            }
            let ended = super::decide(&vmi, None, Some(&over()), None, NOW);
            assert_eq!(phase(&ended), "Failed");
            assert_eq!(ended.status.reason.as_deref(), Some("it is off"));
            assert_eq!(ended.release, vmi.metadata.deletion_timestamp.is_some());
        }
    }
}

#[test]
fn waiting_for_a_proof_is_told_once() {
    let mut vmi = vmi("Running", json!({}));
    let first = super::decide(&vmi, None, Some(&unknown()), None, NOW);
    assert_eq!(condition(&first, "Ready"), Some(("False", "NodeNotReady")));
    assert!(first.warning.is_some());
    vmi.status = Some(first.status.clone());
    let second = super::decide(&vmi, None, Some(&unknown()), None, NOW + 5);
    assert_eq!((second.status, second.warning), (first.status, None));
}

#[test]
fn a_deletion_ends_the_pod_first() {
    for state in [PodState::Waiting, PodState::Running] {
        let decision = decide(&deleted("Running"), Some(&pod(state)), NOW);
        assert_eq!(decision.pod, PodAction::Delete { grace: 20 });
        assert!(!decision.release);
    }
    let mut going = pod(PodState::Running);
    going.deleting = Some(20);
    let decision = decide(&deleted("Running"), Some(&going), NOW);
    assert_eq!(decision.pod, PodAction::Nothing);
    assert!(!decision.release);
    going.deleting = Some(45);
    assert_eq!(
        decide(&deleted("Running"), Some(&going), NOW).pod,
        PodAction::Delete { grace: 20 },
        "a stop with a shorter grace period"
    );
}

#[test]
fn the_finalizer_goes_with_the_proof_and_the_final_phase_in_one_write() {
    let decision = decide(&deleted("Running"), Some(&ended(true, 0)), NOW);
    assert!(decision.release);
    assert_eq!(phase(&decision), "Succeeded");
    assert!(decide(&deleted("Succeeded"), None, NOW).release);
    assert_eq!(phase(&decide(&deleted("Pending"), None, NOW)), "Succeeded");
}

#[test]
fn a_pod_that_outlives_its_guest_is_ended() {
    let at = |ended: &str| {
        vmi(
            "Succeeded",
            json!({"status": {"phaseTransitionTimestamps": [{"phase": "Succeeded", "phaseTransitionTimestamp": ended}]}}),
        )
    };
    // 1970-01-12T13:46:40Z is NOW.
    let soon = decide(
        &at("1970-01-12T13:46:38Z"),
        Some(&pod(PodState::Running)),
        NOW,
    );
    assert_eq!((soon.pod, soon.again_in), (PodAction::Nothing, Some(8)));
    let late = decide(
        &at("1970-01-12T13:46:00Z"),
        Some(&pod(PodState::Running)),
        NOW,
    );
    assert!(matches!(late.pod, PodAction::Delete { .. }));
    let over = decide(&at("1970-01-12T13:46:00Z"), Some(&ended(true, 0)), NOW);
    assert_eq!(over.pod, PodAction::Nothing);
}

#[test]
fn an_invalid_instance_fails_with_its_mistakes() {
    let mut decision = decide(&vmi("Pending", json!({})), None, NOW);
    decision.refuse("spec.domain.memory: Required value", NOW);
    assert_eq!(phase(&decision), "Failed");
    assert!(decision.warning.is_some());
}
