//! Disks: what the guest sees.

spec! {
    /// A disk of the guest; its bytes come from the volume of the same name.
    pub struct Disk {
        required {
            /// Name.
            name: String,
        }
        optional {
            /// Block sizes.
            block_size: Option<BlockSize>,
            /// Boot order, 1 first.
            boot_order: Option<u32>,
            /// Host cache: `none`, `writethrough` or `writeback`.
            cache: Option<String>,
            /// A CD-ROM drive.
            cdrom: Option<CdRomTarget>,
            /// Its own I/O thread.
            #[serde(rename = "dedicatedIOThread")]
            dedicated_io_thread: Option<bool>,
            /// A hard disk (the default).
            disk: Option<DiskTarget>,
            /// I/O errors of the host: `stop` (the default), `ignore`, `report` or `enospace`.
            error_policy: Option<String>,
            /// Host I/O: `native`, `threads` or `io_uring`.
            io: Option<String>,
            /// Serial number that the guest sees.
            serial: Option<String>,
            /// May be opened by several machines.
            shareable: Option<bool>,
            /// Tag in the guest's cloud-init metadata.
            tag: Option<String>,
        }
    }

    /// Block sizes.
    pub struct BlockSize {
        optional {
            /// Given in bytes.
            custom: Option<CustomBlockSize>,
        }
    }

    /// Block sizes in bytes.
    pub struct CustomBlockSize {
        optional {
            /// What the guest addresses.
            logical: Option<u32>,
            /// What the disk likes best.
            physical: Option<u32>,
        }
    }

    /// A CD-ROM drive.
    pub struct CdRomTarget {
        optional {
            /// `sata` (the default) or `scsi`.
            bus: Option<String>,
            /// Write protected; true by default.
            readonly: Option<bool>,
            /// `closed` (the default) or `open`.
            tray: Option<String>,
        }
    }

    /// A hard disk.
    pub struct DiskTarget {
        optional {
            /// `virtio` (the default), `sata`, `scsi` or `usb`.
            bus: Option<String>,
            /// Place on the PCI bus, `dddd:bb:ss.f`; virtio only.
            pci_address: Option<String>,
            /// Write protected.
            readonly: Option<bool>,
        }
    }
}
