//! Devices that come and go while the machine runs. What was plugged in is written down, so that the next launcher knows their names.

use catamaran_plan::hotplug::Device;
use catamaran_sandbox::records;
use catamaran_wire::{Unplugged, WireError};

use crate::hypervisor::Control;
use crate::places::Places;

/// Plugs devices in, in order; those that are there already are left alone.
///
/// # Errors
/// The hypervisor's refusal of the first that can't be.
pub async fn plug(
    control: &Control,
    places: &Places,
    devices: Vec<Device>,
) -> Result<(), WireError> {
    for device in devices {
        let new = device.clone();
        control
            .call(move |hypervisor| hypervisor.plug(&new))
            .await?;
        let mut known = known(places);
        known.retain(|known| known.alias != device.alias);
        known.push(device);
        remember(places, &known);
    }
    Ok(())
}

/// Whether a device is gone; with `ask`, the guest is asked to let it go.
///
/// # Errors
/// When it can't be asked.
pub async fn unplug(
    control: &Control,
    places: &Places,
    alias: String,
    ask: bool,
) -> Result<Unplugged, WireError> {
    let name = alias.clone();
    let unplugged = control
        .call(move |hypervisor| hypervisor.unplug(&name, ask))
        .await?;
    if unplugged == Unplugged::Gone {
        let mut known = known(places);
        if known.iter().any(|known| known.alias == alias) {
            known.retain(|known| known.alias != alias);
            remember(places, &known);
        }
    }
    Ok(unplugged)
}

/// What was plugged in since the start.
#[must_use]
pub fn known(places: &Places) -> Vec<Device> {
    records::load(&places.plugged())
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Names are all that depends on it.
fn remember(places: &Places, known: &[Device]) {
    if let Err(error) = records::store(&places.plugged(), &known) {
        tracing::warn!(%error, "what is plugged in is not recorded");
    }
}
