//! Run strategies, requests, back-off, statuses: tables, and properties that hold for every history.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

use catamaran_lifecycle::{
    Action, BackOff, Change, Decision, Facts, Phase, PrintableFacts, PrintableStatus, RunStrategy,
    STABLE_SECONDS, Seconds, StateChangeRequest, Verdict, VmView, VmiView, VolumeProblem, decide,
    printable_status, restart, start, stop,
};
use proptest::prelude::*;

const NOW: Seconds = 1_000_000;

fn vm(run_strategy: RunStrategy) -> VmView {
    VmView {
        run_strategy,
        deleting: false,
        spec_digest: "one".to_owned(),
        requests: Vec::new(),
        observed_run_strategy: Some(run_strategy),
        back_off: BackOff::default(),
    }
}

/// A run that became Running an hour ago, and ended just now if its phase says so.
fn run(phase: Phase) -> VmiView {
    let was_running = !phase.is_starting();
    VmiView {
        uid: "u1".to_owned(),
        phase,
        running_since: was_running.then_some(NOW - 3600),
        ended_at: phase.is_final().then_some(NOW),
        acpi: true,
        grace_seconds: 30,
        ..VmiView::default()
    }
}

fn stop_request(uid: &str) -> StateChangeRequest {
    StateChangeRequest::Stop {
        uid: uid.to_owned(),
    }
}

const START: StateChangeRequest = StateChangeRequest::Start { paused: false };

fn action(vm: &VmView, vmi: Option<&VmiView>) -> Action {
    decide(vm, vmi, &Facts::default(), NOW).action
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Wait { .. } => "wait",
        Action::Create { paused: false } => "create",
        Action::Create { paused: true } => "create paused",
        Action::Delete { .. } => "delete",
        Action::Finalize => "finalize",
    }
}

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

/// A run that ended after so many seconds of Running.
fn short_run(uid: &str, phase: Phase, lasted: Option<Seconds>, now: Seconds) -> VmiView {
    VmiView {
        uid: uid.to_owned(),
        running_since: lasted.map(|s| now - s),
        ended_at: Some(now),
        ..run(phase)
    }
}

#[test]
fn a_guest_that_boots_and_dies_is_backed_off_too() {
    let mut view = vm(RunStrategy::Always);
    for (n, wait) in [
        (1, 10),
        (2, 40),
        (3, 90),
        (4, 160),
        (5, 250),
        (6, 300),
        (7, 300),
    ] {
        let ended = short_run(&format!("u{n}"), Phase::Succeeded, Some(20), NOW);
        let decision = decide(&view, Some(&ended), &Facts::default(), NOW);
        assert_eq!(
            (decision.back_off.consecutive, decision.back_off.retry_after),
            (n, Some(NOW + wait))
        );
        view.back_off = decision.back_off;
        let again = decide(&view, Some(&ended), &Facts::default(), NOW + 1);
        assert_eq!(again.back_off, view.back_off, "a run is counted once");
        let waiting = decide(&view, None, &Facts::default(), NOW + wait - 1);
        assert_eq!(
            (kind(&waiting.action), waiting.again_at),
            ("wait", Some(NOW + wait))
        );
        assert_eq!(
            kind(&decide(&view, None, &Facts::default(), NOW + wait).action),
            "create"
        );
    }
}

#[test]
fn five_minutes_of_running_or_a_changed_spec_clear_the_back_off() {
    let failing = BackOff {
        consecutive: 3,
        last_failed_uid: Some("u0".to_owned()),
        retry_after: Some(NOW + 90),
        spec_digest: "one".to_owned(),
    };
    let view = VmView {
        back_off: failing,
        ..vm(RunStrategy::Always)
    };
    let young = VmiView {
        running_since: Some(NOW - 10),
        ..run(Phase::Running)
    };
    let decision = decide(&view, Some(&young), &Facts::default(), NOW);
    assert_eq!(
        (decision.back_off.consecutive, decision.again_at),
        (3, Some(NOW - 10 + STABLE_SECONDS))
    );
    let old = VmiView {
        running_since: Some(NOW - STABLE_SECONDS),
        ..run(Phase::Running)
    };
    assert_eq!(
        decide(&view, Some(&old), &Facts::default(), NOW).back_off,
        BackOff::default()
    );
    let changed = VmView {
        spec_digest: "two".to_owned(),
        ..view.clone()
    };
    let decision = decide(&changed, None, &Facts::default(), NOW);
    assert_eq!(
        (kind(&decision.action), decision.back_off.consecutive),
        ("create", 0)
    );
    let halted = VmView {
        run_strategy: RunStrategy::Halted,
        ..view
    };
    assert_eq!(
        decide(&halted, None, &Facts::default(), NOW)
            .back_off
            .consecutive,
        0
    );
}

