//! Tables of what is done about a volume and its pod.

use serde_json::{Value, json};

use super::*;

/// An instance that runs, with the claim of volume `d` that is asked for, and (phase, claim) of what is said of it.
fn vmi(wanted: Option<&str>, said: Option<(&str, &str)>) -> VirtualMachineInstance {
    let volumes: Vec<Value> = wanted
        .map(|claim| json!({"name": "d", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}}))
        .into_iter()
        .collect();
    let root = json!({"name": "root", "target": "vda"});
    let said = said.map(|(phase, claim)| {
        json!({
            "name": "d", "target": "sda", "phase": phase,
            "persistentVolumeClaimInfo": {"claimName": claim}, "hotplugVolume": {"attachPodName": "hp"},
        })
    });
    let said: Vec<Value> = [Some(root), said].into_iter().flatten().collect();
    serde_json::from_value(json!({
        "metadata": {"name": "web"}, "spec": {"domain": {"devices": {}}, "volumes": volumes},
        "status": {"phase": "Running", "volumeStatus": said},
    }))
    .unwrap()
}

fn runs() -> AttachmentState {
    AttachmentState::Runs
}

fn waits() -> AttachmentState {
    AttachmentState::Waits("no room".to_owned())
}

fn pod(state: AttachmentState) -> Known {
    Known {
        pod_name: "hp".to_owned(),
        pod: Some(Attachment {
            uid: "u".to_owned(),
            deleting: false,
            state,
        }),
        claim: None,
    }
}

fn none(claim: Option<ClaimMode>) -> Known {
    Known {
        pod_name: "hp".to_owned(),
        pod: None,
        claim,
    }
}

fn going() -> Known {
    let mut known = pod(runs());
    known.pod.as_mut().unwrap().deleting = true;
    known
}

/// What is done about the pod, and what is said of the volume: its phase.
fn step(vmi: &VirtualMachineInstance, run: Run, known: Known) -> (&'static str, Option<String>) {
    let plan = decide(vmi, run, &BTreeMap::from([("d".to_owned(), known)]));
    let done = match (plan.create.len(), plan.delete.len()) {
        (0, 0) => "-",
        (1, 0) => "create",
        (0, 1) => "delete",
        _ => "both",
    };
    assert_eq!(plan.status[0].name, "root", "others are left alone");
    let said = plan.status.iter().find(|said| said.name == "d");
    (done, said.and_then(|said| said.phase.clone()))
}

