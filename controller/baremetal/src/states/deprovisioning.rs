//! Deprovisioning: off, and nothing of the last use left where it could boot.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use crate::deploy::is_live_iso;
use crate::facts::Seen;
use crate::outcome::{Action, Off, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, seen: &Seen) -> Step {
    let mut actions = Vec::new();
    if seen.power != PowerState::Off {
        actions.push(Action::PowerOff(Off::Hard));
    }
    match host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.image.as_ref())
    {
        Some(image) if is_live_iso(image) => actions.extend([Action::EjectCd, Action::ClearBoot]),
        Some(_) => actions.push(Action::Undeploy),
        None => {}
    }
    let deleting = host.metadata.deletion_timestamp.is_some();
    let to = if deleting {
        State::PoweringOff
    } else {
        State::Available
    };
    Step::after(actions, to)
}
