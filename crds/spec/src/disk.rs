//! Disks (what the guest sees) and volumes (where the bytes come from).

/// A disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Name; also the name of its volume.
    pub name: String,
    /// What the guest sees.
    pub target: DiskTarget,
    /// Serial number seen by the guest; `None` = derived from the VM's identity.
    pub serial: Option<String>,
    /// Boot order, 1 first; unique over disks and interfaces.
    pub boot_order: Option<u32>,
    /// Host cache mode.
    pub cache: Option<CacheMode>,
    /// Host I/O mode.
    pub io: Option<IoMode>,
    /// What happens on an I/O error of the host; `None` = stop on writes.
    pub error_policy: Option<ErrorPolicy>,
    /// Its own I/O thread.
    pub dedicated_io_thread: bool,
    /// May be opened by several VMs.
    pub shareable: bool,
    /// (logical, physical) block size in bytes.
    pub block_size: Option<(u32, u32)>,
    /// Tag shown to the guest in cloud-init device metadata.
    pub tag: Option<String>,
    /// PCI address wished for, `dddd:bb:ss.f`.
    pub pci_address: Option<String>,
}

/// What kind of disk the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskTarget {
    /// A hard disk.
    Disk {
        /// Bus.
        bus: Bus,
        /// Write protected.
        readonly: bool,
    },
    /// A CD-ROM drive.
    Cdrom {
        /// Bus.
        bus: Bus,
        /// The tray is open.
        tray_open: bool,
        /// Write protected (the default).
        readonly: bool,
    },
}

impl DiskTarget {
    /// The bus.
    #[must_use]
    pub fn bus(&self) -> Bus {
        match self {
            Self::Disk { bus, .. } | Self::Cdrom { bus, .. } => *bus,
        }
    }

    /// Whether the guest can't write to it.
    #[must_use]
    pub fn readonly(&self) -> bool {
        match self {
            Self::Disk { readonly, .. } | Self::Cdrom { readonly, .. } => *readonly,
        }
    }
}

/// Disk bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bus {
    /// virtio-blk.
    Virtio,
    /// AHCI.
    Sata,
    /// virtio-scsi.
    Scsi,
    /// USB.
    Usb,
}

impl Bus {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Sata => "sata",
            Self::Scsi => "scsi",
            Self::Usb => "usb",
        }
    }
}

/// Host cache mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// O_DIRECT.
    None,
    /// Write-through.
    Writethrough,
    /// Write-back.
    Writeback,
}

impl CacheMode {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Writethrough => "writethrough",
            Self::Writeback => "writeback",
        }
    }
}

/// Host I/O mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoMode {
    /// Linux AIO.
    Native,
    /// A thread pool.
    Threads,
    /// `io_uring`.
    IoUring,
}

impl IoMode {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }
}

/// What happens on an I/O error of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorPolicy {
    /// Pause the guest.
    Stop,
    /// Ignore.
    Ignore,
    /// Report to the guest.
    Report,
    /// Pause when the space runs out, else report.
    Enospace,
}

impl ErrorPolicy {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Ignore => "ignore",
            Self::Report => "report",
            Self::Enospace => "enospace",
        }
    }
}

/// Where the bytes of a disk come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name, unique in the machine.
    pub name: String,
    /// Source.
    pub source: VolumeSource,
}

/// A claim's disk that is plugged into a running machine, and can be unplugged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotDisk {
    /// What the guest sees; on the virtio or the SCSI bus.
    pub disk: Disk,
    /// Claim name.
    pub claim: String,
    /// Write protected.
    pub read_only: bool,
}

/// Source of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A disk file in a container image, read-only below a fresh overlay.
    ContainerDisk {
        /// Image reference.
        image: String,
        /// Path of the file in the image; `None` = the only file below `/disk`.
        path: Option<String>,
        /// Pull policy.
        pull_policy: PullPolicy,
        /// Name of a `kubernetes.io/dockerconfigjson` Secret.
        pull_secret: Option<String>,
    },
    /// cloud-init seed.
    CloudInit(CloudInit),
    /// A fresh empty disk of that many bytes.
    EmptyDisk {
        /// Bytes.
        capacity: u64,
    },
    /// A claim's disk below a fresh overlay.
    Ephemeral {
        /// Claim name.
        claim: String,
        /// Kept for the record; the claim is never written.
        read_only: bool,
    },
    /// A claim's disk itself.
    PersistentVolumeClaim {
        /// Claim name.
        claim: String,
        /// Write protected.
        read_only: bool,
    },
    /// A file of the host.
    HostDisk {
        /// Absolute path without `..`.
        path: String,
        /// Whether it may be made.
        kind: HostDiskKind,
        /// Bytes, when it may be made.
        capacity: Option<u64>,
        /// Shareable among VMs.
        shared: bool,
    },
    /// A ConfigMap's keys as files on a small read-only disk.
    ConfigMap {
        /// Name of the ConfigMap.
        name: String,
        /// The disk is left out when the object is missing.
        optional: bool,
        /// Volume label of the file system.
        label: Option<String>,
    },
    /// A Secret's keys as files on a small read-only disk.
    Secret {
        /// Name of the Secret.
        name: String,
        /// The disk is left out when the object is missing.
        optional: bool,
        /// Volume label of the file system.
        label: Option<String>,
    },
    /// Fields of the VMI as files on a small read-only disk.
    DownwardApi {
        /// (file name, field path) such as (`labels`, `metadata.labels`).
        items: Vec<(String, String)>,
        /// Volume label of the file system.
        label: Option<String>,
    },
}

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Only when it is not in the cache.
    IfNotPresent,
    /// Never.
    Never,
}

/// Whether a host disk must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostDiskKind {
    /// Must be there.
    Disk,
    /// Made when missing.
    DiskOrCreate,
}

/// cloud-init seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInit {
    /// Which data source the guest finds.
    pub kind: CloudInitKind,
    /// User data.
    pub user_data: Option<CloudInitData>,
    /// Network configuration.
    pub network_data: Option<CloudInitData>,
}

/// Which data source the guest finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudInitKind {
    /// `cidata`.
    NoCloud,
    /// `config-2`.
    ConfigDrive,
}

/// A part of a cloud-init seed.
#[derive(Clone, PartialEq, Eq)]
pub enum CloudInitData {
    /// In the manifest (decoded when it was base64).
    Inline(String),
    /// In a Secret; its keys are `userdata`/`userData` and `networkdata`/`networkData`.
    SecretRef(String),
}

impl std::fmt::Debug for CloudInitData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // User data often holds passwords.
            Self::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Self::SecretRef(name) => write!(f, "SecretRef({name})"),
        }
    }
}
