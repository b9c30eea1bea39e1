//! Looks at the hardware: reads `/sys` and `/proc` below a given root, so that recorded trees can be read in tests.

mod disks;
mod nics;
mod path;

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use catamaran_deploy_wire::{Bios, Cpu, Disk, Firmware, Inventory, SystemVendor};

/// The inventory of the machine whose `/sys` and `/proc` are below `root`.
///
/// `addresses`: card and address; `towards`: the address from which the controller is reached.
#[must_use]
pub fn read(root: &Path, addresses: &[(String, IpAddr)], towards: Option<IpAddr>) -> Inventory {
    let dmi = |name: &str| text(&root.join("sys/class/dmi/id").join(name));
    Inventory {
        system_vendor: SystemVendor {
            manufacturer: dmi("sys_vendor"),
            product_name: dmi("product_name"),
            serial_number: dmi("product_serial"),
        },
        firmware: Firmware {
            bios: Bios {
                date: dmi("bios_date"),
                vendor: dmi("bios_vendor"),
                version: dmi("bios_version"),
            },
        },
        ram_mebibytes: memory(root),
        nics: nics::read(root, addresses, towards),
        storage: disks::read(root),
        cpu: cpu(root),
        hostname: hostname(root),
    }
}

/// The disks alone.
#[must_use]
pub fn disks(root: &Path) -> Vec<Disk> {
    disks::read(root)
}

/// A file's text without what stands around it; empty where it can't be read.
fn text(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned()
        })
        .unwrap_or_default()
}

/// Of all memory that the firmware hands over, also what the kernel keeps for itself.
fn memory(root: &Path) -> u64 {
    let folder = root.join("sys/devices/system/memory");
    let block = u64::from_str_radix(&text(&folder.join("block_size_bytes")), 16).unwrap_or(0);
    let blocks = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .and_then(|name| name.strip_prefix("memory"))
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        })
        .count() as u64;
    if block > 0 && blocks > 0 {
        return (block >> 20) * blocks;
    }
    text(&root.join("proc/meminfo"))
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .map_or(0, |kib| kib >> 10)
}

fn cpu(root: &Path) -> Cpu {
    let info = text(&root.join("proc/cpuinfo"));
    let field = |name: &str| {
        info.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let highest = text(&root.join("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"))
        .parse::<f64>()
        .map(|khz| khz / 1000.0);
    let mut flags: Vec<String> = field("flags")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    flags.sort_unstable();
    let count = info
        .lines()
        .filter(|line| {
            line.split_once(':')
                .is_some_and(|(key, _)| key.trim() == "processor")
        })
        .count();
    Cpu {
        arch: std::env::consts::ARCH.to_owned(),
        model: field("model name"),
        clock_megahertz: highest
            .or_else(|_| field("cpu MHz").parse())
            .unwrap_or_default(),
        flags,
        count: u32::try_from(count).unwrap_or(u32::MAX),
    }
}

fn hostname(root: &Path) -> String {
    let name = text(&root.join("proc/sys/kernel/hostname"));
    if name == "(none)" {
        String::new()
    } else {
        name
    }
}

#[cfg(test)]
mod tests;