#[test]
fn a_guest_that_shuts_itself_down_ends_the_row_of_failures() {
    let mut view = vm(RunStrategy::RerunOnFailure);
    let failed = short_run("u1", Phase::Failed, Some(5), NOW);
    view.back_off = decide(&view, Some(&failed), &Facts::default(), NOW).back_off;
    assert_eq!(view.back_off.consecutive, 1);
    let done = short_run("u2", Phase::Succeeded, Some(5), NOW + 20);
    let decision = decide(&view, Some(&done), &Facts::default(), NOW + 20);
    assert_eq!(
        (decision.back_off.consecutive, decision.back_off.retry_after),
        (0, None)
    );
    view.back_off = decision.back_off;
    let again = decide(&view, Some(&failed), &Facts::default(), NOW + 21);
    assert_eq!(
        again.back_off.consecutive, 0,
        "a run that was counted is not counted again"
    );
}

#[test]
fn a_run_that_somebody_ended_has_not_failed() {
    let deleted = VmiView {
        deleting: true,
        ..short_run("u1", Phase::Failed, Some(5), NOW)
    };
    assert_eq!(
        decide(
            &vm(RunStrategy::Always),
            Some(&deleted),
            &Facts::default(),
            NOW
        )
        .back_off,
        BackOff::default()
    );
    let done = short_run("u1", Phase::Succeeded, Some(5), NOW);
    assert_eq!(
        decide(
            &vm(RunStrategy::RerunOnFailure),
            Some(&done),
            &Facts::default(),
            NOW
        )
        .back_off,
        BackOff::default()
    );
}

