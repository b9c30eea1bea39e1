//! Devices besides disks and interfaces.

use catamaran_api::Devices as Wire;

use crate::field::{Fault, Faults, FieldPath};
use crate::hardware::{Input, InputBus, Tpm, Video, Watchdog, WatchdogAction};
use crate::machine::Devices;

/// All of them, defaults applied.
pub(super) fn devices(wire: &Wire, at: &FieldPath, faults: &mut Faults) -> Devices {
    let graphics = wire.autoattach_graphics_device.unwrap_or(true);
    let serial_console = wire.autoattach_serial_console.unwrap_or(true);
    if !serial_console && wire.log_serial_console == Some(true) {
        faults.push(
            &at.child("logSerialConsole"),
            Fault::Forbidden(
                "there is no serial console to log: autoattachSerialConsole is false".to_owned(),
            ),
        );
    }
    Devices {
        rng: wire.rng.is_some(),
        serial_console,
        log_serial_console: serial_console && wire.log_serial_console.unwrap_or(true),
        graphics,
        video: video(wire, graphics, &at.child("video"), faults),
        balloon: wire.autoattach_mem_balloon.unwrap_or(true),
        inputs: inputs(wire, &at.child("inputs"), faults),
        watchdog: watchdog(wire, &at.child("watchdog"), faults),
        tpm: wire
            .tpm
            .as_ref()
            .filter(|t| t.enabled.unwrap_or(true))
            .map(|t| Tpm {
                persistent: t.persistent.unwrap_or(false),
            }),
        panic_devices: panic_devices(wire, &at.child("panicDevices"), faults),
        block_multi_queue: wire.block_multi_queue.unwrap_or(false),
        network_multi_queue: wire.network_interface_multiqueue.unwrap_or(false),
        disable_hotplug: wire.disable_hotplug.unwrap_or(false),
        virtio_transitional: wire.use_virtio_transitional.unwrap_or(false),
    }
}

fn video(wire: &Wire, graphics: bool, path: &FieldPath, faults: &mut Faults) -> Option<Video> {
    let video = wire.video.as_ref()?;
    if !graphics {
        faults.push(
            path,
            Fault::Forbidden(
                "a video device needs a graphics device: autoattachGraphicsDevice is false"
                    .to_owned(),
            ),
        );
    }
    faults.word(
        &path.child("type"),
        video.type_.as_deref(),
        &[
            ("vga", Video::Vga),
            ("virtio", Video::Virtio),
            ("bochs", Video::Bochs),
        ],
    )
}

fn inputs(wire: &Wire, path: &FieldPath, faults: &mut Faults) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    for (i, input) in wire.inputs.iter().enumerate() {
        let path = path.index(i);
        if input.name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if inputs.iter().any(|other| other.name == input.name) {
            faults.duplicate(&path.child("name"), &input.name);
        }
        let keyboard = faults
            .word(
                &path.child("type"),
                Some(&input.type_),
                &[("tablet", false), ("keyboard", true)],
            )
            .unwrap_or(false);
        let word = input.bus.as_deref().filter(|b| !b.is_empty());
        let bus = faults
            .word(
                &path.child("bus"),
                word,
                &[("usb", InputBus::Usb), ("virtio", InputBus::Virtio)],
            )
            .unwrap_or(InputBus::Usb);
        inputs.push(Input {
            name: input.name.clone(),
            keyboard,
            bus,
        });
    }
    if inputs.is_empty() && wire.autoattach_input_device == Some(true) {
        inputs.push(Input {
            name: "default-0".to_owned(),
            keyboard: false,
            bus: InputBus::Usb,
        });
    }
    inputs
}

fn watchdog(wire: &Wire, path: &FieldPath, faults: &mut Faults) -> Option<Watchdog> {
    let watchdog = wire.watchdog.as_ref()?;
    if watchdog.name.is_empty() {
        faults.required(&path.child("name"), "");
    }
    let Some(device) = &watchdog.i6300esb else {
        // Another device has been refused by name already.
        if watchdog.unknown.is_empty() {
            faults.required(&path.child("i6300esb"), "");
        }
        return None;
    };
    let words = [
        ("poweroff", WatchdogAction::Poweroff),
        ("reset", WatchdogAction::Reset),
        ("shutdown", WatchdogAction::Shutdown),
    ];
    let action = faults.word(
        &path.child("i6300esb").child("action"),
        device.action.as_deref().filter(|a| !a.is_empty()),
        &words,
    );
    Some(Watchdog {
        name: watchdog.name.clone(),
        action: action.unwrap_or(WatchdogAction::Reset),
    })
}

fn panic_devices(wire: &Wire, path: &FieldPath, faults: &mut Faults) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for (i, device) in wire.panic_devices.iter().enumerate() {
        let path = path.index(i).child("model");
        let model = device
            .model
            .as_deref()
            .filter(|m| !m.is_empty())
            .unwrap_or("isa");
        faults.word(
            &path,
            Some(model),
            &[("isa", ()), ("pvpanic", ()), ("hyperv", ())],
        );
        if models.iter().any(|other| other == model) {
            faults.duplicate(&path, model);
        }
        models.push(model.to_owned());
    }
    models
}
