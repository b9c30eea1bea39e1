//! Preparing: the firmware boots as the spec says.

use catamaran_api::metal3::BareMetalHost;

use crate::outcome::{Action, ErrorType, Step};
use crate::state::State;

/// How a host boots that does not say.
const BOOT_MODE: &str = "UEFI";
const SECURE: &str = "UEFISecureBoot";

pub(super) fn step(host: &BareMetalHost) -> Step {
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
    Step::after(actions, State::Available)
}

/// How the host is to boot.
pub(crate) fn wanted(host: &BareMetalHost) -> &str {
    host.spec.boot_mode.as_deref().unwrap_or(BOOT_MODE)
}
