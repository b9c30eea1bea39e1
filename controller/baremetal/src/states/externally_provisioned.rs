//! Externally provisioned: in use, and set up by something else. Only power is managed, and a CD; an inventory that is given is kept.

use catamaran_api::metal3::BareMetalHost;

use super::data;
use crate::annotations::{self, HARDWARE};
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Outcome, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    if host.spec.externally_provisioned != Some(true) {
        return Step::to(State::Provisioned);
    }
    let mut step = data::manage(host, facts, seen, &[]);
    // Power is looked after even if what is given can't be kept.
    if annotations::get(host, HARDWARE).is_some() && matches!(step.outcome, Outcome::Done { .. }) {
        step.actions.push(Action::AdoptInventory);
        step.actions
            .push(Action::DropAnnotation(HARDWARE.to_owned()));
    }
    step
}