#[test]
fn a_volume_comes_with_its_pod_and_its_pod_goes_after_it() {
    let there = || none(Some(ClaimMode::Filesystem));
    for (wanted, said, known, expected) in [
        // In.
        (Some("c"), None, there(), ("create", Some("Pending"))),
        (Some("c"), None, none(None), ("-", Some("Pending"))),
        (
            Some("c"),
            None,
            none(Some(ClaimMode::Block)),
            ("create", Some("Pending")),
        ),
        (
            Some("c"),
            Some(("Pending", "c")),
            there(),
            ("create", Some("Pending")),
        ),
        (
            Some("c"),
            Some(("Pending", "c")),
            pod(waits()),
            ("-", Some("Pending")),
        ),
        (
            Some("c"),
            Some(("Pending", "c")),
            pod(runs()),
            ("-", Some("AttachedToNode")),
        ),
        (Some("c"), None, pod(runs()), ("-", Some("AttachedToNode"))),
        (
            Some("c"),
            Some(("Ready", "c")),
            pod(runs()),
            ("-", Some("Ready")),
        ),
        // Its pod was removed by hand, or has failed: the volume stays, and a pod comes again.
        (
            Some("c"),
            Some(("Ready", "c")),
            there(),
            ("create", Some("Ready")),
        ),
        (
            Some("c"),
            Some(("Ready", "c")),
            going(),
            ("-", Some("Ready")),
        ),
        (
            Some("c"),
            Some(("Ready", "c")),
            pod(AttachmentState::Ended),
            ("delete", Some("Ready")),
        ),
        // Out: as long as the node daemon has not given it back, its pod stays.
        (
            None,
            Some(("Ready", "c")),
            pod(runs()),
            ("-", Some("Ready")),
        ),
        (
            None,
            Some(("AttachedToNode", "c")),
            pod(runs()),
            ("-", Some("AttachedToNode")),
        ),
        (
            None,
            Some(("Detaching", "c")),
            pod(runs()),
            ("-", Some("Detaching")),
        ),
        (
            None,
            Some(("UnMountedFromPod", "c")),
            pod(runs()),
            ("delete", Some("UnMountedFromPod")),
        ),
        (
            None,
            Some(("UnMountedFromPod", "c")),
            going(),
            ("-", Some("UnMountedFromPod")),
        ),
        (
            None,
            Some(("UnMountedFromPod", "c")),
            none(None),
            ("-", None),
        ),
        (
            None,
            Some(("Pending", "c")),
            pod(waits()),
            ("delete", Some("Pending")),
        ),
        (None, Some(("Pending", "c")), none(None), ("-", None)),
        // Another claim, or the same one again: first the old one goes.
        (
            Some("c2"),
            Some(("Ready", "c")),
            pod(runs()),
            ("-", Some("Ready")),
        ),
        (
            Some("c"),
            Some(("Detaching", "c")),
            pod(runs()),
            ("-", Some("Detaching")),
        ),
        (
            Some("c2"),
            Some(("UnMountedFromPod", "c")),
            pod(runs()),
            ("delete", Some("UnMountedFromPod")),
        ),
        (
            Some("c2"),
            Some(("UnMountedFromPod", "c")),
            none(None),
            ("-", None),
        ),
    ] {
        let found = step(&vmi(wanted, said), Run::On, known.clone());
        assert_eq!(
            (found.0, found.1.as_deref()),
            expected,
            "{wanted:?} {said:?} {known:?}"
        );
    }
}

#[test]
fn what_keeps_a_volume_is_said() {
    let words = |known: Known| {
        let vmi = vmi(Some("c"), None);
        let plan = decide(&vmi, Run::On, &BTreeMap::from([("d".to_owned(), known)]));
        (plan.status[1].message.clone().unwrap(), plan.again_in)
    };
    let (missing, again) = words(none(None));
    assert!(missing.contains("PersistentVolumeClaim c is not there"));
    assert_eq!(again, Some(3));
    assert!(words(pod(waits())).0.contains("no room"));
}

#[test]
fn the_pods_of_a_run_that_is_over_go() {
    let ready = vmi(Some("c"), Some(("Ready", "c")));
    let said = Some("Ready".to_owned());
    assert_eq!(
        step(&ready, Run::Over, pod(runs())),
        ("delete", said.clone())
    );
    assert_eq!(step(&ready, Run::Over, none(None)), ("-", said.clone()));
    assert_eq!(step(&ready, Run::Between, none(None)), ("-", said));
}

#[test]
fn the_state_of_a_pod_is_what_its_kubelet_says() {
    for (status, expected) in [
        (json!({"phase": "Pending"}), "it was not scheduled yet"),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]}),
            "0/2 nodes",
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [{"name": "x", "ready": false, "image": "", "imageID": "", "restartCount": 0,
                "state": {"waiting": {"reason": "ContainerCreating"}}}]}),
            "ContainerCreating",
        ),
    ] {
        let pod = serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap();
        assert_eq!(
            Attachment::of(&pod).state,
            AttachmentState::Waits(expected.to_owned())
        );
    }
}

#[test]
fn a_pod_that_cannot_be_made_is_said_of_a_volume_that_is_not_there_yet() {
    for (said, expected) in [(None, "FailedCreate"), (Some(("Ready", "c")), "")] {
        let vmi = vmi(Some("c"), said);
        let known = BTreeMap::from([("d".to_owned(), none(Some(ClaimMode::Filesystem)))]);
        let mut plan = decide(&vmi, Run::On, &known);
        plan.failed("d", "exceeded quota");
        let said = plan.status.iter().find(|said| said.name == "d").unwrap();
        assert_eq!(said.reason.as_deref().unwrap_or_default(), expected);
    }
}