#[test]
fn printable_status_has_the_peers_precedence() {
    let none = PrintableFacts::default();
    let failing = BackOff {
        consecutive: 1,
        ..BackOff::default()
    };
    let with = |vmi: VmiView| Some(vmi);
    let sync = |reason: &str| {
        with(VmiView {
            sync_failure: Some(reason.to_owned()),
            ..run(Phase::Pending)
        })
    };
    let volumes = |problem| PrintableFacts {
        volumes: Some(problem),
        ..none
    };
    let always = vm(RunStrategy::Always);
    let crashing = VmView {
        back_off: failing,
        ..always.clone()
    };
    let table = [
        (
            VmView {
                deleting: true,
                ..always.clone()
            },
            with(run(Phase::Running)),
            none,
            PrintableStatus::Terminating,
        ),
        (
            always.clone(),
            with(VmiView {
                deleting: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Stopping,
        ),
        (
            always.clone(),
            with(run(Phase::Running)),
            PrintableFacts {
                deleting: true,
                ..none
            },
            PrintableStatus::Stopping,
        ),
        (
            always.clone(),
            with(VmiView {
                migrating: true,
                paused: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Migrating,
        ),
        (
            always.clone(),
            with(VmiView {
                paused: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Paused,
        ),
        (
            always.clone(),
            with(run(Phase::Running)),
            volumes(VolumeProblem::Failed),
            PrintableStatus::Running,
        ),
        (
            always.clone(),
            sync("FailedPvcNotFound"),
            none,
            PrintableStatus::ErrorPvcNotFound,
        ),
        (
            always.clone(),
            sync("ErrImagePull"),
            volumes(VolumeProblem::Failed),
            PrintableStatus::DataVolumeError,
        ),
        (
            always.clone(),
            with(VmiView {
                unschedulable: true,
                ..run(Phase::Scheduling)
            }),
            none,
            PrintableStatus::ErrorUnschedulable,
        ),
        (
            always.clone(),
            None,
            volumes(VolumeProblem::Provisioning),
            PrintableStatus::Provisioning,
        ),
        (
            always.clone(),
            None,
            volumes(VolumeProblem::Unbound),
            PrintableStatus::WaitingForVolumeBinding,
        ),
        (
            vm(RunStrategy::Halted),
            None,
            volumes(VolumeProblem::Unbound),
            PrintableStatus::Stopped,
        ),
        (
            always.clone(),
            sync("ErrImagePull"),
            none,
            PrintableStatus::ErrImagePull,
        ),
        (
            always.clone(),
            sync("ImagePullBackOff"),
            none,
            PrintableStatus::ImagePullBackOff,
        ),
        (
            always.clone(),
            with(run(Phase::Pending)),
            none,
            PrintableStatus::Starting,
        ),
        (
            crashing.clone(),
            None,
            PrintableFacts {
                creating: true,
                ..none
            },
            PrintableStatus::Starting,
        ),
        (
            crashing.clone(),
            None,
            none,
            PrintableStatus::CrashLoopBackOff,
        ),
        (
            crashing.clone(),
            with(run(Phase::Failed)),
            none,
            PrintableStatus::CrashLoopBackOff,
        ),
        (
            VmView {
                run_strategy: RunStrategy::Manual,
                ..crashing
            },
            None,
            none,
            PrintableStatus::Stopped,
        ),
        (
            always.clone(),
            with(run(Phase::Succeeded)),
            none,
            PrintableStatus::Stopped,
        ),
        (
            always,
            with(run(Phase::Unknown)),
            none,
            PrintableStatus::Unknown,
        ),
    ];
    for (vm, vmi, facts, expected) in table {
        assert_eq!(
            printable_status(&vm, vmi.as_ref(), &facts),
            expected,
            "{vm:?} {vmi:?}"
        );
    }
}

fn message(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted(changes) => format!("accepted {}", changes.len()),
        Verdict::Ignored(message) => format!("ignored: {message}"),
        Verdict::Denied { code, message } => format!("{code}: {message}"),
    }
}

#[test]
fn second_start_is_ignored() {
    for strategy in RunStrategy::ALL {
        let verdict = start(&vm(strategy), Some(&run(Phase::Running)), false);
        assert_eq!(message(&verdict), "ignored: VM is already running");
    }
}

#[test]
fn verbs_answer_in_the_peers_words() {
    use RunStrategy::{Always, Halted, Manual, Once, RerunOnFailure};
    let live = run(Phase::Running);
    let over = run(Phase::Failed);
    let starts = [
        (Halted, None, "accepted 2"),
        (Manual, None, "accepted 2"),
        (RerunOnFailure, None, "accepted 2"),
        (
            RerunOnFailure,
            Some(&over),
            "409: RerunOnFailure does not support starting VM from failed state",
        ),
        (
            Always,
            None,
            "409: Always does not support manual start requests",
        ),
        (
            Once,
            Some(&over),
            "409: Once does not support manual start requests",
        ),
    ];
    for (strategy, vmi, expected) in starts {
        assert_eq!(
            message(&start(&vm(strategy), vmi, false)),
            expected,
            "start {strategy}"
        );
    }
    let stops = [
        (Always, Some(&live), None, "accepted 1"),
        (Once, None, None, "accepted 1"),
        (Manual, Some(&live), None, "accepted 2"),
        (Manual, Some(&live), Some(5), "accepted 3"),
        (Manual, None, None, "ignored: VM is not running"),
        (
            RerunOnFailure,
            Some(&over),
            None,
            "ignored: VM is not running",
        ),
        (Halted, None, None, "ignored: VM is not running"),
        (
            Halted,
            Some(&live),
            None,
            "409: Halted only supports manual stop requests with a shorter graceperiod",
        ),
        (
            Halted,
            Some(&live),
            Some(60),
            "409: Halted only supports manual stop requests with a shorter graceperiod",
        ),
        (Halted, Some(&live), Some(5), "accepted 1"),
    ];
    for (strategy, vmi, grace, expected) in stops {
        assert_eq!(
            message(&stop(&vm(strategy), vmi, grace)),
            expected,
            "stop {strategy} {grace:?}"
        );
    }
    let restarts = [
        (Always, Some(&live), None, "accepted 2"),
        (Always, Some(&live), Some(0), "accepted 3"),
        (
            Always,
            Some(&live),
            Some(7),
            "400: For force restart, only gracePeriod=0 is supported for now",
        ),
        (Always, None, None, "409: VM is not running"),
        (
            Halted,
            Some(&live),
            None,
            "409: Halted does not support manual restart requests",
        ),
        (
            Once,
            Some(&live),
            None,
            "409: Once does not support manual restart requests",
        ),
    ];
    for (strategy, vmi, grace, expected) in restarts {
        assert_eq!(
            message(&restart(&vm(strategy), vmi, grace)),
            expected,
            "restart {strategy} {grace:?}"
        );
    }
}

#[test]
fn requests_wait_for_those_before_them() {
    let busy = VmView {
        requests: vec![stop_request("u1"), START],
        ..vm(RunStrategy::Manual)
    };
    let live = run(Phase::Running);
    assert_eq!(
        message(&restart(&busy, Some(&live), None)),
        "409: unable to complete request: stop/start already underway"
    );
    let stopping = VmView {
        requests: vec![stop_request("u1")],
        ..busy
    };
    assert_eq!(
        restart(&stopping, Some(&live), None),
        Verdict::Accepted(vec![
            Change::Requests(vec![stop_request("u1"), START]),
            Change::ClearBackOff
        ])
    );
}

#[test]
fn instance_verbs_need_a_running_guest() {
    use catamaran_lifecycle::{pause, reset, soft_reboot, unpause};
    let live = run(Phase::Running);
    let paused = VmiView {
        paused: true,
        ..live.clone()
    };
    let mute = VmiView {
        acpi: false,
        ..live.clone()
    };
    let probed = VmiView {
        liveness_probe: true,
        ..live.clone()
    };
    let over = run(Phase::Succeeded);
    for (verdict, expected) in [
        (pause(&live), "accepted 1"),
        (pause(&paused), "ignored: VMI is already paused"),
        (
            pause(&probed),
            "403: Pausing VMIs with LivenessProbe is currently not supported",
        ),
        (pause(&over), "409: VMI is not running"),
        (unpause(&paused), "accepted 1"),
        (unpause(&live), "ignored: VMI is not paused"),
        (soft_reboot(&live), "accepted 1"),
        (soft_reboot(&paused), "409: VMI is paused"),
        (
            soft_reboot(&mute),
            "409: VMI neither have the agent connected nor the ACPI feature enabled",
        ),
        (reset(&live), "accepted 1"),
        (reset(&over), "409: VMI is not running"),
    ] {
        assert_eq!(message(&verdict), expected);
    }
}

/// What happens to a machine in a random history.
#[derive(Debug, Clone)]
enum Event {
    Pass(Seconds),
    Phase(Phase),
    Strategy(RunStrategy),
    Start,
    Stop,
    Restart,
    Edit(u8),
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0i64..400).prop_map(Event::Pass),
        4 => prop::sample::select(Phase::ALL.to_vec()).prop_map(Event::Phase),
        2 => prop::sample::select(RunStrategy::ALL.to_vec()).prop_map(Event::Strategy),
        1 => Just(Event::Start),
        1 => Just(Event::Stop),
        1 => Just(Event::Restart),
        1 => any::<u8>().prop_map(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

/// A shell that carries out decisions at once, and stores what they say.
struct Shell {
    vm: VmView,
    vmi: Option<VmiView>,
    now: Seconds,
    runs: u32,
    /// A process outlives its instance until the next tick.
    alive: bool,
}

impl Shell {
    fn apply(&mut self, verdict: Verdict) {
        let Verdict::Accepted(changes) = verdict else {
            return;
        };
        for change in changes {
            match change {
                Change::RunStrategy(strategy) => self.vm.run_strategy = strategy,
                Change::Requests(requests) => self.vm.requests = requests,
                Change::ClearBackOff => self.vm.back_off = BackOff::default(),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Pass(seconds) => self.now += seconds,
            Event::Phase(phase) => {
                let now = self.now;
                if let Some(vmi) = self.vmi.as_mut().filter(|v| !v.phase.is_final()) {
                    if *phase == Phase::Running && vmi.running_since.is_none() {
                        vmi.running_since = Some(now);
                    }
                    vmi.ended_at = phase.is_final().then_some(now);
                    vmi.phase = *phase;
                }
            }
            Event::Strategy(strategy) => self.vm.run_strategy = *strategy,
            Event::Start => self.apply(start(&self.vm, self.vmi.as_ref(), false)),
            Event::Stop => self.apply(stop(&self.vm, self.vmi.as_ref(), None)),
            Event::Restart => self.apply(restart(&self.vm, self.vmi.as_ref(), None)),
            Event::Edit(digest) => self.vm.spec_digest = digest.to_string(),
            Event::Delete => self.vm.deleting = true,
        }
    }

    fn tick(&mut self) -> Result<Action, TestCaseError> {
        let facts = Facts {
            earlier_run_alive: self.alive,
            jitter_permille: 500,
        };
        let before = (self.vmi.clone(), self.vm.clone());
        let decision = decide(&self.vm, self.vmi.as_ref(), &facts, self.now);
        prop_assert_eq!(
            &decision,
            &decide(&self.vm, self.vmi.as_ref(), &facts, self.now),
            "pure"
        );
        match &decision.action {
            Action::Create { .. } => {
                prop_assert!(
                    before.0.is_none() && !self.alive,
                    "created beside a live run: {:?}",
                    before
                );
                prop_assert!(!self.vm.deleting);
                prop_assert!(self.vm.run_strategy != RunStrategy::Halted);
                prop_assert!(
                    !self.vm.run_strategy.starts_by_itself()
                        || decision
                            .back_off
                            .retry_after
                            .is_none_or(|at| at <= self.now),
                    "created during back-off"
                );
                self.runs += 1;
                self.vmi = Some(VmiView {
                    uid: format!("u{}", self.runs),
                    ..VmiView::default()
                });
            }
            Action::Delete { uid, .. } => {
                let vmi = self.vmi.as_mut().expect("only an instance is deleted");
                prop_assert_eq!(uid, &vmi.uid);
                prop_assert!(!vmi.deleting, "deleted twice");
                vmi.deleting = true;
            }
            Action::Finalize => prop_assert!(self.vm.deleting && self.vmi.is_none() && !self.alive),
            Action::Nothing | Action::Wait { .. } => {}
        }
        if let Action::Wait { reason } = &decision.action {
            prop_assert!(!reason.is_empty());
        }
        if let Some(at) = decision.back_off.retry_after {
            prop_assert!(
                at <= self.now + 300,
                "nobody waits longer than five minutes"
            );
        }
        self.vm.requests = decision.requests;
        self.vm.back_off = decision.back_off;
        self.vm.observed_run_strategy = decision.observed_run_strategy;
        if let Some(strategy) = decision.rewrite {
            self.vm.run_strategy = strategy;
        }
        Ok(decision.action)
    }

    /// An instance that has been asked to go is gone, and a moment later its processes too.
    fn reap(&mut self) {
        self.alive = false;
        if self.vmi.as_ref().is_some_and(|v| v.deleting) {
            self.vmi = None;
            self.alive = true;
        }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(strategy in prop::sample::select(RunStrategy::ALL.to_vec()), events in prop::collection::vec(event(), 0..60)) {
        let mut shell = Shell { vm: VmView { observed_run_strategy: None, ..vm(strategy) }, vmi: None, now: NOW, runs: 0, alive: false };
        for event in &events {
            shell.event(event);
            shell.tick()?;
            shell.reap();
        }
        // Left alone, with every run ending badly at once or staying up, it comes to rest or waits for a time.
        shell.vm.deleting = false;
        for _ in 0..8 {
            shell.tick()?;
            shell.reap();
            shell.now += 301;
        }
        let at_rest = shell.tick()?;
        let live = shell.vmi.is_some();
        match shell.vm.run_strategy {
            RunStrategy::Halted => prop_assert!(!live, "{at_rest:?}"),
            RunStrategy::Always | RunStrategy::Once => prop_assert!(live, "{at_rest:?}"),
            RunStrategy::Manual | RunStrategy::RerunOnFailure => prop_assert!(matches!(at_rest, Action::Nothing), "{at_rest:?}"),
        }
    }
}
