//! PCI addresses: every device has one that is written down, and keeps it.
//!
//! ```text
//! pcie.0  00.0 host bridge      built into q35
//!         01.0 screen
//!         02.0 … 0f.7           root ports: eight functions a slot, one bus each, one device a bus
//!         10.0 … 1e.0           conventional PCI devices (e1000, i6300esb, transitional virtio, …)
//!         1f.0 1f.2 1f.3        LPC, AHCI, SMBus: built into q35
//! ```
//! An address of an earlier run stays with its device for as long as the device exists, so that adding a disk does not rename the guest's
//! network interfaces. A few root ports stay empty for devices that come later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::error::PlanError;
use crate::xml::Element;

/// Root ports left empty for devices that are plugged in later.
pub(crate) const SPARE_ROOT_PORTS: u8 = 4;
/// Most root ports: what the slots 02 to 0f hold.
const MOST_ROOT_PORTS: u8 = 14 * 8;
/// Most root ports that a wished bus number may cause to be made.
const MOST_WISHED_BUS: u8 = 32;
const FIRST_PORT_SLOT: u8 = 0x02;
const FIRST_CONVENTIONAL_SLOT: u8 = 0x10;
const LAST_CONVENTIONAL_SLOT: u8 = 0x1e;
/// Where the screen is.
const SCREEN: Pci = Pci::on_root(0x01, 0);

/// A PCI address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pci {
    pub(crate) domain: u16,
    pub(crate) bus: u8,
    pub(crate) slot: u8,
    pub(crate) function: u8,
}

impl Pci {
    const fn on_root(slot: u8, function: u8) -> Self {
        Self {
            domain: 0,
            bus: 0,
            slot,
            function,
        }
    }

    const fn behind_port(bus: u8) -> Self {
        Self {
            domain: 0,
            bus,
            slot: 0,
            function: 0,
        }
    }

    /// `<address type='pci' …/>`.
    pub(crate) fn element(self) -> Element {
        Element::new("address")
            .attr("type", "pci")
            .attr("domain", format_args!("0x{:04x}", self.domain))
            .attr("bus", format_args!("0x{:02x}", self.bus))
            .attr("slot", format_args!("0x{:02x}", self.slot))
            .attr("function", format_args!("0x{:x}", self.function))
    }
}

impl fmt::Display for Pci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.slot, self.function
        )
    }
}

impl FromStr for Pci {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no PCI address such as 0000:01:00.0");
        let (rest, function) = text.rsplit_once('.').ok_or_else(wrong)?;
        let mut parts = rest.split(':');
        let (Some(domain), Some(bus), Some(slot), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let hex8 = |part: &str| u8::from_str_radix(part, 16).map_err(|_| wrong());
        let address = Self {
            domain: u16::from_str_radix(domain, 16).map_err(|_| wrong())?,
            bus: hex8(bus)?,
            slot: hex8(slot)?,
            function: hex8(function)?,
        };
        if address.slot > 0x1f || address.function > 7 {
            return Err(wrong());
        }
        Ok(address)
    }
}

/// Where a device may sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seat {
    /// Alone behind a root port.
    Express,
    /// On the root bus: conventional PCI devices.
    Conventional,
    /// The place of the screen.
    Screen,
}

/// A device that needs an address.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    /// Alias, or libvirt's name for controllers.
    pub(crate) key: String,
    /// Where it may sit.
    pub(crate) seat: Seat,
    /// (field path, address wished for by the manifest).
    pub(crate) wish: Option<(String, String)>,
}

/// Addresses of all devices and root ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    map: BTreeMap<String, Pci>,
    ports: u8,
}

impl Addresses {
    /// Of one device that comes later.
    pub(crate) fn of(key: &str, address: Pci) -> Self {
        Self {
            map: BTreeMap::from([(key.to_owned(), address)]),
            ports: 0,
        }
    }

    /// `<address>` of a device. Empty for a device that was never announced, which the golden tests would show.
    pub(crate) fn element(&self, key: &str) -> Option<Element> {
        self.map.get(key).map(|address| address.element())
    }

    /// Printed address of a device.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.map.get(key).map(ToString::to_string)
    }

    /// What is stored in [`crate::Hardware`]: devices and root ports.
    pub(crate) fn stored(&self) -> BTreeMap<String, String> {
        let ports = (1..=self.ports).map(|bus| (format!("pci.{bus}"), port_address(bus)));
        self.map
            .iter()
            .map(|(key, address)| (key.clone(), *address))
            .chain(ports)
            .map(|(key, address)| (key, address.to_string()))
            .collect()
    }

    /// The root complex and its root ports.
    pub(crate) fn controllers(&self) -> Vec<Element> {
        let root = Element::new("controller")
            .attr("type", "pci")
            .attr("index", 0)
            .attr("model", "pcie-root");
        let ports = (1..=self.ports).map(|bus| {
            let address = port_address(bus);
            let element = address.element();
            // Only function 0 says that the others are there.
            let element = if address.function == 0 {
                element.attr("multifunction", "on")
            } else {
                element
            };
            Element::new("controller")
                .attr("type", "pci")
                .attr("index", bus)
                .attr("model", "pcie-root-port")
                .child(Element::new("model").attr("name", "pcie-root-port"))
                .child(Element::new("target").attr("chassis", bus).attr(
                    "port",
                    format_args!("0x{:x}", address.slot * 8 + address.function),
                ))
                .child(element)
        });
        std::iter::once(root).chain(ports).collect()
    }
}

