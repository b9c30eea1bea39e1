//! Disks as the guest sees them: target names, buses, driver options, boot order.

use std::collections::BTreeMap;

use catamaran_spec::{Bus, CacheMode, Disk, DiskTarget, ErrorPolicy, IoMode};

use crate::addresses::{Addresses, Need, Seat};
use crate::alias;
use crate::draft::Draft;
use crate::io_threads::Threads;
use crate::volumes::{self, Source, SourceKind};
use crate::xml::Element;

/// Drives of one AHCI controller.
const SATA_PORTS: u32 = 6;
/// Ports of the USB controller.
const USB_PORTS: u32 = 15;

/// A disk with everything about it resolved besides its PCI address.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) source: Source,
    /// `vda`, `sda`, …
    target: String,
    /// Place on its bus, for the buses that are not PCI.
    unit: u32,
    boot_order: Option<u32>,
    cache: CacheMode,
}

impl<'a> Part<'a> {
    /// A disk for a machine that runs already.
    pub(crate) fn for_running(disk: &'a Disk, source: Source, target: &str, unit: u32) -> Self {
        Self {
            cache: cache(disk, &source),
            disk,
            source,
            target: target.to_owned(),
            unit,
            boot_order: None,
        }
    }

    pub(crate) fn bus(&self) -> Bus {
        self.disk.target.bus()
    }

    fn is_cdrom(&self) -> bool {
        matches!(self.disk.target, DiskTarget::Cdrom { .. })
    }
}

/// Resolves every disk in manifest order. `usb_ports_used` = ports that input devices have.
pub(crate) fn layout<'a>(draft: &mut Draft<'a>, usb_ports_used: u32) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    let (mut virtio, mut scsi_like) = (0, 0);
    let mut units: BTreeMap<Bus, u32> = BTreeMap::from([(Bus::Usb, usb_ports_used)]);
    let spec = draft.spec;
    for (index, disk) in spec.disks.iter().enumerate() {
        let field = format!("spec.domain.devices.disks[{index}]");
        let Some(volume) = spec.volume(&disk.name) else {
            draft.error(
                format!("{field}.name"),
                format!("no volume is called {:?}", disk.name),
            );
            continue;
        };
        let Some(source) = volumes::source(draft, volume, disk) else {
            continue;
        };
        check(draft, &field, disk, &source);
        let bus = disk.target.bus();
        let counter = if bus == Bus::Virtio {
            &mut virtio
        } else {
            &mut scsi_like
        };
        let target = target(bus, *counter);
        *counter += 1;
        let unit = units.entry(bus).or_default();
        let part = Part {
            cache: cache(disk, &source),
            disk,
            source,
            target,
            unit: *unit,
            boot_order: disk.boot_order,
        };
        *unit += 1;
        if bus == Bus::Usb && *unit > USB_PORTS {
            draft.error(&field, format!("more than {USB_PORTS} USB devices"));
        }
        parts.push(part);
    }
    boot_by_default(draft, &mut parts);
    parts
}

/// Without any order in the manifest: hard disks in manifest order, then CD-ROMs; seeds never.
fn boot_by_default(draft: &Draft<'_>, parts: &mut [Part<'_>]) {
    let spec = draft.spec;
    let ordered = spec.disks.iter().any(|disk| disk.boot_order.is_some())
        || spec.interfaces.iter().any(|nic| nic.boot_order.is_some());
    if ordered || spec.firmware.kernel_boot.is_some() {
        return;
    }
    let mut next = 1;
    for cdroms in [false, true] {
        for part in parts
            .iter_mut()
            .filter(|part| part.is_cdrom() == cdroms && part.source.kind != SourceKind::Seed)
        {
            part.boot_order = Some(next);
            next += 1;
        }
    }
}

/// Name of the disk with that number among those with the same beginning.
pub(crate) fn target(bus: Bus, index: u32) -> String {
    let prefix = if bus == Bus::Virtio { "vd" } else { "sd" };
    format!("{prefix}{}", letters(index))
}

