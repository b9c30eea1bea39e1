//! Inspecting: what the host is made of, as its BMC knows, as the deploy agent sees, or as somebody says who has looked before.

use catamaran_api::metal3::BareMetalHost;

use super::job;
use crate::annotations::{self, HARDWARE, INSPECT};
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    if annotations::get(host, HARDWARE).is_some() {
        let mut adopt = vec![
            Action::AdoptInventory,
            Action::DropAnnotation(HARDWARE.to_owned()),
        ];
        if facts.job.is_some() {
            adopt.extend(job::put_away());
        }
        return Step::after(adopt, State::Preparing);
    }
    if is_disabled(host) {
        return Step::to(State::Preparing);
    }
    if facts.job.is_none() {
        return Step::after(vec![Action::Inspect], State::Preparing);
    }
    job::step(State::Inspecting, facts, seen, || {
        let mut actions = vec![Action::TakeInventory];
        actions.extend(job::put_away());
        Step::after(actions, State::Preparing)
    })
}

/// By the spec, or by the annotation that was there before it.
pub(super) fn is_disabled(host: &BareMetalHost) -> bool {
    host.spec.inspection_mode.as_deref() == Some("disabled")
        || annotations::get(host, INSPECT) == Some("disabled")
}