fn port_address(bus: u8) -> Pci {
    Pci::on_root(FIRST_PORT_SLOT + (bus - 1) / 8, (bus - 1) % 8)
}

/// Gives every device its address: a wished one, else the one of an earlier run, else the first free one.
pub(crate) fn assign(
    needs: &[Need],
    earlier: Option<&BTreeMap<String, String>>,
    spare: u8,
    errors: &mut Vec<PlanError>,
) -> Addresses {
    let mut taken: BTreeMap<Pci, String> = BTreeMap::new();
    let mut map: BTreeMap<String, Pci> = BTreeMap::new();
    for need in needs {
        let Some((field, text)) = &need.wish else {
            continue;
        };
        match wished(text, &taken) {
            Ok(address) => {
                taken.insert(address, field.clone());
                map.insert(need.key.clone(), address);
            }
            Err(message) => errors.push(PlanError::new(field.clone(), message)),
        }
    }
    for need in needs {
        let known = earlier
            .and_then(|all| all.get(&need.key))
            .and_then(|text| text.parse::<Pci>().ok());
        let Some(address) = known.filter(|address| {
            need.wish.is_none() && suits(*address, need.seat) && !taken.contains_key(address)
        }) else {
            continue;
        };
        taken.insert(address, need.key.clone());
        map.insert(need.key.clone(), address);
    }
    for need in needs {
        if need.wish.is_some() || map.contains_key(&need.key) {
            continue;
        }
        let Some(address) = candidates(need.seat).find(|address| !taken.contains_key(address))
        else {
            errors.push(PlanError::new(
                "spec.domain.devices",
                format!("no PCI slot is left for {}", need.key),
            ));
            continue;
        };
        taken.insert(address, need.key.clone());
        map.insert(need.key.clone(), address);
    }
    let used = map.values().map(|address| address.bus).max().unwrap_or(0);
    // A port that a guest has seen stays, also when its device is gone.
    let before = earlier.map_or(0, |all| {
        all.keys()
            .filter_map(|key| key.strip_prefix("pci.")?.parse().ok())
            .max()
            .unwrap_or(0)
    });
    let ports = used.saturating_add(spare).max(before).min(MOST_ROOT_PORTS);
    let clashes: BTreeSet<_> = (1..=ports)
        .map(port_address)
        .filter(|port| taken.contains_key(port))
        .collect();
    for clash in clashes {
        errors.push(PlanError::new(
            "spec.domain.devices",
            format!("{clash} ({}) is the place of a root port", taken[&clash]),
        ));
    }
    Addresses { map, ports }
}

/// The first root port of a machine that runs which has no device, by its `stored` addresses and those that devices got later.
pub(crate) fn free_port(stored: &BTreeMap<String, String>, later: &[&str]) -> Option<Pci> {
    let port = |key: &str| key.strip_prefix("pci.")?.parse::<u8>().ok();
    let ports = stored.keys().filter_map(|key| port(key)).max()?;
    let devices = stored.iter().filter(|(key, _)| port(key).is_none());
    let taken: BTreeSet<Pci> = devices
        .map(|(_, address)| address.as_str())
        .chain(later.iter().copied())
        .filter_map(|address| address.parse().ok())
        .collect();
    let mut all = (1..=ports).map(Pci::behind_port);
    all.find(|address| !taken.contains(address))
}

fn suits(address: Pci, seat: Seat) -> bool {
    match seat {
        Seat::Express => address.bus > 0 && address.bus <= MOST_ROOT_PORTS,
        Seat::Conventional => {
            address.bus == 0
                && (FIRST_CONVENTIONAL_SLOT..=LAST_CONVENTIONAL_SLOT).contains(&address.slot)
        }
        Seat::Screen => address == SCREEN,
    }
}

fn candidates(seat: Seat) -> Box<dyn Iterator<Item = Pci>> {
    match seat {
        Seat::Express => Box::new((1..=MOST_ROOT_PORTS).map(Pci::behind_port)),
        Seat::Conventional => Box::new(
            (FIRST_CONVENTIONAL_SLOT..=LAST_CONVENTIONAL_SLOT).map(|slot| Pci::on_root(slot, 0)),
        ),
        Seat::Screen => Box::new(std::iter::once(SCREEN)),
    }
}

