//! Processor, memory, firmware, features, clock and small devices.

use uuid::Uuid;

/// Virtual processors. All counts are at least 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Sockets plugged in at start.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
    /// Sockets that may be plugged in later; at least `sockets`.
    pub max_sockets: u32,
    /// Model.
    pub model: CpuModel,
    /// Feature policies in manifest order, names unique.
    pub features: Vec<CpuFeature>,
}

impl Cpu {
    /// vCPUs at start.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.sockets * self.cores * self.threads
    }
}

/// CPU model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuModel {
    /// The closest named model to the host's (the default).
    HostModel,
    /// The host's processor as it is.
    HostPassthrough,
    /// A model by libvirt's name.
    Named(String),
}

/// One CPU feature and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuFeature {
    /// libvirt's name, such as `vmx`.
    pub name: String,
    /// Policy.
    pub policy: FeaturePolicy,
}

/// libvirt's CPU feature policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeaturePolicy {
    /// Offer it even where the host lacks it.
    Force,
    /// Start only where the host has it (the default).
    Require,
    /// Offer it where the host has it.
    Optional,
    /// Hide it.
    Disable,
    /// Start only where the host lacks it.
    Forbid,
}

impl FeaturePolicy {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Force => "force",
            Self::Require => "require",
            Self::Optional => "optional",
            Self::Disable => "disable",
            Self::Forbid => "forbid",
        }
    }
}

/// Guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that the guest sees; a multiple of 1 MiB.
    pub guest: u64,
    /// Bytes that may be reached by hotplug.
    pub max_guest: Option<u64>,
    /// Huge page size in bytes.
    pub hugepages: Option<u64>,
}

/// Firmware and boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// SMBIOS UUID from the manifest; `None` = derived from the VM's identity.
    pub uuid: Option<Uuid>,
    /// SMBIOS serial from the manifest; `None` = derived from the VM's identity.
    pub serial: Option<String>,
    /// Boot loader.
    pub bootloader: Bootloader,
    /// Direct kernel boot.
    pub kernel_boot: Option<KernelBoot>,
}

/// Boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootloader {
    /// SeaBIOS.
    Bios {
        /// BIOS messages on the serial console.
        use_serial: bool,
    },
    /// OVMF.
    Efi {
        /// Secure boot with enrolled keys; needs SMM.
        secure_boot: bool,
        /// Variables survive the run.
        persistent: bool,
    },
}

/// A kernel taken from a container image instead of a boot disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBoot {
    /// Image reference; `None` = no container (only arguments), which validation refuses.
    pub image: String,
    /// Pull policy.
    pub pull_policy: crate::disk::PullPolicy,
    /// Name of a `kubernetes.io/dockerconfigjson` Secret.
    pub pull_secret: Option<String>,
    /// Path of the kernel in the image; at least one of the two paths is set.
    pub kernel_path: Option<String>,
    /// Path of the initial RAM disk in the image.
    pub initrd_path: Option<String>,
    /// Kernel command line.
    pub args: String,
}

/// Platform features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// ACPI (default on).
    pub acpi: bool,
    /// APIC (default on); `Some(end_of_interrupt)`.
    pub apic: bool,
    /// System management mode: `None` = firmware's choice.
    pub smm: Option<bool>,
    /// `<kvm><hidden/>`.
    pub kvm_hidden: bool,
    /// `<pvspinlock/>`: `None` = unset.
    pub pv_spinlock: Option<bool>,
    /// Hyper-V enlightenments: `None` = none asked for.
    pub hyperv: Option<Hyperv>,
}

/// Hyper-V enlightenments; `None` = left to the hypervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hyperv {
    /// `relaxed`, `vapic`, … by libvirt's element name, in libvirt's schema order, with their state.
    pub switches: Vec<(&'static str, bool)>,
    /// Spinlock retries, at least 4096.
    pub spinlocks: Option<(bool, u32)>,
    /// `stimer` with `direct`.
    pub stimer: Option<(bool, Option<bool>)>,
    /// Vendor id, at most 12 characters.
    pub vendor_id: Option<(bool, String)>,
    /// All passed through from the host.
    pub passthrough: bool,
}

/// Guest clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// What the clock counts from.
    pub base: ClockBase,
    /// Timers; unset ones get no element.
    pub timers: Timers,
}

/// What the clock counts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClockBase {
    /// UTC plus an offset in seconds.
    Utc {
        /// Seconds; `None` = adjustments of the guest reset at start.
        offset_seconds: Option<i32>,
    },
    /// A time zone by its IANA name.
    Timezone(String),
}

/// Timers: the outer `Option` = mentioned in the manifest, `present` = there or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers {
    /// High precision event timer.
    pub hpet: Option<(bool, Option<TickPolicy>)>,
    /// KVM clock.
    pub kvm: Option<bool>,
    /// Programmable interval timer.
    pub pit: Option<(bool, Option<TickPolicy>)>,
    /// Real time clock; `track` is `guest` or `wall`.
    pub rtc: Option<(bool, Option<TickPolicy>, Option<String>)>,
    /// Hyper-V reference time.
    pub hyperv: Option<bool>,
}

/// What happens to ticks that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TickPolicy {
    /// Deliver at the normal rate later.
    Delay,
    /// Deliver faster until caught up.
    Catchup,
    /// Merge into one.
    Merge,
    /// Throw away.
    Discard,
}

impl TickPolicy {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Catchup => "catchup",
            Self::Merge => "merge",
            Self::Discard => "discard",
        }
    }
}

/// I/O threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IoThreads {
    /// No I/O threads unless a disk asks for its own.
    #[default]
    None,
    /// One thread for all disks that have none of their own.
    Shared,
    /// Threads up to twice the vCPUs, disks spread over them.
    Auto,
    /// A pool of that many threads serving every virtio disk.
    SupplementalPool(u32),
}

/// An input device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Name.
    pub name: String,
    /// `tablet` or `keyboard`.
    pub keyboard: bool,
    /// Bus.
    pub bus: InputBus,
}

/// Bus of an input device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputBus {
    /// USB.
    Usb,
    /// virtio.
    Virtio,
}

/// Watchdog i6300esb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watchdog {
    /// Name.
    pub name: String,
    /// What happens when it fires.
    pub action: WatchdogAction,
}

/// What happens when the watchdog fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchdogAction {
    /// Power off at once.
    Poweroff,
    /// Reset (the default).
    Reset,
    /// ACPI shutdown.
    Shutdown,
}

impl WatchdogAction {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reset => "reset",
            Self::Shutdown => "shutdown",
        }
    }
}

/// TPM 2.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tpm {
    /// State survives the run.
    pub persistent: bool,
}

/// Video model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Video {
    /// VGA.
    Vga,
    /// virtio.
    Virtio,
    /// Bochs.
    Bochs,
}

impl Video {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vga => "vga",
            Self::Virtio => "virtio",
            Self::Bochs => "bochs",
        }
    }
}
