//! Disks of a host: from `Storage` and its drives, else from `SimpleStorage`.

use crate::bmc::Bmc;
use crate::error::Error;
use crate::inventory::{Disk, DiskKind, name};
use crate::resource::Resource;

impl Bmc {
    pub(crate) async fn disks(&self, system: &Resource) -> Result<Vec<Disk>, Error> {
        let by_drives = self.drives(system).await;
        match by_drives {
            Ok(disks) if !disks.is_empty() => Ok(disks),
            other => {
                // Some fail at Storage (500) and know their disks nevertheless.
                let simple = self.simple_disks(system).await?;
                if simple.is_empty() { other } else { Ok(simple) }
            }
        }
    }

    async fn drives(&self, system: &Resource) -> Result<Vec<Disk>, Error> {
        let mut found: Vec<Disk> = Vec::new();
        let Some(collection) = system.link("/Storage") else {
            return Ok(found);
        };
        for storage in self.read_members(collection).await? {
            for path in storage.links("/Drives") {
                let drive = self.read(&path).await?;
                // Without a state there is a drive all the same.
                if drive.text("/Status/State") == Some("Absent") {
                    continue;
                }
                found.push(disk(&drive));
            }
        }
        Ok(found)
    }

    async fn simple_disks(&self, system: &Resource) -> Result<Vec<Disk>, Error> {
        let mut found = Vec::new();
        let Some(collection) = system.link("/SimpleStorage") else {
            return Ok(found);
        };
        for storage in self.read_members(collection).await? {
            let devices = storage.body["Devices"].as_array();
            for device in devices.into_iter().flatten() {
                let text = |name: &str| {
                    let text = device[name].as_str()?.trim();
                    (!text.is_empty()).then(|| text.to_owned())
                };
                if device["Status"]["State"] == "Absent" {
                    continue;
                }
                found.push(Disk {
                    name: text("Name").unwrap_or_default(),
                    bytes: device["CapacityBytes"].as_u64(),
                    vendor: text("Manufacturer"),
                    model: text("Model"),
                    ..Disk::default()
                });
            }
        }
        Ok(found)
    }
}

fn disk(drive: &Resource) -> Disk {
    let text = |pointer: &str| drive.text(pointer).map(str::to_owned);
    let kind = match (drive.text("/Protocol"), drive.text("/MediaType")) {
        (Some("NVMe" | "PCIe"), _) => Some(DiskKind::Nvme),
        (_, Some("SSD")) => Some(DiskKind::Ssd),
        (_, Some("HDD")) => Some(DiskKind::Hdd),
        _ => None,
    };
    let identifiers = drive.body["Identifiers"].as_array();
    let wwn = identifiers.into_iter().flatten().find(|identifier| {
        matches!(
            identifier["DurableNameFormat"].as_str(),
            Some("NAA" | "EUI" | "NGUID")
        )
    });
    Disk {
        name: name(drive),
        bytes: drive.body["CapacityBytes"].as_u64(),
        kind,
        vendor: text("/Manufacturer"),
        model: text("/Model"),
        serial: text("/SerialNumber"),
        wwn: wwn.and_then(|identifier| Some(identifier["DurableName"].as_str()?.to_owned())),
    }
}
