//! Powering off before delete: what nobody looks after any more is left off.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use crate::data::Data;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Off, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    let stays = host.spec.disable_power_off == Some(true) || seen.power == PowerState::Off;
    let mut actions = if stays {
        Vec::new()
    } else {
        vec![Action::PowerOff(Off::Hard)]
    };
    if facts.data == Data::Detach {
        actions.push(Action::DetachData);
    }
    Step::after(actions, State::Deleting)
}
