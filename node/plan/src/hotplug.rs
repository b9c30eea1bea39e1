//! Disks for a machine that runs: which place each gets, and the devices that are plugged in for it. Pure.

use std::collections::BTreeMap;

use catamaran_spec::{Bus, HotDisk, MachineSpec, Volume, VolumeSource};
use serde::{Deserialize, Serialize};

use crate::addresses::{Addresses, free_port};
use crate::alias;
use crate::disks::{self, Part};
use crate::draft::Draft;
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::given::{Given, GivenDisk, Identity};
use crate::io_threads::Threads;
use crate::plan::Plan;
use crate::volumes;

/// Alias of the SCSI controller that comes with the first SCSI disk. No disk has such a name.
const CONTROLLER: &str = "ua-hotplug_scsi";
/// Key of the SCSI controller that a machine may start with, in its addresses.
const SCSI: &str = "scsi0";
/// Most disks on the SCSI controller.
const MOST_UNITS: u32 = 256;

/// What was plugged into a machine since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plugged {
    /// PCI address of the SCSI controller; it stays when its last disk has gone.
    pub controller: Option<String>,
    /// Disks by volume.
    pub disks: BTreeMap<String, Slot>,
}

/// The place of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// `vdb`, `sda`, …
    pub target: String,
    /// Number on the SCSI bus.
    #[serde(default)]
    pub unit: Option<u32>,
    /// PCI address, for virtio.
    #[serde(default)]
    pub address: Option<String>,
}

/// A device to plug in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its name in libvirt and QEMU: one that is there already is not plugged in again.
    pub alias: String,
    /// libvirt's description.
    pub xml: String,
}

/// Name of a volume's disk in libvirt and QEMU.
#[must_use]
pub fn alias_of(volume: &str) -> String {
    alias::disk(volume)
}

/// What is to be plugged in for a disk, in order, and what is plugged in then. `plan`: what the machine runs; `plugged`: what came since. A disk
/// that is in there keeps its place.
///
/// # Errors
/// Why it can't be.
pub fn plug(
    spec: &MachineSpec,
    facts: &HostFacts,
    identity: &Identity,
    (hot, found): (&HotDisk, &GivenDisk),
    plan: &Plan,
    plugged: &Plugged,
) -> Result<(Plugged, Vec<Device>), Vec<PlanError>> {
    let name = &hot.disk.name;
    let field = format!("disk {name}");
    let wrong = |message: String| vec![PlanError::new(field.clone(), message)];
    let mut after = plugged.clone();
    let bus = hot.disk.target.bus();
    let stored = &plan.hardware.addresses;
    let mut devices = Vec::new();
    let given = Given {
        generation: plan.generation.clone(),
        identity: identity.clone(),
        disks: BTreeMap::from([(name.clone(), found.clone())]),
        absent: Vec::new(),
        nics: BTreeMap::new(),
        boot: None,
        config_keys: BTreeMap::new(),
        hardware: None,
        overlay_limit: None,
    };
    let mut draft = Draft::new(spec, facts, &given);
    let threads = Threads::default();
    if bus == Bus::Scsi && !stored.contains_key(SCSI) {
        let address = match &after.controller {
            Some(address) => address.clone(),
            None => free(plan, &after).map_err(wrong)?,
        };
        let pci = address.parse().map_err(wrong)?;
        let element = disks::scsi_controller(&draft, &threads)
            .child(crate::xml::Element::new("alias").attr("name", CONTROLLER))
            .children(Addresses::of(SCSI, pci).element(SCSI));
        devices.push(Device {
            alias: CONTROLLER.to_owned(),
            xml: element.print(),
        });
        after.controller = Some(address);
    }
    let slot = match after.disks.get(name) {
        Some(slot) => slot.clone(),
        None => slot(spec, bus, plan, &after).map_err(wrong)?,
    };
    let addresses = match &slot.address {
        Some(address) => Addresses::of(&alias::disk(name), address.parse().map_err(wrong)?),
        None => Addresses::default(),
    };
    after.disks.insert(name.clone(), slot.clone());
    let volume = Volume {
        name: name.clone(),
        source: VolumeSource::PersistentVolumeClaim {
            claim: hot.claim.clone(),
            read_only: hot.read_only,
        },
    };
    if let Some(source) = volumes::source(&mut draft, &volume, &hot.disk) {
        disks::check(&mut draft, &field, &hot.disk, &source);
        let unit = slot.unit.unwrap_or_default();
        let part = Part::for_running(&hot.disk, source, &slot.target, unit);
        let element = disks::element(&draft, &part, &addresses, &threads);
        devices.push(Device {
            alias: alias::disk(name),
            xml: element.print(),
        });
    }
    if draft.errors.is_empty() {
        Ok((after, devices))
    } else {
        Err(draft.errors)
    }
}

/// A place for a disk that has none yet.
fn slot(spec: &MachineSpec, bus: Bus, plan: &Plan, plugged: &Plugged) -> Result<Slot, String> {
    let started = plan.domain_xml.split("<target dev='").skip(1);
    let mut taken: Vec<&str> = started.filter_map(|rest| rest.split('\'').next()).collect();
    taken.extend(plugged.disks.values().map(|slot| slot.target.as_str()));
    let target = (0..)
        .map(|index| disks::target(bus, index))
        .find(|target| !taken.contains(&target.as_str()))
        .unwrap_or_default();
    if bus == Bus::Virtio {
        return Ok(Slot {
            target,
            unit: None,
            address: Some(free(plan, plugged)?),
        });
    }
    let of_start = spec.disks.iter().filter(|d| d.target.bus() == Bus::Scsi);
    let of_start = u32::try_from(of_start.count()).unwrap_or(MOST_UNITS);
    let later: Vec<u32> = plugged
        .disks
        .values()
        .filter_map(|slot| slot.unit)
        .collect();
    let unit = (of_start..MOST_UNITS).find(|unit| !later.contains(unit));
    Ok(Slot {
        target,
        unit: Some(unit.ok_or_else(|| format!("the SCSI bus has {MOST_UNITS} disks already"))?),
        address: None,
    })
}

/// Address of a root port that is free.
fn free(plan: &Plan, plugged: &Plugged) -> Result<String, String> {
    let disks = plugged.disks.values();
    let later: Vec<&str> = disks
        .filter_map(|slot| slot.address.as_deref())
        .chain(plugged.controller.as_deref())
        .collect();
    free_port(&plan.hardware.addresses, &later)
        .map(|address| address.to_string())
        .ok_or_else(|| {
            "no root port of the machine is free: unplug another disk, use bus scsi, which needs one port for all its disks, or restart the machine"
                .to_owned()
        })
}
