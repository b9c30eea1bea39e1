//! Preparing: the firmware boots as the spec says, and has the settings that are asked for.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::PowerState;

use crate::facts::{Facts, Seconds, Seen};
use crate::firmware::Firmware;
use crate::outcome::{Action, ErrorType, Off, Outcome, Step};
use crate::state::State;

/// How a host boots that does not say.
const BOOT_MODE: &str = "UEFI";
const SECURE: &str = "UEFISecureBoot";
/// Pause between two looks at firmware that takes its settings.
const POLL: Seconds = 10;
const REASON: &str = "FirmwareSettings";

pub(super) fn step(host: &BareMetalHost, facts: &Facts, seen: &Seen) -> Step {
    let raid = host.spec.raid.as_ref();
    let volumes = raid.is_some_and(|raid| {
        let hardware = raid.hardware_raid_volumes.as_ref();
        let software = raid.software_raid_volumes.as_ref();
        hardware.is_some_and(|all| !all.is_empty()) || software.is_some_and(|all| !all.is_empty())
    });
    if volumes {
        return Step::failed(
            ErrorType::Preparation,
            "spec.raid: volumes of several disks are not made; make them with the server's own tools and take spec.raid away",
        );
    }
    let was = host
        .status
        .as_ref()
        .and_then(|status| status.provisioning.boot_mode.as_deref());
    let mut actions = Vec::new();
    match (was, wanted(host)) {
        (was, SECURE) if was != Some(SECURE) => actions.push(Action::SecureBoot(true)),
        (Some(SECURE), wanted) if wanted != SECURE => actions.push(Action::SecureBoot(false)),
        _ => {}
    }
    let change = match &facts.firmware {
        Firmware::Settled => return Step::after(actions, State::Available),
        Firmware::Applied => {
            // It was turned on for its settings alone.
            if !host.spec.online && seen.power != PowerState::Off {
                actions.push(Action::PowerOff(Off::Hard));
            }
            return Step::after(actions, State::Available);
        }
        Firmware::Starting(why) => {
            let message = format!("the host starts with new settings: {why}");
            return Step::wait(REASON, message, POLL);
        }
        Firmware::Unreadable(why) => return Step::failed(ErrorType::Preparation, why),
        Firmware::Changed(change) => change,
    };
    if change.is_overdue(facts.now) {
        return Step::failed(
            ErrorType::Preparation,
            format!(
                "the firmware has started and not taken the settings of the HostFirmwareSettings: {}; see the host's console and the BMC's log",
                change.names()
            ),
        );
    }
    if change.ordered.is_some() {
        let message = format!("the host starts with new settings: {}", change.names());
        let mut step = Step::wait(REASON, message, POLL);
        // It takes them at a start.
        if seen.power == PowerState::Off {
            step.actions.push(Action::PowerOn);
        }
        return step;
    }
    if host.spec.disable_power_off == Some(true) {
        return Step::failed(
            ErrorType::Preparation,
            "firmware settings are taken by a start of the host, which spec.disablePowerOff forbids",
        );
    }
    actions.extend([
        Action::OrderFirmware(change.clone()),
        Action::PowerOff(Off::Hard),
        // Before it is on: power is not cut again while the firmware takes them.
        Action::NoteFirmware(change.clone()),
        Action::PowerOn,
    ]);
    Step {
        actions,
        outcome: Outcome::Wait {
            reason: REASON,
            message: format!("the host starts with new settings: {}", change.names()),
            again: POLL,
        },
    }
}

/// How the host is to boot.
pub(crate) fn wanted(host: &BareMetalHost) -> &str {
    host.spec.boot_mode.as_deref().unwrap_or(BOOT_MODE)
}
