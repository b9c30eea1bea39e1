//! Answers to start, stop, restart and the verbs of an instance.

use catamaran_lifecycle::{
    Change, Phase, RunStrategy, Verdict, VmView, VmiView, restart, start, stop,
};

use crate::{START, run, stop_request, vm};

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
