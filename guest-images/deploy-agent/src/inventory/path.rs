//! Names of disks that stay the same from boot to boot: what udev calls the path to a disk, made from its place in `/sys/devices`.

/// The name below `/dev/disk/by-path` of a disk, from its folder in `/sys/devices` and the number of its ATA port where it has one.
///
/// Known: virtio, NVMe, ATA, and SCSI and RAID adapters on PCI. None for others (SAS expanders, USB, iSCSI): their disks go by serial
/// number or world wide name.
pub(super) fn by_path(device: &str, ata_port: Option<u32>) -> Option<String> {
    let parts: Vec<&str> = device.split('/').filter(|part| !part.is_empty()).collect();
    let place = parts.iter().rposition(|part| is_pci(part))?;
    let (pci, rest) = (parts[place], &parts[place + 1..]);
    let first = rest.first()?;
    let tail = if first.starts_with("virtio") && rest.get(1) == Some(&"block") {
        String::new()
    } else if *first == "nvme" {
        let disk = rest.last()?;
        let number = disk.rsplit_once('n')?.1;
        format!("-nvme-{}", number.parse::<u32>().ok()?)
    } else if let Some(port) = ata_port {
        format!("-ata-{port}")
    } else if rest.iter().any(|part| {
        ["usb", "session", "rport", "end_device", "port-"]
            .iter()
            .any(|other| part.starts_with(other))
    }) {
        return None;
    } else {
        let hctl = rest.iter().find(|part| is_hctl(part))?;
        // The number of the adapter changes with the order of drivers; there is one for each place on the bus here.
        let (_, target) = hctl.split_once(':')?;
        format!("-scsi-0:{target}")
    };
    Some(format!("/dev/disk/by-path/pci-{pci}{tail}"))
}

/// The last PCI address in a device's folder.
pub(super) fn pci_address(device: &str) -> Option<&str> {
    device.split('/').rfind(|part| is_pci(part))
}

/// `0:0:0:0`
pub(super) fn is_hctl(part: &str) -> bool {
    let numbers: Vec<&str> = part.split(':').collect();
    numbers.len() == 4
        && numbers
            .iter()
            .all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// `0000:3b:00.0`
fn is_pci(part: &str) -> bool {
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let Some((domain, rest)) = part.split_once(':') else {
        return false;
    };
    let Some((bus, rest)) = rest.split_once(':') else {
        return false;
    };
    let Some((slot, function)) = rest.split_once('.') else {
        return false;
    };
    domain.len() >= 4
        && hex(domain, domain.len())
        && hex(bus, 2)
        && hex(slot, 2)
        && hex(function, 1)
}

#[cfg(test)]
mod tests {
    use super::{by_path, pci_address};

    #[test]
    fn disks_are_named_as_udev_names_them() {
        for (device, port, wanted) in [
            (
                "/devices/pci0000:00/0000:00:03.0/virtio1/block/vda",
                None,
                Some("pci-0000:00:03.0"),
            ),
            (
                "/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/nvme/nvme0/nvme0n1",
                None,
                Some("pci-0000:3b:00.0-nvme-1"),
            ),
            (
                "/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda",
                Some(1),
                Some("pci-0000:00:1f.2-ata-1"),
            ),
            (
                "/devices/pci0000:00/0000:00:05.0/virtio2/host3/target3:0:1/3:0:1:2/block/sdb",
                None,
                Some("pci-0000:00:05.0-scsi-0:0:1:2"),
            ),
            (
                "/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.0/host2/target2:2:0/2:2:0:0/block/sdc",
                None,
                Some("pci-0000:3b:00.0-scsi-0:2:0:0"),
            ),
            (
                "/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sdd",
                None,
                None,
            ),
            ("/devices/virtual/block/md0", None, None),
        ] {
            let wanted = wanted.map(|name| format!("/dev/disk/by-path/{name}"));
            assert_eq!(by_path(device, port), wanted, "{device}");
        }
    }

    #[test]
    fn the_nearest_pci_device_counts() {
        let device = "/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/net/eth3";
        assert_eq!(pci_address(device), Some("0000:3b:00.1"));
        assert_eq!(pci_address("/devices/virtual/net/lo"), None);
    }
}
