//! What each run strategy makes of each state of a machine and its run.

use catamaran_lifecycle::{
    Action, BackOff, Decision, Facts, Phase, RunStrategy, StateChangeRequest, VmView, VmiView,
    decide,
};

use crate::{NOW, START, action, kind, run, stop_request, vm};

#[test]
fn run_strategies_follow_the_table() {
    use RunStrategy::{Always, Halted, Manual, Once, RerunOnFailure};
    let live = Some(Phase::Running);
    let table = [
        (Always, None, None, "create"),
        (Always, live, None, "nothing"),
        (Always, Some(Phase::Pending), None, "nothing"),
        (Always, Some(Phase::Succeeded), None, "delete"),
        (Always, Some(Phase::Failed), None, "delete"),
        (Always, live, Some(stop_request("u1")), "delete"),
        (Always, live, Some(stop_request("other")), "nothing"),
        (RerunOnFailure, None, None, "nothing"),
        (RerunOnFailure, None, Some(START), "create"),
        (RerunOnFailure, live, None, "nothing"),
        (RerunOnFailure, Some(Phase::Succeeded), None, "delete"),
        (RerunOnFailure, Some(Phase::Failed), None, "delete"),
        (RerunOnFailure, live, Some(stop_request("u1")), "delete"),
        (Manual, None, None, "nothing"),
        (Manual, None, Some(START), "create"),
        (
            Manual,
            None,
            Some(StateChangeRequest::Start { paused: true }),
            "create paused",
        ),
        (Manual, live, None, "nothing"),
        (Manual, Some(Phase::Succeeded), None, "nothing"),
        (Manual, Some(Phase::Failed), None, "nothing"),
        (Manual, live, Some(stop_request("u1")), "delete"),
        (Halted, None, None, "nothing"),
        (Halted, live, None, "delete"),
        (Halted, Some(Phase::Pending), None, "delete"),
        (Halted, Some(Phase::Succeeded), None, "delete"),
        (Once, None, None, "create"),
        (Once, live, None, "nothing"),
        (Once, Some(Phase::Succeeded), None, "nothing"),
        (Once, Some(Phase::Failed), None, "nothing"),
        (Once, live, Some(stop_request("u1")), "nothing"),
    ];
    for (strategy, phase, request, expected) in table {
        let view = VmView {
            requests: request.clone().into_iter().collect(),
            ..vm(strategy)
        };
        let found = action(&view, phase.map(run).as_ref());
        assert_eq!(kind(&found), expected, "{strategy} {phase:?} {request:?}");
    }
}

#[test]
fn a_strategy_just_set_to_rerun_on_failure_starts() {
    let view = VmView {
        observed_run_strategy: Some(RunStrategy::Halted),
        ..vm(RunStrategy::RerunOnFailure)
    };
    assert_eq!(kind(&action(&view, None)), "create");
}

#[test]
fn a_failed_run_is_followed_by_another_and_a_stopped_one_is_not() {
    let failed = decide(
        &vm(RunStrategy::RerunOnFailure),
        Some(&run(Phase::Failed)),
        &Facts::default(),
        NOW,
    );
    assert_eq!(failed.requests, [START]);
    let view = VmView {
        requests: vec![stop_request("u1")],
        ..vm(RunStrategy::RerunOnFailure)
    };
    let stopped = decide(&view, Some(&run(Phase::Failed)), &Facts::default(), NOW);
    assert_eq!(stopped.requests, [stop_request("u1")]);
    let view = VmView {
        requests: stopped.requests,
        ..view
    };
    assert_eq!(
        decide(&view, None, &Facts::default(), NOW),
        Decision {
            action: Action::Nothing,
            requests: vec![],
            back_off: BackOff::default(),
            rewrite: None,
            observed_run_strategy: Some(RunStrategy::RerunOnFailure),
            again_at: None
        }
    );
}

#[test]
fn a_restart_stops_this_run_and_starts_the_next() {
    let mut view = VmView {
        requests: vec![stop_request("u1"), START],
        ..vm(RunStrategy::Manual)
    };
    let mut vmi = run(Phase::Running);
    assert_eq!(kind(&action(&view, Some(&vmi))), "delete");
    vmi.deleting = true;
    let going = decide(&view, Some(&vmi), &Facts::default(), NOW);
    assert_eq!((kind(&going.action), going.requests.len()), ("wait", 2));
    let gone = decide(&view, None, &Facts::default(), NOW);
    assert_eq!(
        (kind(&gone.action), gone.requests.as_slice()),
        ("create", [START].as_slice())
    );
    view.requests = gone.requests;
    let again = decide(
        &view,
        Some(&VmiView {
            uid: "u2".to_owned(),
            ..run(Phase::Pending)
        }),
        &Facts::default(),
        NOW,
    );
    assert_eq!((kind(&again.action), again.requests.len()), ("nothing", 0));
}

#[test]
fn start_paused_on_a_halted_machine_rewrites_the_strategy_and_keeps_the_request() {
    let paused = StateChangeRequest::Start { paused: true };
    let view = VmView {
        requests: vec![paused.clone()],
        ..vm(RunStrategy::Halted)
    };
    let decision = decide(&view, None, &Facts::default(), NOW);
    assert_eq!(
        (
            decision.rewrite,
            kind(&decision.action),
            decision.requests.as_slice()
        ),
        (Some(RunStrategy::Always), "nothing", [paused].as_slice())
    );
    assert_eq!(
        kind(&action(
            &VmView {
                run_strategy: RunStrategy::Always,
                ..view
            },
            None
        )),
        "create paused"
    );
}

#[test]
fn no_run_begins_before_the_earlier_one_is_proved_dead() {
    let facts = Facts {
        earlier_run_alive: true,
        ..Facts::default()
    };
    for strategy in RunStrategy::ALL {
        let view = VmView {
            requests: vec![START],
            ..vm(strategy)
        };
        assert_ne!(
            kind(&decide(&view, None, &facts, NOW).action),
            "create",
            "{strategy}"
        );
    }
}

#[test]
fn a_deleted_machine_ends_its_run_and_then_goes() {
    let view = VmView {
        deleting: true,
        ..vm(RunStrategy::Always)
    };
    assert_eq!(kind(&action(&view, Some(&run(Phase::Running)))), "delete");
    assert_eq!(kind(&action(&view, None)), "finalize");
    let facts = Facts {
        earlier_run_alive: true,
        ..Facts::default()
    };
    assert_eq!(kind(&decide(&view, None, &facts, NOW).action), "wait");
}
