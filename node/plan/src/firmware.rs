//! Machine type, boot loader, direct kernel boot, SMBIOS and platform features.

use catamaran_spec::{Bootloader, MachineSpec};

use crate::draft::Draft;
use crate::paths;
use crate::plan::{FileSource, Prepare};
use crate::xml::Element;

/// Bounds in MiB of the translator's buffer: an eighth of guest memory within these. 16 MiB cost a booting guest of 256 MiB a third of its
/// speed, 256 MiB gained it nothing over 32.
const TB_CACHE: (u64, u64) = (32, 128);
/// MiB of that buffer for each further vCPU, which translates into a part of its own.
const TB_CACHE_PER_VCPU: u64 = 16;

/// Turns `q35` into a versioned machine type.
pub(crate) fn resolve_machine(draft: &mut Draft<'_>) -> String {
    const FIELD: &str = "spec.domain.machine.type";
    let known = &draft.facts.machine_types;
    let Some(newest) = known.first().cloned() else {
        draft.error(FIELD, "the emulator of this host has no q35 machine");
        return String::new();
    };
    match draft.spec.machine_type.as_str() {
        "q35" | "" => newest,
        name if known.iter().any(|machine| machine == name) => name.to_owned(),
        name => {
            let message = format!(
                "machine type {name:?} is not there on this host; there are: q35, {}",
                known.join(", ")
            );
            draft.error(FIELD, message);
            newest
        }
    }
}

/// Path of the UEFI variables inside the sandbox.
fn nvram(persistent: bool) -> &'static str {
    if persistent {
        paths::NVRAM_PERSISTENT
    } else {
        paths::NVRAM_EPHEMERAL
    }
}

fn secure_boot(draft: &Draft<'_>) -> bool {
    matches!(
        draft.spec.firmware.bootloader,
        Bootloader::Efi {
            secure_boot: true,
            ..
        }
    )
}

/// `<os>`.
pub(crate) fn os(draft: &mut Draft<'_>, machine: &str) -> Element {
    let spec = draft.spec;
    let kind = Element::with_text("type", "hvm")
        .attr("arch", "x86_64")
        .attr("machine", machine);
    let os = Element::new("os").child(kind);
    let os = match &spec.firmware.bootloader {
        Bootloader::Bios { .. } => os,
        Bootloader::Efi {
            secure_boot,
            persistent,
        } => os.children(loader(draft, *secure_boot, *persistent)),
    };
    let os = os.children(kernel(draft));
    let os = match &spec.firmware.bootloader {
        Bootloader::Bios { use_serial: true } if spec.devices.serial_console => {
            os.child(Element::new("bios").attr("useserial", "yes"))
        }
        Bootloader::Bios { use_serial: true } => {
            draft.error(
                "spec.domain.firmware.bootloader.bios.useSerial",
                "needs a serial port, and autoattachSerialConsole is false",
            );
            os
        }
        _ => os,
    };
    os.child(Element::new("smbios").attr("mode", "sysinfo"))
}

fn loader(draft: &mut Draft<'_>, secure: bool, persistent: bool) -> Vec<Element> {
    const EFI: &str = "spec.domain.firmware.bootloader.efi";
    if !draft.spec.features.acpi {
        draft.error(
            "spec.domain.features.acpi.enabled",
            "UEFI firmware needs ACPI",
        );
    }
    let Some(ovmf) = &draft.facts.ovmf else {
        draft.error(EFI, "this host has no OVMF firmware");
        return Vec::new();
    };
    let (code, vars) = match (secure, &ovmf.secure_code, &ovmf.secure_vars) {
        (false, _, _) => (&ovmf.code, &ovmf.vars),
        (true, Some(code), Some(vars)) => (code, vars),
        (true, _, _) => {
            draft.error(
                format!("{EFI}.secureBoot"),
                "this host's OVMF has no secure boot variant; install one or set secureBoot: false",
            );
            return Vec::new();
        }
    };
    if secure && draft.spec.features.smm == Some(false) {
        draft.error("spec.domain.features.smm.enabled", "secure boot needs SMM");
    }
    let path = nvram(persistent);
    draft.prepare.push(Prepare::Nvram {
        path: path.to_owned(),
        template: vars.clone(),
    });
    vec![
        Element::with_text("loader", code)
            .attr("readonly", "yes")
            .attr("secure", if secure { "yes" } else { "no" })
            .attr("type", "pflash"),
        Element::with_text("nvram", path),
    ]
}

