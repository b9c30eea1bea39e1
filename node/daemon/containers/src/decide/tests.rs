//! What is done next for a Pod in each state of its sandbox and containers.

use serde_json::json;

use super::*;
use crate::observed::{Fault, Health, ProbeFailure, Sandbox};

const T0: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(T0 + seconds).unwrap()
}

fn pod(policy: &str, init: &[&str], containers: &[&str]) -> PodSpec {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| json!({"name": name, "image": "i:1"}))
            .collect::<Vec<_>>()
    };
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers)},
    });
    PodSpec::parse(&manifest).unwrap().0
}

fn sandbox(pod: &PodSpec, id: &str) -> Sandbox {
    Sandbox {
        id: id.to_owned(),
        attempt: 0,
        uid: pod.uid.clone(),
        digest: pod.digest.clone(),
        ready: true,
        created_at: at(0),
        ips: vec![],
        restarts: BTreeMap::new(),
    }
}

fn run(name: &str, attempt: u32, level: u32, state: RunState) -> Run {
    Run {
        id: format!("{name}-{attempt}"),
        name: name.to_owned(),
        attempt,
        level,
        state,
        image: "i:1".to_owned(),
        image_id: String::new(),
    }
}

fn exited(code: i32, started: i64, finished: i64) -> RunState {
    RunState::Exited(Exit {
        code,
        reason: String::new(),
        message: String::new(),
        started_at: Some(at(started)),
        finished_at: at(finished),
    })
}

fn running() -> RunState {
    RunState::Running { since: at(0) }
}

fn with(pod: &PodSpec, runs: Vec<Run>) -> Observed {
    Observed {
        sandboxes: vec![sandbox(pod, "s")],
        runs,
        ..Observed::default()
    }
}

fn start(name: &str, attempt: u32, level: u32) -> Action {
    Action::Start {
        container: name.to_owned(),
        sandbox: "s".to_owned(),
        attempt,
        level,
    }
}

#[test]
fn nothing_there_means_a_sandbox_first() {
    let pod = pod("Always", &[], &["a"]);
    let decision = decide(&pod, &Observed::default(), at(0));
    assert_eq!(
        decision.actions,
        [Action::CreateSandbox {
            attempt: 0,
            restarts: BTreeMap::new()
        }]
    );
}

#[test]
fn containers_start_side_by_side() {
    let pod = pod("Always", &[], &["a", "b"]);
    assert_eq!(
        decide(&pod, &with(&pod, vec![]), at(0)).actions,
        [start("a", 0, 0), start("b", 0, 0)]
    );
}

