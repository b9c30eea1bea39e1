//! Externally provisioned: in use, and set up by something else. Only power is managed.

use catamaran_api::metal3::BareMetalHost;

use crate::facts::Seen;
use crate::outcome::Step;
use crate::power;
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, seen: &Seen) -> Step {
    if host.spec.externally_provisioned != Some(true) {
        return Step::to(State::Provisioned);
    }
    power::manage(host, seen, &[])
}
