//! Registering: the BMC answers with the credentials that were given.

use catamaran_api::metal3::BareMetalHost;

use super::inspecting::is_disabled;
use crate::annotations::{self, HARDWARE};
use crate::outcome::Step;
use crate::state::State;

pub(super) fn step(host: &BareMetalHost) -> Step {
    Step::to(if host.spec.externally_provisioned == Some(true) {
        State::ExternallyProvisioned
    } else if is_disabled(host) && annotations::get(host, HARDWARE).is_none() {
        State::Preparing
    } else {
        State::Inspecting
    })
}
