//! [`plan`]: puts the parts together.

use catamaran_spec::{MachineSpec, StartStrategy};

use crate::addresses::{self, SPARE_ROOT_PORTS};
use crate::disks::Part;
use crate::draft::Draft;
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::given::{Format, Given};
use crate::overhead::{self, Load};
use crate::plan::{Accelerator, Hardware, Plan, Prepare};
use crate::xml::{self, Element};
use crate::{clock, cpu, devices, disks, firmware, io_threads, memory, nics, paths, seeds};

const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Plans a machine on a host.
///
/// The result is a function of the three arguments alone. With [`Given::hardware`] from an earlier run of the same spec, machine type, CPU
/// model and PCI addresses are those of that run, whatever the host has learned since; after a change of the spec, devices that are still
/// there keep their addresses.
///
/// # Errors
/// Every reason why this machine can't run on this host, each with its field path.
pub fn plan(spec: &MachineSpec, facts: &HostFacts, given: &Given) -> Result<Plan, Vec<PlanError>> {
    let mut draft = Draft::new(spec, facts, given);
    check_texts(&mut draft);
    let mut hardware = resolve(&mut draft);

    let usb_inputs = devices::usb_inputs(&draft);
    let nics = nics::layout(&mut draft);
    let parts = disks::layout(&mut draft, usb_inputs);
    let mut needs = nics::needs(&draft);
    needs.extend(devices::needs(&draft));
    needs.extend(disks::needs(&draft, &parts));
    let earlier = given.hardware.as_ref().map(|hardware| &hardware.addresses);
    let spare = if spec.devices.disable_hotplug {
        0
    } else {
        SPARE_ROOT_PORTS
    };
    let addresses = addresses::assign(&needs, earlier, spare, &mut draft.errors);
    hardware.addresses = addresses.stored();
    seeds::prepare(&mut draft, &parts, &addresses);
    let agent_access = seeds::agent_access(&mut draft);
    let present: Vec<&str> = parts.iter().map(|part| part.disk.name.as_str()).collect();
    let threads = io_threads::assign(&draft, &present);

    let mut all = vec![Element::with_text("emulator", &facts.emulator)];
    all.extend(
        parts
            .iter()
            .map(|part| disks::element(&draft, part, &addresses, &threads)),
    );
    all.extend(addresses.controllers());
    all.extend(devices::controllers(&draft, &addresses));
    all.extend(disks::controllers(&draft, &parts, &addresses, &threads));
    all.extend(
        nics.iter()
            .map(|(nic, given)| nics::element(&draft, nic, given, &addresses)),
    );
    all.extend(devices::elements(&mut draft, &parts, &addresses));

    let kind = match facts.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let command_line = command_line(facts);
    let domain = Element::new("domain")
        .attr("type", kind)
        .opt_attr("xmlns:qemu", command_line.as_ref().map(|_| QEMU_NAMESPACE))
        .child(Element::with_text("name", spec.domain_name()))
        .child(Element::with_text("uuid", firmware::uuid(&draft)))
        .children(memory::elements(&mut draft))
        .child(cpu::vcpu(&draft))
        .children(threads.element())
        .child(firmware::sysinfo(&draft))
        .child(firmware::os(&mut draft, &hardware.machine))
        .child(firmware::features(&mut draft))
        .child(cpu::element(&draft, &hardware))
        .child(clock::element(&mut draft))
        .child(Element::with_text("on_poweroff", "destroy"))
        .child(Element::with_text("on_reboot", "restart"))
        // A panicked guest stays for the reader of its kernel log.
        .child(Element::with_text("on_crash", "preserve"))
        .child(Element::new("devices").children(all))
        .children(command_line);

    let load = load(&draft, &parts);
    let nics = nics
        .iter()
        .map(|(nic, given)| nics::plan(&draft, nic, given))
        .collect();
    let Draft {
        errors,
        notes,
        views,
        prepare,
        ..
    } = draft;
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan {
        generation: given.generation.clone(),
        domain: spec.domain_name(),
        hostname: spec.hostname.clone(),
        accelerator: facts.accelerator,
        views,
        prepare: in_order(prepare),
        nics,
        agent_access,
        domain_xml: domain.print(),
        hardware,
        grace_period_seconds: spec.termination_grace_period_seconds,
        start_paused: spec.start_strategy == StartStrategy::Paused,
        serial_console: spec.devices.serial_console,
        graphics: spec.devices.graphics,
        guest_memory: spec.memory.guest,
        overhead: overhead::total(spec, load),
        notes,
    })
}