/// `a`, …, `z`, `aa`, …
fn letters(mut index: u32) -> String {
    let mut out = Vec::new();
    loop {
        out.push(char::from(b'a' + u8::try_from(index % 26).unwrap_or(0)));
        if index < 26 {
            break;
        }
        index = index / 26 - 1;
    }
    out.iter().rev().collect()
}

fn cache(disk: &Disk, source: &Source) -> CacheMode {
    let direct = match disk.cache {
        Some(cache) => return cache,
        // Only O_DIRECT makes Linux AIO asynchronous, and only without the page cache do two hosts see the same bytes.
        None if disk.io == Some(IoMode::Native) || disk.shareable || source.shared => true,
        None => source.kind == SourceKind::Durable && !source.read_only && source.direct_io,
    };
    // Writeback honours the guest's flushes; what is thrown away with the run needs no more than that.
    if direct {
        CacheMode::None
    } else {
        CacheMode::Writeback
    }
}

pub(crate) fn check(draft: &mut Draft<'_>, field: &str, disk: &Disk, source: &Source) {
    let cdrom = matches!(disk.target, DiskTarget::Cdrom { .. });
    let bus = disk.target.bus();
    if cdrom && bus == Bus::Virtio {
        draft.error(
            format!("{field}.cdrom.bus"),
            "a CD-ROM can't be virtio; allowed: sata, scsi, usb",
        );
    }
    if !cdrom && bus == Bus::Sata && source.read_only && source.kind != SourceKind::Seed {
        draft.error(
            format!("{field}.disk"),
            "a SATA hard disk can't be read-only; use cdrom, or bus virtio, scsi or usb",
        );
    }
    if disk.pci_address.is_some() && bus != Bus::Virtio {
        draft.error(
            format!("{field}.disk.pciAddress"),
            format!(
                "only virtio disks have a PCI address; this one is on bus {}",
                bus.as_str()
            ),
        );
    }
    if disk.io == Some(IoMode::Native) && disk.cache.is_some_and(|cache| cache != CacheMode::None) {
        draft.error(format!("{field}.io"), "native needs cache: none");
    }
    let kept = source.kind == SourceKind::Durable;
    if kept && !source.direct_io && cache(disk, source) == CacheMode::None {
        draft.error(
            format!("{field}.cache"),
            format!(
                "none: the file system of volume {:?} has no direct I/O",
                disk.name
            ),
        );
    }
    if (disk.shareable || source.shared) && source.format == crate::given::Format::Qcow2 {
        draft.error(
            format!("{field}.shareable"),
            format!(
                "volume {:?} is qcow2; only raw disks can be shared",
                disk.name
            ),
        );
    }
    if disk.dedicated_io_thread && bus != Bus::Virtio {
        draft.error(
            format!("{field}.dedicatedIOThread"),
            format!(
                "only virtio disks have I/O threads; this one is on bus {}",
                bus.as_str()
            ),
        );
    }
}

/// PCI addresses that the disks need.
pub(crate) fn needs(draft: &Draft<'_>, parts: &[Part<'_>]) -> Vec<Need> {
    let seat = if draft.spec.devices.virtio_transitional {
        Seat::Conventional
    } else {
        Seat::Express
    };
    let controllers = controllers_needed(parts)
        .into_iter()
        .map(|(bus, index)| match bus {
            Bus::Scsi => Need {
                key: "scsi0".into(),
                seat,
                wish: None,
            },
            _ => Need {
                key: format!("sata{index}"),
                seat: Seat::Conventional,
                wish: None,
            },
        });
    let disks = parts
        .iter()
        .filter(|part| part.bus() == Bus::Virtio)
        .map(|part| {
            let index = draft
                .spec
                .disks
                .iter()
                .position(|disk| disk.name == part.disk.name)
                .unwrap_or(0);
            let field = format!("spec.domain.devices.disks[{index}].disk.pciAddress");
            Need {
                key: alias::disk(&part.disk.name),
                seat,
                wish: part
                    .disk
                    .pci_address
                    .clone()
                    .map(|address| (field, address)),
            }
        });
    controllers.chain(disks).collect()
}

