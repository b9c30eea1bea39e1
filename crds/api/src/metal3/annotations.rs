//! Annotations of hosts that people and other controllers set, by the peer's names where it has them.

/// The host is left alone.
pub const PAUSED: &str = "baremetalhost.metal3.io/paused";
/// The host's BMC is left alone. JSON: `deleteAction` (`delay` or `delete`), `force`.
pub const DETACHED: &str = "baremetalhost.metal3.io/detached";
/// `disabled`: no inspection; anything else: inspect again.
pub const INSPECT: &str = "inspect.metal3.io";
/// An inventory to take instead of looking: JSON, as in `status.hardware`.
pub const HARDWARE: &str = "inspect.metal3.io/hardwaredetails";
/// One reboot; with `/KEY`: held off until the annotation is gone. JSON: `mode` (`hard` or `soft`), `force`.
pub const REBOOT: &str = "reboot.metal3.io";
/// What to boot from at the next start, once: `cd`, `pxe`, `disk` or `bios-setup`. Ours alone.
pub const BOOT_ONCE: &str = "catamaran.dev/boot-once";
