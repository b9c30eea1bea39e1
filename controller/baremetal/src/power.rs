//! Power: what the spec and the annotations ask for, and what brings the host there.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use crate::annotations::{self, FENCED, REBOOT, Reboot};
use crate::back_off::jitter;
use crate::boot_once;
use crate::facts::{Seconds, Seen};
use crate::outcome::{Action, ErrorType, Off, Step};
use crate::state::State;

/// Pause between two looks at a host where nothing is to be done.
const POLL: Seconds = 60;
/// The same while power is on its way.
const SOON: Seconds = 5;

/// What brings the host's power to where it should be. `boot`: what comes before it is turned on.
pub(crate) fn manage(host: &BareMetalHost, seen: &Seen, boot: &[Action]) -> Step {
    let asked = Reboot::of(host, State::of(host).in_use());
    let wanted = host.spec.online && !asked.hold;
    let failed_before = host.status.as_ref().is_some_and(|status| {
        status.error_type.as_deref() == Some(ErrorType::PowerManagement.as_str())
    });
    // What did not listen the first time is not asked again.
    let off = if asked.hard || failed_before {
        Off::Hard
    } else {
        Off::Soft
    };
    let mut step = Step::done(Some(
        POLL + POLL * jitter(host.metadata.uid.as_deref().unwrap_or_default()) / 10_000,
    ));
    match &seen.power {
        PowerState::On => {
            if annotations::get(host, FENCED).is_some() {
                step.actions.push(Action::DropAnnotation(FENCED.to_owned()));
            }
            if wanted && !asked.once {
                return step;
            }
            if host.spec.disable_power_off == Some(true) {
                return Step::failed(
                    ErrorType::PowerManagement,
                    "the host is to be turned off, which spec.disablePowerOff forbids",
                );
            }
            step.actions.push(Action::PowerOff(off));
            if asked.once {
                // Once it is off the reboot can't be forgotten any more: being on is what the spec asks for.
                step.actions.push(Action::DropAnnotation(REBOOT.to_owned()));
            }
            if wanted {
                step.actions.extend(turned_on(host, boot));
            }
            step
        }
        PowerState::Off => {
            if asked.once {
                step.actions.push(Action::DropAnnotation(REBOOT.to_owned()));
            }
            if wanted {
                step.actions.extend(turned_on(host, boot));
            }
            step
        }
        PowerState::PoweringOn | PowerState::PoweringOff => Step::wait(
            "PowerChanging",
            format!("the host's power is {}", seen.power),
            SOON,
        ),
        PowerState::Unknown(_) => Step::failed(
            ErrorType::PowerManagement,
            format!("the host's power state is {}", seen.power),
        ),
    }
}

fn turned_on(host: &BareMetalHost, boot: &[Action]) -> Vec<Action> {
    let mut actions = boot.to_vec();
    actions.extend(boot_once::before_power_on(host));
    actions.push(Action::PowerOn);
    actions
}
