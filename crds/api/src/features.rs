//! Platform features and Hyper-V enlightenments.

spec! {
    /// Platform features.
    pub struct Features {
        optional {
            /// ACPI; on by default.
            acpi: Option<FeatureState>,
            /// APIC; on by default.
            apic: Option<FeatureApic>,
            /// Hyper-V enlightenments.
            hyperv: Option<FeatureHyperv>,
            /// Every enlightenment that the host has.
            hyperv_passthrough: Option<HyperVPassthrough>,
            /// KVM's own signature.
            kvm: Option<FeatureKvm>,
            /// Paravirtualised spinlocks.
            pvspinlock: Option<FeatureState>,
            /// System management mode.
            smm: Option<FeatureState>,
        }
    }

    /// A switch; present means on unless `enabled` says otherwise.
    pub struct FeatureState {
        optional {
            /// On by default.
            enabled: Option<bool>,
        }
    }

    /// APIC.
    pub struct FeatureApic {
        optional {
            /// On by default.
            enabled: Option<bool>,
            /// End-of-interrupt enlightenment.
            end_of_interrupt: Option<bool>,
        }
    }

    /// Hyper-V enlightenments; each is left to the hypervisor when absent.
    pub struct FeatureHyperv {
        optional {
            /// Enlightened VMCS.
            evmcs: Option<FeatureState>,
            /// TSC and APIC frequency registers.
            frequencies: Option<FeatureState>,
            /// Paravirtualised inter-processor interrupts.
            ipi: Option<FeatureState>,
            /// Notification when the TSC frequency changes.
            reenlightenment: Option<FeatureState>,
            /// Relaxed timing checks.
            relaxed: Option<FeatureState>,
            /// Reset register.
            reset: Option<FeatureState>,
            /// Runtime register.
            runtime: Option<FeatureState>,
            /// Spinlock retries.
            spinlocks: Option<FeatureSpinlocks>,
            /// Synthetic interrupt controller.
            synic: Option<FeatureState>,
            /// Synthetic timers.
            synictimer: Option<SyNicTimer>,
            /// Paravirtualised TLB flush.
            tlbflush: Option<TlbFlush>,
            /// Virtual APIC.
            vapic: Option<FeatureState>,
            /// Vendor id shown to the guest.
            vendorid: Option<FeatureVendorId>,
            /// Virtual processor index.
            vpindex: Option<FeatureState>,
        }
    }

    /// Spinlock retries.
    pub struct FeatureSpinlocks {
        optional {
            /// On by default.
            enabled: Option<bool>,
            /// Retries, 4096 or more.
            spinlocks: Option<u32>,
        }
    }

    /// Synthetic timers.
    pub struct SyNicTimer {
        optional {
            /// Direct mode.
            direct: Option<FeatureState>,
            /// On by default.
            enabled: Option<bool>,
        }
    }

    /// Paravirtualised TLB flush.
    pub struct TlbFlush {
        optional {
            /// Direct mode.
            direct: Option<FeatureState>,
            /// On by default.
            enabled: Option<bool>,
            /// Extended ranges.
            extended: Option<FeatureState>,
        }
    }

    /// Vendor id shown to the guest.
    pub struct FeatureVendorId {
        optional {
            /// On by default.
            enabled: Option<bool>,
            /// Up to 12 characters.
            vendorid: Option<String>,
        }
    }

    /// Every enlightenment that the host has.
    pub struct HyperVPassthrough {
        optional {
            /// On by default.
            enabled: Option<bool>,
        }
    }

    /// KVM's own signature.
    pub struct FeatureKvm {
        optional {
            /// Hide it from the guest.
            hidden: Option<bool>,
        }
    }
}
