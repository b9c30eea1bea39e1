//! Provisioned: in use. Power is managed; another image, or none, ends the use.

use catamaran_api::metal3::BareMetalHost;

use super::data;
use crate::deploy::is_live_iso;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    let given = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.image.as_ref());
    let wanted = host.spec.image.as_ref();
    if wanted.map(|image| &image.url) != given.map(|image| &image.url) || wanted.is_none() {
        return Step::to(State::Deprovisioning);
    }
    // A live ISO leaves nothing on the disk to boot from.
    let boot: &[Action] = match given {
        Some(image) if is_live_iso(image) => &[Action::BootCdOnce],
        _ => &[],
    };
    data::manage(host, facts, seen, boot)
}
