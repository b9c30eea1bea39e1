//! Deprovisioning: off, and nothing of the last use left where it could boot.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use super::job;
use crate::data::Data;
use crate::deploy::Job;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Off, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    let deleting = host.metadata.deletion_timestamp.is_some();
    let to = if deleting {
        State::PoweringOff
    } else {
        State::Available
    };
    let given = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.image.as_ref());
    if facts.job == Some(Job::Clean) {
        let put_away = || Step::after(job::put_away().into(), to);
        return job::step(State::Deprovisioning, facts, seen, put_away);
    }
    if given.is_some() {
        return Step::after(job::put_away().into(), to);
    }
    let off = (seen.power != PowerState::Off).then_some(Action::PowerOff(Off::Hard));
    let cd = (facts.data == Data::Detach).then_some(Action::DetachData);
    Step::after(off.into_iter().chain(cd).collect(), to)
}
