//! Devices besides disks and network interfaces.

use crate::disk::Disk;
use crate::network::Interface;

spec! {
    /// Everything that is plugged in.
    pub struct Devices {
        optional {
            /// VNC and a video device; true by default.
            autoattach_graphics_device: Option<bool>,
            /// A tablet when no input is named; false by default.
            autoattach_input_device: Option<bool>,
            /// Memory balloon; true by default.
            autoattach_mem_balloon: Option<bool>,
            /// The pod network when no network and no interface is named; true by default.
            autoattach_pod_interface: Option<bool>,
            /// A serial console; true by default.
            autoattach_serial_console: Option<bool>,
            /// One queue for each vCPU on virtio disks.
            block_multi_queue: Option<bool>,
            /// No room for devices that come later.
            disable_hotplug: Option<bool>,
            /// Disks.
            disks: Vec<Disk>,
            /// Tablets and keyboards.
            inputs: Vec<Input>,
            /// Network interfaces.
            interfaces: Vec<Interface>,
            /// Keep the serial output as a log.
            log_serial_console: Option<bool>,
            /// One queue pair for each vCPU on virtio interfaces.
            network_interface_multiqueue: Option<bool>,
            /// Panic notifiers.
            panic_devices: Vec<PanicDevice>,
            /// Random numbers from the host.
            rng: Option<Rng>,
            /// Trusted platform module 2.0.
            tpm: Option<TpmDevice>,
            /// Transitional virtio models for old guests.
            use_virtio_transitional: Option<bool>,
            /// Video model.
            video: Option<VideoDevice>,
            /// Watchdog.
            watchdog: Option<Watchdog>,
        }
    }

    /// A tablet or keyboard.
    pub struct Input {
        required {
            /// Name.
            name: String,
            /// `tablet` or `keyboard`.
            #[serde(rename = "type")]
            type_: String,
        }
        optional {
            /// `usb` (the default) or `virtio`.
            bus: Option<String>,
        }
    }

    /// Panic notifier.
    pub struct PanicDevice {
        optional {
            /// `isa`, `pvpanic` or `hyperv`.
            model: Option<String>,
        }
    }

    /// Random numbers from the host.
    pub struct Rng {}

    /// Trusted platform module 2.0.
    pub struct TpmDevice {
        optional {
            /// On by default.
            enabled: Option<bool>,
            /// State survives the run.
            persistent: Option<bool>,
        }
    }

    /// Video model.
    pub struct VideoDevice {
        optional {
            /// `vga`, `virtio` or `bochs`.
            #[serde(rename = "type")]
            type_: Option<String>,
        }
    }

    /// Watchdog.
    pub struct Watchdog {
        required {
            /// Name.
            name: String,
        }
        optional {
            /// Intel 6300ESB.
            i6300esb: Option<I6300EsbWatchdog>,
        }
    }

    /// Intel 6300ESB.
    pub struct I6300EsbWatchdog {
        optional {
            /// `poweroff`, `reset` (the default) or `shutdown`.
            action: Option<String>,
        }
    }
}
