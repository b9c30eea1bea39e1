//! What a host is made of, as far as its BMC knows.
//!
//! BMCs leave out, leave empty, or fail at single parts. A part that can't be read is a gap with a reason, not a failed inspection; only the
//! system itself must be readable.

use serde_json::Value;

use crate::bmc::Bmc;
use crate::discovery::Identity;
use crate::error::{Error, Kind};
use crate::resource::Resource;

/// A host's hardware.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inventory {
    /// Who made it.
    pub identity: Identity,
    /// Version of its firmware.
    pub bios_version: Option<String>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// Its processors.
    pub processors: Processors,
    /// Network interfaces, with MAC addresses in lower case; those without one are left out.
    pub nics: Vec<Nic>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Host name, where an agent of the vendor told the BMC.
    pub hostname: Option<String>,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

/// Processors of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processors {
    /// As Linux calls it: `x86_64`, `aarch64`; else in the BMC's words.
    pub arch: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Greatest clock rate in MHz.
    pub megahertz: Option<u64>,
    /// Processors in sockets.
    pub sockets: u64,
    /// Cores of all.
    pub cores: Option<u64>,
    /// Threads of all: what an operating system counts.
    pub threads: Option<u64>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nic {
    /// The BMC's name for it.
    pub name: String,
    /// MAC address, such as `52:54:00:bb:00:01`.
    pub mac: String,
    /// Speed in Mbit/s.
    pub speed_mbps: Option<u64>,
    /// Whether it has a link; none where the BMC does not say.
    pub link: Option<bool>,
    /// VLAN it is on.
    pub vlan: Option<u64>,
}

/// Kinds of disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// It turns.
    Hdd,
    /// It does not.
    Ssd,
    /// It does not, and sits on PCI Express.
    Nvme,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// The BMC's name for it.
    pub name: String,
    /// Size in bytes.
    pub bytes: Option<u64>,
    /// Kind; none where the BMC does not say.
    pub kind: Option<DiskKind>,
    /// Vendor.
    pub vendor: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World-wide name (NAA or EUI), as the BMC writes it.
    pub wwn: Option<String>,
}

impl Bmc {
    /// Reads what the host is made of.
    ///
    /// # Errors
    /// All that reading the system can meet, and any loss of the BMC on the way; other failures become gaps.
    pub async fn inventory(&self) -> Result<Inventory, Error> {
        let bmc = self.bounded();
        let identity = bmc.identity().await?;
        let system = bmc.system_resource().await?;
        let mut gaps = Vec::new();
        let processors = gap(bmc.processors(&system).await, "processors", &mut gaps)?;
        let nics = gap(bmc.nics(&system).await, "network interfaces", &mut gaps)?;
        let disks = gap(bmc.disks(&system).await, "disks", &mut gaps)?;
        let mut memory_mib = memory(&system);
        if memory_mib.is_none() {
            memory_mib = gap(bmc.modules(&system).await, "memory", &mut gaps)?;
        }
        Ok(Inventory {
            identity,
            bios_version: system.text("/BiosVersion").map(str::to_owned),
            memory_mib,
            processors: with_summary(processors, &system),
            nics,
            disks,
            hostname: system.text("/HostName").map(str::to_owned),
            gaps,
        })
    }

    async fn processors(&self, system: &Resource) -> Result<Processors, Error> {
        let mut found = Processors::default();
        let Some(collection) = system.link("/Processors") else {
            return Ok(found);
        };
        let sum = |total: &mut Option<u64>, part: &Value| {
            if let Some(part) = part.as_u64() {
                *total = Some(total.unwrap_or(0) + part);
            }
        };
        for processor in self.read_members(collection).await? {
            let kind = processor.text("/ProcessorType").unwrap_or("CPU");
            if kind != "CPU" || processor.text("/Status/State") == Some("Absent") {
                continue;
            }
            found.sockets += 1;
            sum(&mut found.cores, &processor.body["TotalCores"]);
            sum(&mut found.threads, &processor.body["TotalThreads"]);
            let text = |pointer: &str| processor.text(pointer).map(str::to_owned);
            found.model = found.model.or_else(|| text("/Model"));
            found.arch = found
                .arch
                .or_else(|| text("/InstructionSet"))
                .or_else(|| text("/ProcessorArchitecture"));
            found.megahertz = found.megahertz.max(processor.body["MaxSpeedMHz"].as_u64());
        }
        found.arch = found.arch.map(|arch| match arch.as_str() {
            "x86-64" | "x86" => "x86_64".to_owned(),
            "ARM-A64" | "ARM" => "aarch64".to_owned(),
            _ => arch,
        });
        Ok(found)
    }

