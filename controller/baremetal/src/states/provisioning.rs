//! Provisioning: a live ISO by virtual media, or an image by the deploy agent.

use catamaran_api::metal3::BareMetalHost;

use super::job;
use crate::deploy::is_live_iso;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Off, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    let given = host.status.as_ref().map(|status| &status.provisioning);
    let Some(image) = &host.spec.image else {
        return Step::to(State::Deprovisioning);
    };
    let others = given.is_some_and(|given| {
        given
            .image
            .as_ref()
            .is_some_and(|given| given.url != image.url)
            || given.root_device_hints != host.spec.root_device_hints
    });
    if others {
        return Step::to(State::Deprovisioning);
    }
    if is_live_iso(image) {
        // Off first: a boot order that is given to a running system may be lost.
        let actions = vec![
            Action::PowerOff(Off::Hard),
            Action::InsertCd(image.url.clone()),
            Action::BootCdOnce,
            Action::PowerOn,
        ];
        return Step::after(actions, State::Provisioned);
    }
    job::step(State::Provisioning, facts, seen, || {
        let mut actions = vec![Action::NoteDisk];
        actions.extend(job::put_away());
        Step::after(actions, State::Provisioned)
    })
}
