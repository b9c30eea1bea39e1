//! New and unmanaged: without a BMC there is nothing to do.

use catamaran_api::metal3::BareMetalHost;

use crate::outcome::Step;
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, state: State) -> Step {
    match &host.spec.bmc {
        Some(bmc) if !bmc.address.is_empty() => Step::to(State::Registering),
        _ if state == State::New => Step::to(State::Unmanaged),
        _ => Step::wait("NoBmc", "spec.bmc is not given", 600),
    }
}
