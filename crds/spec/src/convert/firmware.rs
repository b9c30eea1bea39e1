//! Firmware, platform features, clock.

use catamaran_api::{DomainSpec, FeatureHyperv, FeatureState};
use uuid::Uuid;

use crate::defaults;
use crate::field::{Fault, Faults, FieldPath};
use crate::hardware::{
    Bootloader, Clock, ClockBase, Features, Firmware, Hyperv, KernelBoot, TickPolicy, Timers,
};
use crate::names;

const TICKS: [(&str, TickPolicy); 4] = [
    ("delay", TickPolicy::Delay),
    ("catchup", TickPolicy::Catchup),
    ("merge", TickPolicy::Merge),
    ("discard", TickPolicy::Discard),
];

/// Identity, boot loader and direct kernel boot; `None` when one of them cannot be told.
pub(super) fn firmware(
    domain: &DomainSpec,
    features: &Features,
    at: &FieldPath,
    faults: &mut Faults,
) -> Option<Firmware> {
    let path = at.child("firmware");
    let Some(firmware) = &domain.firmware else {
        return Some(Firmware {
            uuid: None,
            serial: None,
            bootloader: Bootloader::Bios { use_serial: false },
            kernel_boot: None,
        });
    };
    let uuid = firmware.uuid.as_deref().filter(|u| !u.is_empty());
    let parsed = uuid.and_then(|text| Uuid::parse_str(text).ok());
    if let (Some(text), None) = (uuid, parsed) {
        faults.invalid(
            &path.child("uuid"),
            text,
            "must be a UUID such as 6a1a24a1-4061-4607-8bf4-a3963d0c5895",
        );
    }
    let serial = firmware.serial.clone().filter(|s| !s.is_empty());
    if let Some(text) = serial
        .as_ref()
        .filter(|s| s.len() > 256 || !s.chars().all(|c| c.is_ascii_graphic() || c == ' '))
    {
        faults.invalid(
            &path.child("serial"),
            text,
            "must be at most 256 printable ASCII characters",
        );
    }
    let kernel_boot = firmware
        .kernel_boot
        .as_ref()
        .map(|boot| kernel_boot(boot, &path.child("kernelBoot"), faults));
    Some(Firmware {
        uuid: parsed,
        serial,
        bootloader: bootloader(firmware, features, &path.child("bootloader"), faults),
        kernel_boot: match kernel_boot {
            None => None,
            Some(boot) => Some(boot?),
        },
    })
}

fn bootloader(
    firmware: &catamaran_api::Firmware,
    features: &Features,
    path: &FieldPath,
    faults: &mut Faults,
) -> Bootloader {
    let Some(bootloader) = &firmware.bootloader else {
        return Bootloader::Bios { use_serial: false };
    };
    match (&bootloader.bios, &bootloader.efi) {
        (Some(_), Some(_)) => {
            faults.push(
                &path.child("efi"),
                Fault::Forbidden("bios and efi are mutually exclusive".to_owned()),
            );
            Bootloader::Bios { use_serial: false }
        }
        (bios, None) => Bootloader::Bios {
            use_serial: bios.as_ref().and_then(|b| b.use_serial).unwrap_or(false),
        },
        (None, Some(efi)) => {
            let secure_boot = efi.secure_boot.unwrap_or(true);
            if secure_boot && features.smm != Some(true) {
                let detail = "SecureBoot requires SMM: set features.smm, or secureBoot: false (it is true by default)";
                faults.invalid(&path.child("efi").child("secureBoot"), secure_boot, detail);
            }
            Bootloader::Efi {
                secure_boot,
                persistent: efi.persistent.unwrap_or(false),
            }
        }
    }
}

