//! Where things are inside a VM's sandbox. The same under `play` and in a pod, so that a launcher needs no configuration.

/// Run folder: lives with one run of the VM.
pub const RUN: &str = "/vm";
/// Persistent folder: outlives runs (NVRAM, TPM state, resolved hardware, crash tail).
pub const STATE: &str = "/state";
/// Disk files, one for each volume, bound from the host.
pub const DISKS: &str = "/disks";
/// Folders with the files of Secrets, ConfigMaps and the downward API.
pub const CONFIG: &str = "/config";
/// Kernel of a direct boot.
pub const KERNEL: &str = "/boot/kernel";
/// Initial RAM disk of a direct boot.
pub const INITRD: &str = "/boot/initrd";
/// Root of libvirt's embedded driver.
pub const LIBVIRT_ROOT: &str = "/vm/libvirt";
/// The launcher's socket.
pub const LAUNCHER_SOCKET: &str = "/vm/launcher.sock";
/// The guest's serial port, served by QEMU.
pub const SERIAL_SOCKET: &str = "/vm/serial.sock";
/// Everything the serial port said, written by QEMU itself, so that it outlives a launcher.
pub const SERIAL_LOG: &str = "/vm/serial.log";
/// Volumes that were brought into a pod while it runs, one folder for each.
pub const HOTPLUG: &str = "/vm/hotplug";
/// Socket of an attachment pod: whoever connects learns which process it is.
pub const HOLD_SOCKET: &str = "/vm/hold.sock";
/// Locked by init for as long as it lives.
pub const ALIVE: &str = "/vm/alive";
/// The guest's screen, served by QEMU.
pub const VNC_SOCKET: &str = "/vm/vnc.sock";
/// The guest agent's channel, served by QEMU.
pub const AGENT_SOCKET: &str = "/vm/agent.sock";
/// Overlays and empty disks of this run.
pub const OVERLAYS: &str = "/vm/overlays";
/// Seeds and other small read-only disks that the launcher builds.
pub const SEEDS: &str = "/vm/seed";
/// Versioned code folder; `current` is a link.
pub const CODE: &str = "/vm/code";
/// Exit statuses that init recorded, one JSON object a line.
pub const EXITS: &str = "/vm/exits.jsonl";
/// UEFI variables that outlive the run.
pub const NVRAM_PERSISTENT: &str = "/state/nvram.fd";
/// UEFI variables of this run.
pub const NVRAM_EPHEMERAL: &str = "/vm/nvram.fd";
/// TPM state that outlives the run.
pub const TPM_PERSISTENT: &str = "/state/tpm";
/// Last lines of the kernel log before a panic ended the guest.
pub const CRASH_LOG: &str = "/state/crash.log";
/// User id of everything in the sandbox.
pub const UID: u32 = 107;
/// Group id of everything in the sandbox.
pub const GID: u32 = 107;
