//! Power of a host in use, with the CD of its `DataImage`.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use crate::boot_once;
use crate::data::Data;
use crate::facts::{Facts, Seen};
use crate::outcome::{Action, Step};
use crate::power;

/// What brings the host's power to where it should be; a CD is changed before it is turned on. `boot`: what comes then.
pub(super) fn manage(host: &BareMetalHost, facts: &Facts, seen: &Seen, boot: &[Action]) -> Step {
    let change = match &facts.data {
        Data::Attach(url) => Some(Action::AttachData(url.clone())),
        Data::Detach => Some(Action::DetachData),
        Data::Settled | Data::Held { .. } => None,
    };
    let before: Vec<_> = change.into_iter().chain(boot.iter().cloned()).collect();
    let step = power::manage(host, seen, &before);
    match &facts.data {
        Data::Held { message, again } if step.actions.contains(&Action::PowerOn) => {
            let mut actions = step.actions;
            if seen.power == PowerState::Off {
                actions.clear();
            } else {
                // The reboot that was asked for ends when the CD can be changed.
                let once = boot_once::before_power_on(host);
                let later = |one: &Action| boot.contains(one) || once.contains(one);
                actions.retain(|one| *one != Action::PowerOn && !later(one));
            }
            let wait = Step::wait("DataImage", message, *again);
            Step { actions, ..wait }
        }
        _ => step,
    }
}
