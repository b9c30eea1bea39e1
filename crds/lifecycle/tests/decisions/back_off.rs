//! Runs that fail wait longer and longer for the next one, and what ends that.

use catamaran_lifecycle::{
    BackOff, Facts, Phase, RunStrategy, STABLE_SECONDS, Seconds, VmView, VmiView, decide,
};

use crate::{NOW, kind, run, vm};

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
fn a_guest_that_boots_and_dies_is_started_at_once_and_then_later_and_later() {
    let mut view = vm(RunStrategy::Always);
    for (n, wait) in [
        (1, 0),
        (2, 10),
        (3, 40),
        (4, 90),
        (5, 160),
        (6, 250),
        (7, 300),
        (8, 300),
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
        if wait > 0 {
            let waiting = decide(&view, None, &Facts::default(), NOW + wait - 1);
            assert_eq!(
                (kind(&waiting.action), waiting.again_at),
                ("wait", Some(NOW + wait))
            );
        }
        assert_eq!(
            kind(&decide(&view, None, &Facts::default(), NOW + wait).action),
            "create"
        );
    }
}

#[test]
fn a_run_that_never_was_running_delays_the_next_one() {
    let ended = short_run("u1", Phase::Failed, None, NOW);
    let decision = decide(
        &vm(RunStrategy::Always),
        Some(&ended),
        &Facts::default(),
        NOW,
    );
    assert_eq!(decision.back_off.retry_after, Some(NOW + 10));
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
