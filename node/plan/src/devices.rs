//! Devices besides disks and interfaces: controllers, serial port, screen, channels, input, balloon, rng, watchdog, TPM, panic.

use catamaran_spec::{Bootloader, Bus, InputBus, Video};

use crate::addresses::{Addresses, Need, Seat};
use crate::alias;
use crate::disks::{Part, usb_address};
use crate::draft::Draft;
use crate::paths;
use crate::plan::Prepare;
use crate::xml::Element;

const USB: &str = "usb";
const VIRTIO_SERIAL: &str = "virtio-serial0";
const VIDEO: &str = "video0";
const BALLOON: &str = "balloon0";
const RNG: &str = "rng0";
const PVPANIC: &str = "pvpanic";
/// Name of the tablet that a screen brings along.
const SCREEN_TABLET: &str = "screen";
/// KiB of memory of a VGA or Bochs screen: 1920x1080 in 32 bits with a second page.
const SCREEN_KIB: u32 = 16384;
/// Seconds between two reports of the balloon driver.
const STATS_PERIOD: u32 = 10;

/// An input device, from the manifest or with the screen.
struct InputPart {
    alias: String,
    keyboard: bool,
    bus: InputBus,
}

fn inputs(draft: &Draft<'_>) -> Vec<InputPart> {
    let devices = &draft.spec.devices;
    let mut out: Vec<InputPart> = devices
        .inputs
        .iter()
        .map(|input| InputPart {
            alias: alias::input(&input.name),
            keyboard: input.keyboard,
            bus: input.bus,
        })
        .collect();
    if devices.graphics && out.iter().all(|input| input.keyboard) {
        // Without a tablet the pointers of a viewer and of the guest drift apart.
        out.push(InputPart {
            alias: alias::input(SCREEN_TABLET),
            keyboard: false,
            bus: InputBus::Usb,
        });
    }
    out
}

