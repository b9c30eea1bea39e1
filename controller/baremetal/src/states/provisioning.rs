//! Provisioning: a live ISO by virtual media, or an image by whatever writes images.

use catamaran_api::metal3::BareMetalHost;

use crate::deploy::{Progress, is_live_iso};
use crate::facts::Facts;
use crate::outcome::{Action, ErrorType, Off, Outcome, Step};
use crate::state::State;

pub(super) fn step(host: &BareMetalHost, facts: &Facts) -> Step {
    let given = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.image.as_ref());
    let Some(image) = &host.spec.image else {
        return Step::to(State::Deprovisioning);
    };
    if given.is_some_and(|given| given.url != image.url) {
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
    if let Some(refusal) = &facts.refusal {
        return Step::failed(ErrorType::Provisioning, refusal);
    }
    match &facts.progress {
        Progress::None => Step {
            actions: vec![Action::Deploy],
            outcome: Outcome::Wait {
                reason: "Deploying",
                message: "writing the image has begun".to_owned(),
                again: 10,
            },
        },
        Progress::Working(message) => Step::wait("Deploying", message, 10),
        Progress::Done => Step::to(State::Provisioned),
        Progress::Failed(message) => Step::failed(ErrorType::Provisioning, message),
    }
}
