//! An inventory in words. Pure.

use catamaran_api::metal3::{HardwareDetails, Nic, Storage};
use catamaran_client::Table;
use catamaran_client::table::printable;

/// The inventory, each line behind this indentation.
pub(super) fn text(hardware: &HardwareDetails, indent: &str) -> String {
    let mut lines = Vec::new();
    let mut line = |head: &str, words: Vec<String>| {
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        if !words.is_empty() {
            lines.push(format!("{head:<12} {}", printable(&words.join(", "))));
        }
    };
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(vendor) = &hardware.system_vendor {
        let serial = vendor.serial_number.as_ref();
        line(
            "System:",
            vec![
                word(&vendor.manufacturer),
                word(&vendor.product_name),
                serial
                    .map(|serial| format!("serial {serial}"))
                    .unwrap_or_default(),
            ],
        );
    }
    if let Some(bios) = hardware
        .firmware
        .as_ref()
        .and_then(|firmware| firmware.bios.as_ref())
    {
        line(
            "Firmware:",
            vec![word(&bios.vendor), word(&bios.version), word(&bios.date)],
        );
    }
    if let Some(cpu) = &hardware.cpu {
        let count = cpu
            .count
            .map(|count| format!("{count} x"))
            .unwrap_or_default();
        let model = format!("{count} {}", word(&cpu.model)).trim().to_owned();
        line("Processors:", vec![model, word(&cpu.arch)]);
    }
    let memory = hardware
        .ram_mebibytes
        .map(|mebibytes| format!("{mebibytes} MiB"));
    line("Memory:", memory.into_iter().collect());
    line(
        "Host name:",
        hardware.hostname.clone().into_iter().collect(),
    );
    for (head, table) in [
        ("NICs:", nics(&hardware.nics)),
        ("Disks:", disks(&hardware.storage)),
    ] {
        if !table.is_empty() {
            lines.push(head.to_owned());
            lines.extend(table.to_string().lines().map(|line| format!("  {line}")));
        }
    }
    if lines.is_empty() {
        lines.push("nothing is known".to_owned());
    }
    lines
        .iter()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}

fn nics(nics: &[Nic]) -> Table {
    let mut table = Table::new(&["NAME", "MAC", "SPEED", "BOOTS", "IP"]);
    for nic in nics {
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        let speed = nic.speed_gbps.map(|speed| format!("{speed} Gbit/s"));
        let boots = if nic.pxe == Some(true) { "yes" } else { "" };
        table.row([
            word(&nic.name),
            word(&nic.mac),
            speed.unwrap_or_default(),
            boots.to_owned(),
            word(&nic.ip),
        ]);
    }
    table
}

fn disks(disks: &[Storage]) -> Table {
    let mut table = Table::new(&["NAME", "SIZE", "TYPE", "MODEL", "SERIAL"]);
    for disk in disks {
        let word = |text: &Option<String>| text.clone().unwrap_or_default();
        let size = disk
            .size_bytes
            .map(|bytes| format!("{} GB", bytes / 1_000_000_000));
        table.row([
            word(&disk.name),
            size.unwrap_or_default(),
            word(&disk.type_),
            word(&disk.model),
            word(&disk.serial_number),
        ]);
    }
    table
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::host::golden;

    pub(crate) fn server() -> Value {
        json!({
            "systemVendor": {"manufacturer": "Dell Inc.", "productName": "R650", "serialNumber": "7X"},
            "firmware": {"bios": {"vendor": "Dell Inc.", "version": "1.9.2", "date": "2025-05-01"}},
            "cpu": {"arch": "x86_64", "count": 64, "model": "Xeon Gold"}, "ramMebibytes": 262_144, "hostname": "rack1",
            "nics": [{"name": "eno1", "mac": "02:00:00:00:00:01", "speedGbps": 25, "pxe": true}, {"name": "eno2", "mac": "02:00:00:00:00:02"}],
            "storage": [{"name": "/dev/sda", "sizeBytes": 480_103_981_056_i64, "type": "SSD", "model": "MZ7", "serialNumber": "S1"}],
        })
    }

    #[test]
    fn an_inventory_is_told_in_lines_and_tables() {
        let details = serde_json::from_value(server()).unwrap();
        golden("hardware.txt", &text(&details, ""));
        assert_eq!(
            text(&HardwareDetails::default(), "  "),
            "  nothing is known\n"
        );
    }
}