    async fn nics(&self, system: &Resource) -> Result<Vec<Nic>, Error> {
        let mut found: Vec<Nic> = Vec::new();
        let Some(collection) = system.link("/EthernetInterfaces") else {
            return Ok(found);
        };
        for nic in self.read_members(collection).await? {
            let address = ["/PermanentMACAddress", "/MACAddress"]
                .into_iter()
                .find_map(|pointer| mac(nic.text(pointer)?));
            let Some(mac) = address else { continue };
            if found.iter().any(|known| known.mac == mac) {
                continue;
            }
            found.push(Nic {
                name: name(&nic),
                mac,
                speed_mbps: nic.body["SpeedMbps"].as_u64().filter(|speed| *speed > 0),
                link: nic.text("/LinkStatus").map(|status| status == "LinkUp"),
                vlan: nic.body.pointer("/VLAN/VLANId").and_then(Value::as_u64),
            });
        }
        Ok(found)
    }

    /// Sum of the memory modules, for BMCs whose summary is empty.
    async fn modules(&self, system: &Resource) -> Result<Option<u64>, Error> {
        let Some(collection) = system.link("/Memory") else {
            return Ok(None);
        };
        let modules = self.read_members(collection).await?;
        let sum: u64 = modules
            .iter()
            .filter_map(|module| module.body["CapacityMiB"].as_u64())
            .sum();
        Ok((sum > 0).then_some(sum))
    }
}

/// The BMC's name for a part: its id, which is unique, unlike its name.
pub(crate) fn name(resource: &Resource) -> String {
    let id = resource.text("/Id").or_else(|| resource.text("/Name"));
    id.unwrap_or_else(|| resource.path.rsplit('/').next().unwrap_or_default())
        .to_owned()
}

/// Turns a failed part into a gap; a BMC that is lost, or throws us out, is lost for all parts, and so is one whose connection was closed.
pub(crate) fn gap<T: Default>(
    result: Result<T, Error>,
    what: &str,
    gaps: &mut Vec<String>,
) -> Result<T, Error> {
    match result {
        Err(error)
            if !matches!(
                error.kind(),
                Kind::Credentials | Kind::Trust | Kind::Unreachable
            ) && !matches!(error, Error::Closed { .. }) =>
        {
            gaps.push(format!("{what}: {error}"));
            Ok(T::default())
        }
        other => other,
    }
}

fn memory(system: &Resource) -> Option<u64> {
    let summary = system
        .body
        .pointer("/MemorySummary/TotalSystemMemoryGiB")?
        .as_f64()?;
    // Some give fractions; f64 holds every size there is exactly.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    (summary > 0.0 && summary < 1e9).then(|| (summary * 1024.0).round() as u64)
}

/// Fills what the processors did not say from the system's summary.
fn with_summary(mut processors: Processors, system: &Resource) -> Processors {
    let summary = &system.body["ProcessorSummary"];
    let number = |name: &str| summary[name].as_u64().filter(|number| *number > 0);
    if processors.sockets == 0 {
        processors.sockets = number("Count").unwrap_or(0);
    }
    processors.cores = processors.cores.or_else(|| number("CoreCount"));
    processors.threads = processors
        .threads
        .or_else(|| number("LogicalProcessorCount"));
    processors.model = processors
        .model
        .or_else(|| system.text("/ProcessorSummary/Model").map(str::to_owned));
    processors
}

/// A MAC address in the usual form; none for what is none, or all zeros.
fn mac(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | '-' | '.'))
        .collect::<String>()
        .to_lowercase();
    if digits.len() != 12
        || !digits.chars().all(|c| c.is_ascii_hexdigit())
        || digits == "000000000000"
    {
        return None;
    }
    let pairs: Vec<&str> = (0..12).step_by(2).map(|at| &digits[at..at + 2]).collect();
    Some(pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_have_one_form_and_empty_ones_are_none() {
        assert_eq!(
            mac("52-54-00-BB-00-01").as_deref(),
            Some("52:54:00:bb:00:01")
        );
        assert_eq!(mac("525400BB0001").as_deref(), Some("52:54:00:bb:00:01"));
        for none in [
            "",
            "00:00:00:00:00:00",
            "52:54:00:bb:00",
            "N/A",
            "52:54:00:bb:00:0g",
        ] {
            assert_eq!(mac(none), None, "{none}");
        }
    }
}