fn kernel_boot(
    boot: &catamaran_api::KernelBoot,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<KernelBoot> {
    let args = boot.kernel_args.clone().unwrap_or_default();
    let Some(container) = &boot.container else {
        faults.required(
            &path.child("container"),
            "kernel arguments cannot be provided without an external kernel",
        );
        return None;
    };
    let at = path.child("container");
    if container.image.is_empty() {
        faults.required(&at.child("image"), "");
    }
    for (name, file) in [
        ("kernelPath", &container.kernel_path),
        ("initrdPath", &container.initrd_path),
    ] {
        if let Some(file) = file.as_ref().filter(|f| !names::is_safe_path(f)) {
            faults.invalid(&at.child(name), file, names::PATH);
        }
    }
    if container.kernel_path.is_none() {
        let detail = if args.is_empty() {
            "an initrd cannot be booted without a kernel"
        } else {
            "kernel arguments cannot be provided without an external kernel"
        };
        faults.required(&at.child("kernelPath"), detail);
    }
    if args.contains('\0') || args.contains('\n') {
        faults.invalid(&path.child("kernelArgs"), &args, "must be one line");
    }
    Some(KernelBoot {
        image: container.image.clone(),
        pull_policy: super::volumes::pull_policy(
            container.image_pull_policy.as_deref(),
            &container.image,
            &at.child("imagePullPolicy"),
            faults,
        ),
        pull_secret: container
            .image_pull_secret
            .clone()
            .filter(|s| !s.is_empty()),
        kernel_path: container.kernel_path.clone(),
        initrd_path: container.initrd_path.clone(),
        args,
    })
}

fn on(state: Option<&FeatureState>) -> Option<bool> {
    state.map(|s| s.enabled.unwrap_or(true))
}

/// Platform features with their defaults.
pub(super) fn features(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> Features {
    let defaults = Features {
        acpi: true,
        apic: true,
        ..Features::default()
    };
    let Some(features) = &domain.features else {
        return defaults;
    };
    let path = at.child("features");
    let mut hyperv = features
        .hyperv
        .as_ref()
        .map(|h| hyperv_features(h, &path.child("hyperv"), faults));
    if features
        .hyperv_passthrough
        .as_ref()
        .is_some_and(|p| p.enabled.unwrap_or(true))
    {
        if hyperv.is_some() {
            faults.push(
                &path.child("hypervPassthrough"),
                Fault::Forbidden("hyperv and hypervPassthrough are mutually exclusive".to_owned()),
            );
        }
        hyperv.get_or_insert_default().passthrough = true;
    }
    Features {
        acpi: on(features.acpi.as_ref()).unwrap_or(true),
        apic: features
            .apic
            .as_ref()
            .and_then(|a| a.enabled)
            .unwrap_or(true),
        smm: on(features.smm.as_ref()),
        kvm_hidden: features
            .kvm
            .as_ref()
            .and_then(|k| k.hidden)
            .unwrap_or(false),
        pv_spinlock: on(features.pvspinlock.as_ref()),
        hyperv,
    }
}

/// Switches in the order of libvirt's schema; what one enlightenment needs is switched on with it, as the peer does.
fn hyperv_features(hyperv: &FeatureHyperv, path: &FieldPath, faults: &mut Faults) -> Hyperv {
    let mut vapic = on(hyperv.vapic.as_ref());
    let mut vpindex = on(hyperv.vpindex.as_ref());
    let mut synic = on(hyperv.synic.as_ref());
    let stimer = hyperv
        .synictimer
        .as_ref()
        .map(|t| (t.enabled.unwrap_or(true), on(t.direct.as_ref())));
    let tlbflush = hyperv.tlbflush.as_ref().map(|t| t.enabled.unwrap_or(true));
    let ipi = on(hyperv.ipi.as_ref());
    let evmcs = on(hyperv.evmcs.as_ref());

    let mut need = |by: Option<bool>, who: &str, what: &mut Option<bool>, name: &str| {
        if by == Some(true) {
            if *what == Some(false) {
                faults.invalid(
                    &path.child(who),
                    "enabled",
                    &format!("requires {name}, which is disabled"),
                );
            }
            *what = Some(true);
        }
    };
    need(stimer.map(|t| t.0), "synictimer", &mut synic, "synic");
    need(synic, "synic", &mut vpindex, "vpindex");
    need(tlbflush, "tlbflush", &mut vpindex, "vpindex");
    need(ipi, "ipi", &mut vpindex, "vpindex");
    need(evmcs, "evmcs", &mut vapic, "vapic");

    let switches = [
        ("relaxed", on(hyperv.relaxed.as_ref())),
        ("vapic", vapic),
        ("vpindex", vpindex),
        ("runtime", on(hyperv.runtime.as_ref())),
        ("synic", synic),
        ("reset", on(hyperv.reset.as_ref())),
        ("frequencies", on(hyperv.frequencies.as_ref())),
        ("reenlightenment", on(hyperv.reenlightenment.as_ref())),
        ("tlbflush", tlbflush),
        ("ipi", ipi),
        ("evmcs", evmcs),
    ];
    let spinlocks = hyperv.spinlocks.as_ref().map(|s| {
        (
            s.enabled.unwrap_or(true),
            s.spinlocks.unwrap_or(defaults::SPINLOCKS),
        )
    });
    if let Some((true, retries)) = spinlocks
        && retries < 4096
    {
        faults.invalid(
            &path.child("spinlocks").child("spinlocks"),
            retries,
            "must be greater than or equal to 4096",
        );
    }
    let vendor_id = hyperv.vendorid.as_ref().map(|v| {
        (
            v.enabled.unwrap_or(true),
            v.vendorid.clone().unwrap_or_default(),
        )
    });
    if let Some((true, id)) = &vendor_id {
        let path = path.child("vendorid").child("vendorid");
        if id.is_empty() {
            faults.required(&path, "");
        } else if id.len() > 12
            || !id.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            || id.contains(',')
        {
            faults.invalid(
                &path,
                id,
                "must be at most 12 printable ASCII characters without a comma",
            );
        }
    }
    Hyperv {
        switches: switches
            .into_iter()
            .filter_map(|(name, state)| Some((name, state?)))
            .collect(),
        spinlocks,
        stimer,
        vendor_id,
        passthrough: false,
    }
}

/// Clock and timers.
pub(super) fn clock(domain: &DomainSpec, at: &FieldPath, faults: &mut Faults) -> Clock {
    let utc = ClockBase::Utc {
        offset_seconds: None,
    };
    let Some(clock) = &domain.clock else {
        return Clock {
            base: utc,
            timers: Timers::default(),
        };
    };
    let path = at.child("clock");
    let base = match (&clock.timezone, &clock.utc) {
        (Some(_), Some(_)) => {
            faults.push(
                &path.child("timezone"),
                Fault::Forbidden("utc and timezone are mutually exclusive".to_owned()),
            );
            utc
        }
        (Some(zone), None) => {
            let fine = !zone.is_empty()
                && zone.split('/').all(|p| {
                    !p.is_empty()
                        && p.chars()
                            .all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
                });
            if !fine {
                faults.invalid(
                    &path.child("timezone"),
                    zone,
                    "must be an IANA time zone such as Europe/Berlin",
                );
            }
            ClockBase::Timezone(zone.clone())
        }
        (None, given) => ClockBase::Utc {
            offset_seconds: given.as_ref().and_then(|u| u.offset_seconds),
        },
    };
    let timers = clock
        .timer
        .as_ref()
        .map(|timer| timers(timer, &path.child("timer"), faults))
        .unwrap_or_default();
    Clock { base, timers }
}

fn timers(timer: &catamaran_api::Timer, path: &FieldPath, faults: &mut Faults) -> Timers {
    let mut ticks = |name: &str, policy: Option<&str>, allowed: &[(&str, TickPolicy)]| {
        faults.word(&path.child(name).child("tickPolicy"), policy, allowed)
    };
    let hpet = timer.hpet.as_ref().map(|t| {
        (
            t.present.unwrap_or(true),
            ticks("hpet", t.tick_policy.as_deref(), &TICKS),
        )
    });
    let pit = timer.pit.as_ref().map(|t| {
        (
            t.present.unwrap_or(true),
            ticks(
                "pit",
                t.tick_policy.as_deref(),
                &[TICKS[0], TICKS[1], TICKS[3]],
            ),
        )
    });
    let rtc = timer.rtc.as_ref().map(|t| {
        let policy = ticks("rtc", t.tick_policy.as_deref(), &TICKS[..2]);
        (t.present.unwrap_or(true), policy, t.track.clone())
    });
    if let Some((_, _, Some(track))) = &rtc {
        faults.word(
            &path.child("rtc").child("track"),
            Some(track),
            &[("guest", ()), ("wall", ())],
        );
    }
    Timers {
        hpet,
        kvm: timer.kvm.as_ref().map(|t| t.present.unwrap_or(true)),
        pit,
        rtc,
        hyperv: timer.hyperv.as_ref().map(|t| t.present.unwrap_or(true)),
    }
}