fn wished(text: &str, taken: &BTreeMap<Pci, String>) -> Result<Pci, String> {
    let address: Pci = text.parse()?;
    if let Some(other) = taken.get(&address) {
        return Err(format!("PCI address {address} is already taken by {other}"));
    }
    if address.domain != 0 {
        return Err(format!(
            "PCI address {address}: the machine has domain 0000 only"
        ));
    }
    let free_on_root = address.function == 0
        && (FIRST_CONVENTIONAL_SLOT..=LAST_CONVENTIONAL_SLOT).contains(&address.slot);
    match address.bus {
        0 if free_on_root => Ok(address),
        0 => Err(format!(
            "PCI address {address} is reserved; on bus 00 the slots 10 to 1e, function 0, are free"
        )),
        1..=MOST_WISHED_BUS if address.slot == 0 && address.function == 0 => Ok(address),
        1..=MOST_WISHED_BUS => Err(format!(
            "PCI address {address}: a bus behind a root port has slot 00 and function 0 only"
        )),
        _ => Err(format!(
            "PCI address {address}: buses 00 to {MOST_WISHED_BUS:02x} (hexadecimal) can be asked for"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(key: &str, seat: Seat) -> Need {
        Need {
            key: key.into(),
            seat,
            wish: None,
        }
    }

    fn wish(key: &str, address: &str) -> Need {
        Need {
            key: key.into(),
            seat: Seat::Express,
            wish: Some((key.into(), address.into())),
        }
    }

    #[test]
    fn devices_get_a_root_port_each_and_some_stay_spare() {
        let mut errors = vec![];
        let all = assign(
            &[
                need("a", Seat::Express),
                need("b", Seat::Express),
                need("old", Seat::Conventional),
            ],
            None,
            4,
            &mut errors,
        );
        assert!(errors.is_empty());
        assert_eq!(all.text("a").as_deref(), Some("0000:01:00.0"));
        assert_eq!(all.text("b").as_deref(), Some("0000:02:00.0"));
        assert_eq!(all.text("old").as_deref(), Some("0000:00:10.0"));
        assert_eq!(all.controllers().len(), 1 + 2 + 4);
    }

    #[test]
    fn a_device_keeps_its_address_when_another_one_comes_before_it() {
        let mut errors = vec![];
        let first = assign(&[need("nic", Seat::Express)], None, 2, &mut errors).stored();
        let second = assign(
            &[need("disk", Seat::Express), need("nic", Seat::Express)],
            Some(&first),
            2,
            &mut errors,
        );
        assert_eq!(second.text("nic").as_deref(), Some("0000:01:00.0"));
        assert_eq!(second.text("disk").as_deref(), Some("0000:02:00.0"));
        assert!(errors.is_empty());
    }

    #[test]
    fn a_device_that_comes_later_gets_a_port_that_is_free() {
        let mut errors = vec![];
        let stored = assign(&[need("nic", Seat::Express)], None, 2, &mut errors).stored();
        let free = |later: &[&str]| free_port(&stored, later).map(|address| address.to_string());
        assert_eq!(free(&[]).as_deref(), Some("0000:02:00.0"));
        assert_eq!(free(&["0000:02:00.0"]).as_deref(), Some("0000:03:00.0"));
        assert_eq!(free(&["0000:02:00.0", "0000:03:00.0"]), None);
    }

    #[test]
    fn a_device_that_became_conventional_leaves_its_root_port() {
        let mut errors = vec![];
        let first = assign(&[need("nic", Seat::Express)], None, 0, &mut errors).stored();
        let second = assign(
            &[need("nic", Seat::Conventional)],
            Some(&first),
            0,
            &mut errors,
        );
        assert_eq!(second.text("nic").as_deref(), Some("0000:00:10.0"));
    }

    #[test]
    fn the_ninth_port_is_the_first_function_of_the_next_slot() {
        assert_eq!(port_address(8).to_string(), "0000:00:02.7");
        assert_eq!(port_address(9).to_string(), "0000:00:03.0");
        assert_eq!(port_address(MOST_ROOT_PORTS).to_string(), "0000:00:0f.7");
    }

    #[test]
    fn two_wishes_for_one_address_are_refused_by_name() {
        let mut errors = vec![];
        assign(
            &[wish("a", "0000:03:00.0"), wish("b", "0000:03:00.0")],
            None,
            0,
            &mut errors,
        );
        assert_eq!(
            errors,
            [PlanError::new(
                "b",
                "PCI address 0000:03:00.0 is already taken by a"
            )]
        );
    }

    #[test]
    fn places_that_the_machine_does_not_have_are_refused() {
        for (address, part) in [
            ("0000:00:1f.0", "reserved"),
            ("0000:03:01.0", "slot 00"),
            ("0001:01:00.0", "domain 0000"),
            ("0000:81:00.0", "buses 00 to"),
            ("3:0", "no PCI address"),
        ] {
            let mut errors = vec![];
            assign(&[wish("a", address)], None, 0, &mut errors);
            assert!(errors[0].message.contains(part), "{address}: {errors:?}");
        }
    }

    #[test]
    fn a_wish_makes_the_ports_up_to_its_bus() {
        let mut errors = vec![];
        let all = assign(
            &[wish("a", "0000:05:00.0"), need("b", Seat::Express)],
            None,
            0,
            &mut errors,
        );
        assert_eq!(all.ports, 5);
        assert_eq!(all.text("b").as_deref(), Some("0000:01:00.0"));
    }
}