#[test]
fn running_containers_are_left_alone() {
    let pod = pod("Always", &["i"], &["a", "b"]);
    let observed = with(
        &pod,
        vec![run("a", 0, 0, running()), run("b", 3, 2, running())],
    );
    assert_eq!(decide(&pod, &observed, at(0)), Decision::default());
    assert_eq!(progress(&pod, &observed), Progress::Running);
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_rest() {
    let pod = pod("Always", &["i", "j"], &["a"]);
    let step = |runs: Vec<Run>| decide(&pod, &with(&pod, runs), at(9)).actions;
    assert_eq!(step(vec![]), [start("i", 0, 0)]);
    assert_eq!(step(vec![run("i", 0, 0, running())]), []);
    assert_eq!(
        step(vec![run("i", 0, 0, exited(0, 0, 1))]),
        [start("j", 0, 0)]
    );
    assert_eq!(
        step(vec![
            run("j", 0, 0, exited(0, 1, 2)),
            run("i", 0, 0, exited(0, 0, 1))
        ]),
        [start("a", 0, 0)]
    );
    assert_eq!(
        step(vec![run("i", 0, 0, exited(1, 0, 1))]),
        [start("i", 1, 1)],
        "a failed init container is tried again"
    );
}

#[test]
fn a_failed_init_container_fails_a_pod_that_is_never_restarted() {
    let pod = pod("Never", &["i"], &["a"]);
    let observed = with(&pod, vec![run("i", 0, 0, exited(1, 0, 1))]);
    assert_eq!(progress(&pod, &observed), Progress::Ended { well: false });
    assert_eq!(
        decide(&pod, &observed, at(9)).actions,
        [Action::StopSandbox { id: "s".to_owned() }]
    );
}

#[test]
fn back_off_doubles_from_ten_seconds_to_five_minutes() {
    let waits: Vec<_> = (0..10).map(|level| back_off(level).as_secs()).collect();
    assert_eq!(waits, [0, 0, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(back_off(u32::MAX).as_secs(), 300);
}

#[test]
fn a_crashed_container_waits_for_its_back_off() {
    let pod = pod("Always", &[], &["a"]);
    let first = with(&pod, vec![run("a", 0, 0, exited(1, 0, 1))]);
    assert_eq!(
        decide(&pod, &first, at(1)).actions,
        [start("a", 1, 1)],
        "the first restart comes at once"
    );
    let second = with(&pod, vec![run("a", 1, 1, exited(1, 2, 3))]);
    assert_eq!(
        decide(&pod, &second, at(12)),
        Decision {
            actions: vec![],
            look_again: Some(at(13))
        }
    );
    assert_eq!(decide(&pod, &second, at(13)).actions, [start("a", 2, 2)]);
}

#[test]
fn ten_minutes_of_running_clear_the_back_off() {
    let pod = pod("Always", &[], &["a"]);
    let observed = with(&pod, vec![run("a", 8, 7, exited(1, 0, 600))]);
    assert_eq!(decide(&pod, &observed, at(600)).actions, [start("a", 9, 1)]);
    let short = with(&pod, vec![run("a", 8, 7, exited(1, 0, 599))]);
    assert_eq!(
        decide(&pod, &short, at(600)).look_again,
        Some(at(599 + 300))
    );
}

#[test]
fn the_restart_policy_decides_who_is_started_again() {
    for (policy, code, restarted) in [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ] {
        let pod = pod(policy, &[], &["a", "b"]);
        let observed = with(
            &pod,
            vec![
                run("a", 0, 0, exited(code, 0, 1)),
                run("b", 0, 0, running()),
            ],
        );
        let actions = decide(&pod, &observed, at(9)).actions;
        assert_eq!(
            actions,
            if restarted {
                vec![start("a", 1, 1)]
            } else {
                vec![]
            },
            "{policy} {code}"
        );
        assert_eq!(
            progress(&pod, &observed),
            Progress::Running,
            "{policy} {code}"
        );
    }
}

#[test]
fn a_pod_whose_containers_have_ended_for_good_gives_its_address_back_once() {
    for (policy, code, well) in [
        ("Never", 0, true),
        ("Never", 3, false),
        ("OnFailure", 0, true),
    ] {
        let pod = pod(policy, &[], &["a"]);
        let mut observed = with(&pod, vec![run("a", 0, 0, exited(code, 0, 1))]);
        assert_eq!(progress(&pod, &observed), Progress::Ended { well });
        assert_eq!(
            decide(&pod, &observed, at(9)).actions,
            [Action::StopSandbox { id: "s".to_owned() }]
        );
        observed.sandboxes[0].ready = false;
        assert_eq!(decide(&pod, &observed, at(9)), Decision::default());
    }
}

#[test]
fn a_changed_pod_is_replaced_after_its_grace_period() {
    let old = pod("Always", &[], &["a"]);
    let new = pod("Always", &[], &["a", "b"]);
    let observed = with(
        &old,
        vec![run("a", 1, 1, running()), run("a", 0, 0, exited(1, 0, 1))],
    );
    let expected = [
        Action::StopContainers {
            ids: vec!["a-1".to_owned()],
            grace: Duration::from_secs(30),
            why: "the Pod has changed".to_owned(),
        },
        Action::StopSandbox { id: "s".to_owned() },
        Action::RemoveSandbox { id: "s".to_owned() },
        Action::ClearVolumes,
    ];
    assert_eq!(decide(&new, &observed, at(9)).actions, expected);
}

#[test]
fn another_uid_is_another_pod() {
    let old = pod("Always", &[], &["a"]);
    let new = PodSpec {
        uid: "other".to_owned(),
        ..old.clone()
    };
    assert!(
        decide(&new, &with(&old, vec![run("a", 0, 0, running())]), at(9))
            .actions
            .contains(&Action::ClearVolumes)
    );
}

#[test]
fn a_dead_sandbox_is_followed_by_another_and_restart_counts_go_on() {
    let pod = pod("Always", &["i"], &["a", "b"]);
    let mut observed = with(
        &pod,
        vec![
            run("a", 4, 1, exited(255, 0, 1)),
            run("i", 0, 0, exited(0, 0, 1)),
        ],
    );
    observed.sandboxes[0].ready = false;
    observed.sandboxes[0].restarts.insert("b".to_owned(), 2);
    let restarts = BTreeMap::from([
        ("a".to_owned(), 5),
        ("b".to_owned(), 2),
        ("i".to_owned(), 1),
    ]);
    let actions = decide(&pod, &observed, at(9)).actions;
    assert_eq!(
        actions.last(),
        Some(&Action::CreateSandbox {
            attempt: 1,
            restarts: restarts.clone()
        })
    );
    let mut next = with(&pod, vec![]);
    next.sandboxes[0].restarts = restarts;
    assert_eq!(decide(&pod, &next, at(9)).actions, [start("i", 1, 0)]);
}

#[test]
fn a_pod_that_is_never_restarted_fails_with_its_sandbox() {
    let pod = pod("Never", &[], &["a", "b"]);
    let mut observed = with(
        &pod,
        vec![
            run("a", 0, 0, exited(0, 0, 1)),
            run("b", 0, 0, exited(255, 0, 1)),
        ],
    );
    observed.sandboxes[0].ready = false;
    assert_eq!(progress(&pod, &observed), Progress::Ended { well: false });
    assert_eq!(decide(&pod, &observed, at(9)), Decision::default());
}

#[test]
fn a_failed_probe_ends_the_container_with_the_probes_own_grace() {
    let pod = pod("Always", &[], &["a"]);
    let mut observed = with(&pod, vec![run("a", 0, 0, running())]);
    let failed = Some(ProbeFailure {
        probe: "Liveness",
        message: "HTTP 500".to_owned(),
        grace: Some(Duration::from_secs(2)),
    });
    observed.probes.insert(
        "a-0".to_owned(),
        Health {
            started: true,
            ready: true,
            failed,
        },
    );
    let [Action::StopContainers { ids, grace, why }] = &decide(&pod, &observed, at(9)).actions[..]
    else {
        panic!()
    };
    assert_eq!(
        (ids.as_slice(), grace.as_secs()),
        (["a-0".to_owned()].as_slice(), 2)
    );
    assert_eq!(why, "Container a failed liveness probe: HTTP 500");
}

#[test]
fn a_failed_start_is_tried_again_when_its_time_has_come() {
    let pod = pod("Always", &[], &["a"]);
    let mut observed = with(&pod, vec![]);
    let fault = Fault::after(
        None,
        "ErrImagePull",
        String::new(),
        Duration::from_secs(10),
        Duration::from_secs(300),
        at(0),
    );
    observed.faults.insert("a".to_owned(), fault.clone());
    assert_eq!(
        decide(&pod, &observed, at(9)),
        Decision {
            actions: vec![],
            look_again: Some(at(10))
        }
    );
    assert_eq!(decide(&pod, &observed, at(10)).actions, [start("a", 0, 0)]);
    let again = Fault::after(
        Some(&fault),
        "ErrImagePull",
        String::new(),
        Duration::from_secs(10),
        Duration::from_secs(300),
        at(10),
    );
    assert_eq!(again.retry_at, at(30));
}

#[test]
fn a_container_that_was_made_and_never_started_is_made_anew() {
    let pod = pod("Always", &[], &["a"]);
    let observed = with(&pod, vec![run("a", 2, 1, RunState::Created)]);
    assert_eq!(
        decide(&pod, &observed, at(9)).actions,
        [
            Action::RemoveContainer {
                id: "a-2".to_owned()
            },
            start("a", 2, 1)
        ]
    );
}

#[test]
fn older_sandboxes_and_runs_are_cleared_away() {
    let pod = pod("Always", &[], &["a"]);
    let mut observed = with(
        &pod,
        vec![
            run("a", 2, 0, running()),
            run("a", 1, 0, exited(1, 0, 1)),
            run("a", 0, 0, exited(1, 0, 1)),
        ],
    );
    observed.sandboxes.push(sandbox(&pod, "old"));
    let expected = [
        Action::StopSandbox {
            id: "old".to_owned(),
        },
        Action::RemoveSandbox {
            id: "old".to_owned(),
        },
        Action::RemoveContainer {
            id: "a-0".to_owned(),
        },
    ];
    assert_eq!(decide(&pod, &observed, at(9)).actions, expected);
}
