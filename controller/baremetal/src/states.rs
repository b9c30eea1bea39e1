//! The states, one module each. A handler gets the host and the facts, and says what is to be done.

mod available;
mod data;
mod deleting;
mod deprovisioning;
mod externally_provisioned;
mod inspecting;
mod job;
mod powering_off;
mod preparing;
mod provisioned;
mod provisioning;
mod registering;
mod unmanaged;

use catamaran_api::metal3::BareMetalHost;

use crate::facts::{Contact, Facts, Seen};
use crate::outcome::Step;
use crate::state::State;

pub(crate) fn handle(state: State, host: &BareMetalHost, facts: &Facts) -> Step {
    match state {
        State::New | State::Unmanaged => unmanaged::step(host, state),
        State::Registering => with(state, facts, |_| registering::step(host)),
        State::Inspecting => with(state, facts, |seen| inspecting::step(host, facts, seen)),
        State::Preparing => with(state, facts, |seen| preparing::step(host, facts, seen)),
        State::Available => with(state, facts, |seen| available::step(host, facts, seen)),
        State::Provisioning => with(state, facts, |seen| provisioning::step(host, facts, seen)),
        State::Provisioned => with(state, facts, |seen| provisioned::step(host, facts, seen)),
        State::ExternallyProvisioned => with(state, facts, |seen| {
            externally_provisioned::step(host, facts, seen)
        }),
        State::Deprovisioning => with(state, facts, |seen| deprovisioning::step(host, facts, seen)),
        State::PoweringOff => with(state, facts, |seen| powering_off::step(host, facts, seen)),
        State::Deleting => deleting::step(),
    }
}

/// The step of a state that needs the BMC's answer.
fn with(state: State, facts: &Facts, step: impl FnOnce(&Seen) -> Step) -> Step {
    match (&facts.contact, &facts.login) {
        (Contact::Answers(seen), _) => step(seen),
        (Contact::Failed(trouble), _) => Step::failed(state.error_type(), &trouble.message),
        (Contact::NotAsked, crate::facts::Login::Unusable(why)) => {
            Step::failed(state.error_type(), why)
        }
        (Contact::NotAsked, _) => Step::failed(state.error_type(), "the BMC was not asked"),
    }
}

/// How the host is to boot.
pub(crate) fn wanted_boot_mode(host: &BareMetalHost) -> &str {
    preparing::wanted(host)
}
