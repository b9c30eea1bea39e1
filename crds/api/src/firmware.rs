//! Firmware, boot loader, SMBIOS identity and direct kernel boot.

spec! {
    /// Firmware and boot.
    pub struct Firmware {
        optional {
            /// BIOS or UEFI; BIOS by default.
            bootloader: Option<Bootloader>,
            /// A kernel from a container image instead of a boot disk.
            kernel_boot: Option<KernelBoot>,
            /// SMBIOS serial number.
            serial: Option<String>,
            /// SMBIOS UUID.
            uuid: Option<String>,
        }
    }

    /// The boot loader: one of the two.
    pub struct Bootloader {
        optional {
            /// SeaBIOS.
            bios: Option<Bios>,
            /// OVMF.
            efi: Option<Efi>,
        }
    }

    /// SeaBIOS.
    pub struct Bios {
        optional {
            /// BIOS messages on the serial console.
            use_serial: Option<bool>,
        }
    }

    /// OVMF.
    pub struct Efi {
        optional {
            /// Variables survive the run.
            persistent: Option<bool>,
            /// Secure boot, true by default; needs `features.smm`.
            secure_boot: Option<bool>,
        }
    }

    /// A kernel from a container image.
    pub struct KernelBoot {
        optional {
            /// Where the files are.
            container: Option<KernelBootContainer>,
            /// Kernel command line.
            kernel_args: Option<String>,
        }
    }

    /// The image with a kernel.
    pub struct KernelBootContainer {
        required {
            /// Image reference.
            image: String,
        }
        optional {
            /// `Always`, `IfNotPresent` or `Never`.
            image_pull_policy: Option<String>,
            /// Name of a pull Secret.
            image_pull_secret: Option<String>,
            /// Absolute path of the initial RAM disk in the image.
            initrd_path: Option<String>,
            /// Absolute path of the kernel in the image.
            kernel_path: Option<String>,
        }
    }
}
