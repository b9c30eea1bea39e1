//! How much host memory a machine needs besides its guest's memory. An estimate from measurements, on the safe side, part by part.

use catamaran_spec::{Bootloader, MachineSpec, Video};

use crate::firmware;

const MIB: u64 = 1 << 20;

/// Launcher (9.4 MiB after its trim, 14.4 at the start) and init.
const LAUNCHER: u64 = 16 * MIB;
/// QEMU with q35 and the usual virtio devices: 15.8 MiB private and up to 17 MiB of program text that is shared between machines.
const QEMU: u64 = 33 * MIB;
/// Stack and state of a vCPU's thread (0.05 MiB measured on eight; stacks grow).
const VCPU: u64 = MIB / 2;
/// Root ports, controllers, requests in flight of one disk or interface.
const DEVICE: u64 = MIB;
/// VNC server besides the screen's memory.
const VNC: u64 = 4 * MIB;
/// Memory of a VGA or Bochs screen.
const SCREEN: u64 = 16 * MIB;
/// virtio screen: 1920x1080 in 32 bits.
const VIRTIO_SCREEN: u64 = 8 * MIB;
/// OVMF code and variables (4.4 MiB measured).
const OVMF: u64 = 5 * MIB;
/// swtpm.
const SWTPM: u64 = 8 * MIB;
/// What the translator keeps besides its code buffer (40–44 MiB measured in all, less QEMU's own).
const TRANSLATOR: u64 = 28 * MIB;
/// Bytes of disk that one byte of a qcow2's table cache covers.
const QCOW2_COVER: u64 = 8192;
/// Most bytes of a qcow2's table cache.
const QCOW2_CACHE: u64 = 32 * MIB;

/// What the estimate depends on besides the spec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Runs under QEMU's translator.
    pub emulated: bool,
    /// Bytes of kernel and initial RAM disk, which QEMU holds in memory.
    pub boot_files: u64,
    /// Sum over the qcow2 files of their table caches, from [`qcow2_cache`].
    pub qcow2_caches: u64,
}

/// Bytes that QEMU may use to cache the tables of a qcow2 of that virtual size.
#[must_use]
pub fn qcow2_cache(virtual_size: u64) -> u64 {
    (virtual_size / QCOW2_COVER).clamp(MIB, QCOW2_CACHE)
}

/// The parts of the overhead by name, in bytes.
#[must_use]
pub fn parts(spec: &MachineSpec, load: Load) -> Vec<(&'static str, u64)> {
    let devices = &spec.devices;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let screen = match devices.video {
        _ if !devices.graphics => 0,
        Some(Video::Virtio) => VIRTIO_SCREEN + VNC,
        _ => SCREEN + VNC,
    };
    let efi = matches!(spec.firmware.bootloader, Bootloader::Efi { .. });
    let cache = firmware::tb_cache_mib(spec, load.emulated).map_or(0, |mib| mib * MIB);
    vec![
        ("launcher and init", LAUNCHER),
        ("QEMU", QEMU),
        ("page tables", spec.memory.guest / 512),
        ("vCPUs", u64::from(spec.cpu.count()) * VCPU),
        (
            "disks and interfaces",
            count(spec.disks.len() + spec.interfaces.len()) * DEVICE,
        ),
        ("qcow2 table caches", load.qcow2_caches),
        ("screen", screen),
        ("UEFI firmware", if efi { OVMF } else { 0 }),
        ("kernel and initrd", load.boot_files),
        ("TPM", if devices.tpm.is_some() { SWTPM } else { 0 }),
        ("translator", if load.emulated { TRANSLATOR } else { 0 }),
        ("translated code", cache),
    ]
}

/// Sum of the parts.
#[must_use]
pub fn total(spec: &MachineSpec, load: Load) -> u64 {
    parts(spec, load).iter().map(|(_, bytes)| bytes).sum()
}