fn kernel(draft: &mut Draft<'_>) -> Vec<Element> {
    const FIELD: &str = "spec.domain.firmware.kernelBoot.container";
    let Some(boot) = &draft.spec.firmware.kernel_boot else {
        return Vec::new();
    };
    let given = draft.given.boot.clone();
    let (kernel, initrd, visible) = given.map_or((None, None, false), |given| {
        (given.kernel, given.initrd, given.inside)
    });
    let mut elements = Vec::new();
    for (wanted, file, inside, name, key) in [
        (
            &boot.kernel_path,
            kernel,
            paths::KERNEL,
            "kernel",
            "kernelPath",
        ),
        (
            &boot.initrd_path,
            initrd,
            paths::INITRD,
            "initrd",
            "initrdPath",
        ),
    ] {
        match (wanted, file) {
            (None, _) => {}
            (Some(path), None) => draft.error(
                format!("{FIELD}.{key}"),
                format!("image {} has no file {path}", boot.image),
            ),
            (Some(_), Some(file)) if visible => {
                elements.push(Element::with_text(name, file));
            }
            (Some(_), Some(file)) => {
                draft.view(FileSource::HostFile(file), inside, false);
                elements.push(Element::with_text(name, inside));
            }
        }
    }
    if !boot.args.is_empty() {
        elements.push(Element::with_text("cmdline", &boot.args));
    }
    elements
}

/// `<sysinfo>`: what the guest reads as its vendor, serial number and chassis.
pub(crate) fn sysinfo(draft: &Draft<'_>) -> Element {
    let entry = |name: &str, value: &str| Element::with_text("entry", value).attr("name", name);
    let chassis = &draft.spec.chassis;
    let chassis: Vec<Element> = [
        ("manufacturer", &chassis.manufacturer),
        ("version", &chassis.version),
        ("serial", &chassis.serial),
        ("asset", &chassis.asset),
        ("sku", &chassis.sku),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.as_deref().map(|value| entry(name, value)))
    .collect();
    let chassis = (!chassis.is_empty()).then(|| Element::new("chassis").children(chassis));
    let system = Element::new("system")
        .child(entry("manufacturer", "Catamaran"))
        .child(entry("product", "Catamaran virtual machine"))
        .child(entry("serial", serial(draft)))
        .child(entry("uuid", &uuid(draft).to_string()))
        // Tools that look for the peer's guests find them by the family.
        .child(entry("family", "KubeVirt"));
    Element::new("sysinfo")
        .attr("type", "smbios")
        .child(system)
        .children(chassis)
}

/// UUID of the domain and of its SMBIOS.
pub(crate) fn uuid(draft: &Draft<'_>) -> uuid::Uuid {
    draft
        .spec
        .firmware
        .uuid
        .unwrap_or(draft.given.identity.firmware_uuid)
}

fn serial<'a>(draft: &'a Draft<'_>) -> &'a str {
    draft
        .spec
        .firmware
        .serial
        .as_deref()
        .unwrap_or(&draft.given.identity.firmware_serial)
}

/// MiB of the translator's buffer; `None` with KVM.
pub(crate) fn tb_cache_mib(spec: &MachineSpec, emulated: bool) -> Option<u64> {
    let (least, most) = TB_CACHE;
    let by_memory = (spec.memory.guest / 8 / (1 << 20)).clamp(least, most);
    emulated.then(|| by_memory + TB_CACHE_PER_VCPU * u64::from(spec.cpu.count().saturating_sub(1)))
}

/// `<features>`.
pub(crate) fn features(draft: &mut Draft<'_>) -> Element {
    let features = &draft.spec.features;
    let on_off = |on: bool| if on { "on" } else { "off" };
    let state = |name: &'static str, on: bool| Element::new(name).attr("state", on_off(on));
    let smm = if secure_boot(draft) {
        Some(true)
    } else {
        features.smm
    };
    let mut kvm_only = Vec::new();
    if features.hyperv.is_some() {
        kvm_only.push("Hyper-V enlightenments");
    }
    if features.kvm_hidden {
        kvm_only.push("kvm.hidden");
    }
    if features.pv_spinlock.is_some() {
        kvm_only.push("pvspinlock");
    }
    let emulated = draft.emulated();
    if emulated && !kvm_only.is_empty() {
        draft.note(format!("{}: left out, needs KVM", kvm_only.join(", ")));
    }
    let features = &draft.spec.features;
    let hyperv = features
        .hyperv
        .as_ref()
        .filter(|_| !emulated)
        .and_then(crate::hyperv::element);
    let kvm = (features.kvm_hidden && !emulated)
        .then(|| Element::new("kvm").child(state("hidden", true)));
    let pv_spinlock = features
        .pv_spinlock
        .filter(|_| !emulated)
        .map(|on| state("pvspinlock", on));
    let cache = tb_cache_mib(draft.spec, emulated).map(|mib| {
        Element::new("tcg").child(Element::with_text("tb-cache", mib).attr("unit", "MiB"))
    });
    Element::new("features")
        .children(features.acpi.then(|| Element::new("acpi")))
        .children(features.apic.then(|| Element::new("apic")))
        .children(hyperv)
        .children(kvm)
        .children(pv_spinlock)
        .child(state("vmport", false))
        .children(smm.map(|on| state("smm", on)))
        // Where the guest's kernel leaves the note that its log is found by.
        .child(state("vmcoreinfo", true))
        .children(cache)
}