/// (bus, index) of the controllers besides those that the machine has anyway.
fn controllers_needed(parts: &[Part<'_>]) -> Vec<(Bus, u32)> {
    let scsi = parts
        .iter()
        .any(|part| part.bus() == Bus::Scsi)
        .then_some((Bus::Scsi, 0));
    let sata = parts.iter().filter(|part| part.bus() == Bus::Sata).count();
    let further = (1..u32::try_from(sata).unwrap_or(u32::MAX).div_ceil(SATA_PORTS))
        .map(|index| (Bus::Sata, index));
    scsi.into_iter().chain(further).collect()
}

/// SCSI and SATA controllers.
pub(crate) fn controllers(
    draft: &Draft<'_>,
    parts: &[Part<'_>],
    addresses: &Addresses,
    threads: &Threads,
) -> Vec<Element> {
    let built_in = Element::new("controller")
        .attr("type", "sata")
        .attr("index", 0)
        .child(
            Element::new("address")
                .attr("type", "pci")
                .attr("domain", "0x0000")
                .attr("bus", "0x00")
                .attr("slot", "0x1f")
                .attr("function", "0x2"),
        );
    let further = controllers_needed(parts)
        .into_iter()
        .map(|(bus, index)| match bus {
            Bus::Scsi => scsi_controller(draft, threads).children(addresses.element("scsi0")),
            _ => Element::new("controller")
                .attr("type", "sata")
                .attr("index", index)
                .children(addresses.element(&format!("sata{index}"))),
        });
    std::iter::once(built_in).chain(further).collect()
}

/// The SCSI controller without its address.
pub(crate) fn scsi_controller(draft: &Draft<'_>, threads: &Threads) -> Element {
    let model = if draft.spec.devices.virtio_transitional {
        "virtio-transitional"
    } else {
        "virtio-scsi"
    };
    let queues = draft
        .spec
        .devices
        .block_multi_queue
        .then(|| draft.spec.cpu.count());
    let driver = Element::new("driver")
        .opt_attr("queues", queues)
        .opt_attr("iothread", threads.common());
    let driver = (!driver.is_bare()).then_some(driver);
    Element::new("controller")
        .attr("type", "scsi")
        .attr("index", 0)
        .attr("model", model)
        .children(driver)
}

/// `<disk>` of a part.
pub(crate) fn element(
    draft: &Draft<'_>,
    part: &Part<'_>,
    addresses: &Addresses,
    threads: &Threads,
) -> Element {
    let Part {
        disk,
        source,
        target,
        unit,
        boot_order,
        cache,
    } = part;
    let (device, tray) = match disk.target {
        DiskTarget::Disk { .. } => ("disk", None),
        DiskTarget::Cdrom { tray_open, .. } => {
            ("cdrom", Some(if tray_open { "open" } else { "closed" }))
        }
    };
    let bus = disk.target.bus();
    let virtio = bus == Bus::Virtio;
    // A SATA hard disk has no notion of being read-only; a seed is made anew at each start anyway.
    let read_only = source.read_only && !(bus == Bus::Sata && device == "disk");
    let serial = disk
        .serial
        .clone()
        .unwrap_or_else(|| draft.given.identity.disk_serial(&disk.name));
    let order = boot_order.map(|order| Element::new("boot").attr("order", order));
    let model = (virtio && draft.spec.devices.virtio_transitional).then_some("virtio-transitional");
    let block_io = disk.block_size.map(|(logical, physical)| {
        Element::new("blockio")
            .attr("logical_block_size", logical)
            .attr("physical_block_size", physical)
    });
    Element::new("disk")
        .attr("type", kind_of(source.block).0)
        .attr("device", device)
        .opt_attr("model", model)
        .child(driver(draft, part, *cache, read_only, threads))
        .child(file(source))
        .child(backing(source))
        .child(
            Element::new("target")
                .attr("dev", target)
                .attr("bus", bus.as_str())
                .opt_attr("tray", tray),
        )
        .children(block_io)
        .children(read_only.then(|| Element::new("readonly")))
        .children((disk.shareable || source.shared).then(|| Element::new("shareable")))
        .child(Element::with_text("serial", serial))
        .children(order)
        .child(Element::new("alias").attr("name", alias::disk(&disk.name)))
        .children(address(bus, *unit, &disk.name, addresses))
}

fn driver(
    draft: &Draft<'_>,
    part: &Part<'_>,
    cache: CacheMode,
    read_only: bool,
    threads: &Threads,
) -> Element {
    let disk = part.disk;
    let virtio = part.bus() == Bus::Virtio;
    let policy = disk.error_policy.unwrap_or(ErrorPolicy::Stop);
    let queues = (virtio && draft.spec.devices.block_multi_queue).then(|| draft.spec.cpu.count());
    let driver = Element::new("driver")
        .attr("name", "qemu")
        .attr("type", part.source.format.as_str())
        .attr("cache", cache.as_str())
        .attr("error_policy", policy.as_str())
        .opt_attr("io", disk.io.map(IoMode::as_str))
        .opt_attr("discard", (!read_only).then_some("unmap"))
        .opt_attr("queues", queues);
    if virtio {
        threads.put_on(driver, &disk.name)
    } else {
        driver
    }
}

/// The file, with the length that it may have: QEMU says "no space left" beyond it, which pauses the guest.
fn file(source: &Source) -> Element {
    let slice = |limit: u64| {
        Element::new("slice")
            .attr("type", "storage")
            .attr("offset", 0)
            .attr("size", limit)
    };
    let slices = source
        .limit
        .map(|limit| Element::new("slices").child(slice(limit)));
    Element::new("source")
        .attr(kind_of(source.block).1, &source.file)
        .children(slices)
}

/// libvirt's words: type of the disk, attribute of its source.
fn kind_of(block: bool) -> (&'static str, &'static str) {
    if block {
        ("block", "dev")
    } else {
        ("file", "file")
    }
}

/// The chain below the file, said to its end: nothing is left to be found out from the bytes.
fn backing(source: &Source) -> Element {
    match &source.base {
        None => Element::new("backingStore"),
        Some((file, format)) => Element::new("backingStore")
            .attr("type", kind_of(source.base_block).0)
            .child(Element::new("format").attr("type", format.as_str()))
            .child(Element::new("source").attr(kind_of(source.base_block).1, file))
            .child(Element::new("backingStore")),
    }
}

fn address(bus: Bus, unit: u32, name: &str, addresses: &Addresses) -> Option<Element> {
    let drive = |controller, unit| {
        Element::new("address")
            .attr("type", "drive")
            .attr("controller", controller)
            .attr("bus", 0)
            .attr("target", 0)
            .attr("unit", unit)
    };
    match bus {
        Bus::Virtio => addresses.element(&alias::disk(name)),
        Bus::Sata => Some(drive(unit / SATA_PORTS, unit % SATA_PORTS)),
        Bus::Scsi => Some(drive(0, unit)),
        Bus::Usb => Some(usb_address(unit)),
    }
}

/// Address of the `index`th device on the USB controller.
pub(crate) fn usb_address(index: u32) -> Element {
    Element::new("address")
        .attr("type", "usb")
        .attr("bus", 0)
        .attr("port", index + 1)
}

#[cfg(test)]
mod tests {
    use super::letters;

    #[test]
    fn target_names_go_on_after_z() {
        assert_eq!(
            [0, 25, 26, 27, 701, 702].map(letters),
            ["a", "z", "aa", "ab", "zz", "aaa"]
        );
    }
}
