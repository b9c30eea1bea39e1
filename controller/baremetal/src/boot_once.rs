//! What a person wants a host to boot from, once: the annotation [`BOOT_ONCE`]. Pure.
//!
//! It is ordered right before the host is turned on, and is gone then. Where our own work decides what a host boots from it is refused and
//! taken away, so that it does not come true at some later start that nobody thinks of.

use catamaran_api::metal3::BareMetalHost;
use catamaran_redfish::BootDevice;

use crate::annotations::{self, BOOT_ONCE};
use crate::deploy::is_live_iso;
use crate::outcome::Action;
use crate::state::State;

/// Values of the annotation.
const WORDS: [(&str, BootDevice); 4] = [
    ("cd", BootDevice::Cd),
    ("pxe", BootDevice::Pxe),
    ("disk", BootDevice::Disk),
    ("bios-setup", BootDevice::Setup),
];

/// The word for a device.
pub(crate) fn word(device: BootDevice) -> &'static str {
    let found = WORDS.iter().find(|(_, known)| *known == device);
    found.map_or("network", |(word, _)| word)
}

/// What comes before a host is turned on, if something is asked for.
pub(crate) fn before_power_on(host: &BareMetalHost) -> Vec<Action> {
    match asked(host) {
        Some(Ok(device)) => vec![
            Action::BootOnce(device),
            // Before the power: a start that fails still finds the BMC's order.
            Action::DropAnnotation(BOOT_ONCE.to_owned()),
        ],
        _ => Vec::new(),
    }
}

/// Why what is asked for does not come true, if it does not.
pub(crate) fn refusal(host: &BareMetalHost) -> Option<String> {
    asked(host)?.err()
}

/// What is asked for, or why it does not come true.
pub(crate) fn asked(host: &BareMetalHost) -> Option<Result<BootDevice, String>> {
    let value = annotations::get(host, BOOT_ONCE)?;
    let state = State::of(host);
    let Some((_, device)) = WORDS.iter().find(|(word, _)| *word == value) else {
        let allowed = WORDS.map(|(word, _)| word).join(", ");
        return Some(Err(format!(
            "metadata.annotations[{BOOT_ONCE}]: '{value}' is not allowed; allowed: {allowed}"
        )));
    };
    let given = host.status.as_ref();
    let given = given.and_then(|status| status.provisioning.image.as_ref());
    if !(state.in_use() || state == State::Available) {
        return Some(Err(format!(
            "metadata.annotations[{BOOT_ONCE}]: the host is {}, where it is decided for it what it boots from; a host that is available, \
             provisioned or externally provisioned can be asked",
            state.as_str()
        )));
    }
    if state == State::Provisioned && given.is_some_and(is_live_iso) {
        return Some(Err(format!(
            "metadata.annotations[{BOOT_ONCE}]: spec.image.format of the host is 'live-iso', which it boots from each time"
        )));
    }
    Some(Ok(*device))
}