/// Machine type and CPU model: those of an earlier run of the same spec, else this host's best.
fn resolve(draft: &mut Draft<'_>) -> Hardware {
    let digest = &draft.given.generation.spec_digest;
    let earlier = draft
        .given
        .hardware
        .clone()
        .filter(|hardware| hardware.spec_digest == *digest);
    if let Some(earlier) = earlier {
        if !draft.facts.machine_types.contains(&earlier.machine) {
            let there = draft.facts.machine_types.join(", ");
            let message = format!(
                "this machine was started as {}, which this host's emulator no longer has; it has: {there}",
                earlier.machine
            );
            draft.error("spec.domain.machine.type", message);
        }
        return earlier;
    }
    let machine = firmware::resolve_machine(draft);
    let (cpu_model, cpu_features) = cpu::resolve(draft);
    Hardware {
        spec_digest: draft.given.generation.spec_digest.clone(),
        machine,
        cpu_model,
        cpu_features,
        addresses: std::collections::BTreeMap::new(),
    }
}

/// libvirt has no element for this. It lets a new QEMU take over the memory of the old one while the guest runs.
fn command_line(facts: &HostFacts) -> Option<Element> {
    let arg = |value: &str| Element::new("qemu:arg").attr("value", value);
    (facts.qemu_version >= (10, 0, 0)).then(|| {
        Element::new("qemu:commandline")
            .child(arg("-machine"))
            .child(arg("aux-ram-share=on"))
    })
}

fn load(draft: &Draft<'_>, parts: &[Part<'_>]) -> Load {
    let caches = parts.iter().map(|part| {
        let files = usize::from(part.source.format == Format::Qcow2)
            + part
                .source
                .base
                .iter()
                .filter(|(_, format)| *format == Format::Qcow2)
                .count();
        u64::try_from(files).unwrap_or(0) * overhead::qcow2_cache(part.source.size)
    });
    Load {
        emulated: draft.emulated(),
        boot_files: draft.given.boot.as_ref().map_or(0, |boot| boot.size),
        qcow2_caches: caches.sum(),
    }
}

/// Folders before the files in them.
fn in_order(steps: Vec<Prepare>) -> Vec<Prepare> {
    let mut folders: Vec<&str> = Vec::new();
    for step in &steps {
        match step {
            Prepare::Overlay { .. } | Prepare::EmptyDisk { .. } => folders.push(paths::OVERLAYS),
            Prepare::Seed { .. } => folders.push(paths::SEEDS),
            Prepare::Nvram { .. } | Prepare::Folder { .. } => {}
        }
    }
    folders.sort_unstable();
    folders.dedup();
    let folders: Vec<Prepare> = folders
        .into_iter()
        .map(|path| Prepare::Folder {
            path: path.to_owned(),
        })
        .collect();
    folders.into_iter().chain(steps).collect()
}

/// Texts of the manifest that end up in the XML hold only what XML can.
fn check_texts(draft: &mut Draft<'_>) {
    let spec = draft.spec;
    let firmware = &spec.firmware;
    let chassis = &spec.chassis;
    let mut texts: Vec<(String, Option<&str>)> = vec![
        (
            "spec.domain.firmware.serial".into(),
            firmware.serial.as_deref(),
        ),
        (
            "spec.domain.firmware.kernelBoot.kernelArgs".into(),
            firmware.kernel_boot.as_ref().map(|boot| boot.args.as_str()),
        ),
        (
            "spec.domain.chassis.manufacturer".into(),
            chassis.manufacturer.as_deref(),
        ),
        (
            "spec.domain.chassis.version".into(),
            chassis.version.as_deref(),
        ),
        (
            "spec.domain.chassis.serial".into(),
            chassis.serial.as_deref(),
        ),
        ("spec.domain.chassis.asset".into(), chassis.asset.as_deref()),
        ("spec.domain.chassis.sku".into(), chassis.sku.as_deref()),
    ];
    for (index, disk) in spec.disks.iter().enumerate() {
        texts.push((
            format!("spec.domain.devices.disks[{index}].serial"),
            disk.serial.as_deref(),
        ));
    }
    for (field, text) in texts {
        if let Some(c) = text.and_then(xml::unfit_character) {
            draft.error(
                field,
                format!("holds the control character U+{:04X}", u32::from(c)),
            );
        }
    }
}
