//! Run strategies, requests, back-off, statuses: tables, and properties that hold for every history.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

mod back_off;
mod histories;
mod printable;
mod strategies;
mod verbs;

use catamaran_lifecycle::{
    Action, BackOff, Facts, Phase, RunStrategy, Seconds, StateChangeRequest, VmView, VmiView,
    decide,
};

pub(crate) const NOW: Seconds = 1_000_000;

pub(crate) fn vm(run_strategy: RunStrategy) -> VmView {
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
pub(crate) fn run(phase: Phase) -> VmiView {
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

pub(crate) fn stop_request(uid: &str) -> StateChangeRequest {
    StateChangeRequest::Stop {
        uid: uid.to_owned(),
    }
}

pub(crate) const START: StateChangeRequest = StateChangeRequest::Start { paused: false };

pub(crate) fn action(vm: &VmView, vmi: Option<&VmiView>) -> Action {
    decide(vm, vmi, &Facts::default(), NOW).action
}

pub(crate) fn kind(action: &Action) -> &'static str {
    match action {
        Action::Nothing => "nothing",
        Action::Wait { .. } => "wait",
        Action::Create { paused: false } => "create",
        Action::Create { paused: true } => "create paused",
        Action::Delete { .. } => "delete",
        Action::Finalize => "finalize",
    }
}