/// Ports of the USB controller that input devices take.
pub(crate) fn usb_inputs(draft: &Draft<'_>) -> u32 {
    let count = inputs(draft)
        .iter()
        .filter(|input| input.bus == InputBus::Usb)
        .count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn has_usb(draft: &Draft<'_>) -> bool {
    usb_inputs(draft) > 0
        || draft
            .spec
            .disks
            .iter()
            .any(|disk| disk.target.bus() == Bus::Usb)
}

/// Wants a second panic device, on PCI.
fn wants_pvpanic(draft: &Draft<'_>) -> bool {
    draft.facts.libvirt_at_least(9, 1)
        && draft
            .spec
            .devices
            .panic_devices
            .iter()
            .any(|model| model == PVPANIC)
}

/// PCI addresses that these devices need.
pub(crate) fn needs(draft: &Draft<'_>) -> Vec<Need> {
    let devices = &draft.spec.devices;
    let virtio = if devices.virtio_transitional {
        Seat::Conventional
    } else {
        Seat::Express
    };
    let mut out: Vec<(String, Seat)> = Vec::new();
    if devices.graphics {
        out.push((VIDEO.into(), Seat::Screen));
    }
    if has_usb(draft) {
        out.push((USB.into(), Seat::Express));
    }
    out.push((VIRTIO_SERIAL.into(), virtio));
    if devices.balloon {
        out.push((BALLOON.into(), virtio));
    }
    if devices.rng {
        out.push((RNG.into(), virtio));
    }
    out.extend(
        inputs(draft)
            .into_iter()
            .filter(|input| input.bus == InputBus::Virtio)
            .map(|input| (input.alias, Seat::Express)),
    );
    if let Some(watchdog) = &devices.watchdog {
        out.push((alias::watchdog(&watchdog.name), Seat::Conventional));
    }
    if wants_pvpanic(draft) {
        out.push((PVPANIC.into(), Seat::Conventional));
    }
    out.into_iter()
        .map(|(key, seat)| Need {
            key,
            seat,
            wish: None,
        })
        .collect()
}

fn transitional(draft: &Draft<'_>) -> Option<&'static str> {
    draft
        .spec
        .devices
        .virtio_transitional
        .then_some("virtio-transitional")
}

/// USB and virtio-serial controllers.
pub(crate) fn controllers(draft: &Draft<'_>, addresses: &Addresses) -> Vec<Element> {
    let controller = |kind: &str| {
        Element::new("controller")
            .attr("type", kind)
            .attr("index", 0)
    };
    let usb = if has_usb(draft) {
        controller("usb")
            .attr("model", "qemu-xhci")
            .attr("ports", 15)
            .children(addresses.element(USB))
    } else {
        controller("usb").attr("model", "none")
    };
    let serial = controller("virtio-serial")
        .opt_attr("model", transitional(draft))
        .children(addresses.element(VIRTIO_SERIAL));
    vec![usb, serial]
}

/// Everything else, in the order of libvirt's own output.
pub(crate) fn elements(
    draft: &mut Draft<'_>,
    parts: &[Part<'_>],
    addresses: &Addresses,
) -> Vec<Element> {
    debug_assert!(parts.iter().all(|part| part.bus() != Bus::Usb) || has_usb(draft));
    let mut out = Vec::new();
    out.extend(serial(draft));
    out.extend(channels(draft));
    out.extend(inputs_of(draft, addresses));
    out.extend(tpm(draft));
    out.extend(screen(draft, addresses));
    out.extend(watchdog(draft, addresses));
    out.push(balloon(draft, addresses));
    out.extend(rng(draft, addresses));
    out.extend(panics(draft, addresses));
    out
}

fn serial(draft: &Draft<'_>) -> Option<Element> {
    let devices = &draft.spec.devices;
    let log = devices.log_serial_console.then(|| {
        Element::new("log")
            .attr("file", paths::SERIAL_LOG)
            .attr("append", "off")
    });
    devices.serial_console.then(|| {
        Element::new("serial")
            .attr("type", "unix")
            .child(
                Element::new("source")
                    .attr("mode", "bind")
                    .attr("path", paths::SERIAL_SOCKET),
            )
            .children(log)
            .child(
                Element::new("target")
                    .attr("type", "isa-serial")
                    .attr("port", 0)
                    .child(Element::new("model").attr("name", "isa-serial")),
            )
    })
}

fn channels(draft: &Draft<'_>) -> Vec<Element> {
    let address = |port: u32| {
        Element::new("address")
            .attr("type", "virtio-serial")
            .attr("controller", 0)
            .attr("bus", 0)
            .attr("port", port)
    };
    let agent = Element::new("channel")
        .attr("type", "unix")
        .child(
            Element::new("source")
                .attr("mode", "bind")
                .attr("path", paths::AGENT_SOCKET),
        )
        .child(
            Element::new("target")
                .attr("type", "virtio")
                .attr("name", "org.qemu.guest_agent.0"),
        )
        .child(address(1));
    // The clipboard of VNC viewers, for guests with a vdagent.
    let clipboard = draft.spec.devices.graphics.then(|| {
        Element::new("channel")
            .attr("type", "qemu-vdagent")
            .child(Element::new("source").child(Element::new("clipboard").attr("copypaste", "yes")))
            .child(
                Element::new("target")
                    .attr("type", "virtio")
                    .attr("name", "com.redhat.spice.0"),
            )
            .child(address(2))
    });
    std::iter::once(agent).chain(clipboard).collect()
}

fn inputs_of(draft: &Draft<'_>, addresses: &Addresses) -> Vec<Element> {
    let mut usb = 0;
    let mut out = Vec::new();
    for InputPart {
        alias,
        keyboard,
        bus,
    } in inputs(draft)
    {
        let kind = if keyboard { "keyboard" } else { "tablet" };
        let element = Element::new("input").attr("type", kind);
        let element = match bus {
            InputBus::Usb => {
                usb += 1;
                element
                    .attr("bus", "usb")
                    .child(Element::new("alias").attr("name", alias))
                    .child(usb_address(usb - 1))
            }
            InputBus::Virtio => element
                .attr("bus", "virtio")
                .child(Element::new("alias").attr("name", &alias))
                .children(addresses.element(&alias)),
        };
        out.push(element);
    }
    out
}

fn tpm(draft: &mut Draft<'_>) -> Option<Element> {
    const FIELD: &str = "spec.domain.devices.tpm";
    let tpm = draft.spec.devices.tpm?;
    if !draft.facts.swtpm {
        draft.error(FIELD, "this host has no swtpm");
        return None;
    }
    let backend = Element::new("backend")
        .attr("type", "emulator")
        .attr("version", "2.0");
    let backend = if tpm.persistent {
        if !draft.facts.libvirt_at_least(10, 10) {
            let (major, minor, micro) = draft.facts.libvirt_version;
            draft.error(
                format!("{FIELD}.persistent"),
                format!("needs libvirt 10.10 or newer; this host has {major}.{minor}.{micro}"),
            );
        }
        draft.prepare.push(Prepare::Folder {
            path: paths::TPM_PERSISTENT.to_owned(),
        });
        // Without it libvirt empties the folder when a transient domain ends.
        backend.attr("persistent_state", "yes").child(
            Element::new("source")
                .attr("type", "dir")
                .attr("path", paths::TPM_PERSISTENT),
        )
    } else {
        backend
    };
    Some(Element::new("tpm").attr("model", "tpm-crb").child(backend))
}

/// The screen, or an explicit "none": libvirt would add one.
fn screen(draft: &Draft<'_>, addresses: &Addresses) -> Vec<Element> {
    if !draft.spec.devices.graphics {
        return vec![
            Element::new("audio").attr("id", 1).attr("type", "none"),
            Element::new("video").child(Element::new("model").attr("type", "none")),
        ];
    }
    let graphics = Element::new("graphics")
        .attr("type", "vnc")
        .attr("sharePolicy", "force-shared")
        .child(
            Element::new("listen")
                .attr("type", "socket")
                .attr("socket", paths::VNC_SOCKET),
        );
    let video = draft
        .spec
        .devices
        .video
        .unwrap_or(match draft.spec.firmware.bootloader {
            Bootloader::Bios { .. } => Video::Vga,
            Bootloader::Efi { .. } => Video::Bochs,
        });
    let memory = match video {
        Video::Vga | Video::Bochs => Some(SCREEN_KIB),
        Video::Virtio => None,
    };
    let model = Element::new("model")
        .attr("type", video.as_str())
        .opt_attr("vram", memory)
        .attr("heads", 1)
        .attr("primary", "yes");
    vec![
        graphics,
        Element::new("audio").attr("id", 1).attr("type", "none"),
        Element::new("video")
            .child(model)
            .children(addresses.element(VIDEO)),
    ]
}

fn watchdog(draft: &Draft<'_>, addresses: &Addresses) -> Option<Element> {
    let watchdog = draft.spec.devices.watchdog.as_ref()?;
    let alias = alias::watchdog(&watchdog.name);
    Some(
        Element::new("watchdog")
            .attr("model", "i6300esb")
            .attr("action", watchdog.action.as_str())
            .child(Element::new("alias").attr("name", &alias))
            .children(addresses.element(&alias)),
    )
}

fn balloon(draft: &Draft<'_>, addresses: &Addresses) -> Element {
    if !draft.spec.devices.balloon {
        return Element::new("memballoon").attr("model", "none");
    }
    // Pages that the guest frees go back to the host; huge pages can't be given back in part.
    let report = draft.spec.memory.hugepages.is_none().then_some("on");
    Element::new("memballoon")
        .attr("model", transitional(draft).unwrap_or("virtio"))
        .opt_attr("freePageReporting", report)
        .child(Element::new("stats").attr("period", STATS_PERIOD))
        .children(addresses.element(BALLOON))
}

fn rng(draft: &Draft<'_>, addresses: &Addresses) -> Option<Element> {
    draft.spec.devices.rng.then(|| {
        Element::new("rng")
            .attr("model", transitional(draft).unwrap_or("virtio"))
            .child(Element::with_text("backend", "/dev/urandom").attr("model", "random"))
            .children(addresses.element(RNG))
    })
}

/// The ISA panic device is always there: it is how a guest's panic is noticed. Others come when asked for.
fn panics(draft: &mut Draft<'_>, addresses: &Addresses) -> Vec<Element> {
    const FIELD: &str = "spec.domain.devices.panicDevices";
    let isa = Element::new("panic").attr("model", "isa").child(
        Element::new("address")
            .attr("type", "isa")
            .attr("iobase", "0x505"),
    );
    let mut out = vec![isa];
    let models = &draft.spec.devices.panic_devices;
    for (index, model) in models.iter().enumerate() {
        match model.as_str() {
            "isa" | "" => {}
            again if models[..index].iter().any(|model| model == again) => {}
            PVPANIC if draft.facts.libvirt_at_least(9, 1) => {
                out.push(
                    Element::new("panic")
                        .attr("model", PVPANIC)
                        .children(addresses.element(PVPANIC)),
                );
            }
            PVPANIC => draft.error(
                format!("{FIELD}[{index}].model"),
                "pvpanic needs libvirt 9.1 or newer on this host",
            ),
            "hyperv" if draft.emulated() => draft.note("panic device hyperv: left out, needs KVM"),
            "hyperv" => out.push(Element::new("panic").attr("model", "hyperv")),
            other => draft.error(
                format!("{FIELD}[{index}].model"),
                format!("unknown model {other:?}; allowed: isa, pvpanic, hyperv"),
            ),
        }
    }
    out
}
