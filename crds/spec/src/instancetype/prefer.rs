//! What a preference fills where the machine says nothing.

use catamaran_api::{
    Bootloader, DevicePreferences, Devices, Disk, DomainSpec, Efi, FeaturePreferences,
    FirmwarePreferences, Input, Interface, InterfaceBridge, Network, PodNetwork, VideoDevice,
    VirtualMachineInstanceSpec, VirtualMachinePreferenceSpec,
};

use super::fill::{each, unset};
use crate::defaults;

/// Fills the spec of a machine's template.
pub(super) fn preference(
    from: &VirtualMachinePreferenceSpec,
    machine: &mut VirtualMachineInstanceSpec,
) {
    unset(
        &mut machine.architecture,
        from.preferred_architecture.as_ref(),
    );
    unset(&mut machine.subdomain, from.preferred_subdomain.as_ref());
    unset(
        &mut machine.termination_grace_period_seconds,
        from.preferred_termination_grace_period_seconds.as_ref(),
    );
    if let Some(devices) = &from.devices {
        network(devices, machine);
        self::devices(devices, &mut machine.domain.devices);
    }
    domain(from, &mut machine.domain);
}

fn domain(from: &VirtualMachinePreferenceSpec, domain: &mut DomainSpec) {
    let cpu = from.cpu.iter();
    for feature in cpu.flat_map(|cpu| &cpu.preferred_cpu_features) {
        let features = &mut domain.cpu.get_or_insert_default().features;
        if features.iter().all(|there| there.name != feature.name) {
            features.push(feature.clone());
        }
    }
    let machine = from.machine.as_ref();
    if let Some(preferred) = machine.and_then(|machine| machine.preferred_machine_type.as_ref()) {
        let machine = domain.machine.get_or_insert_default();
        if machine.type_.as_ref().is_none_or(String::is_empty) {
            machine.type_ = Some(preferred.clone());
        }
    }
    if let Some(preferred) = &from.clock {
        let clock = domain.clock.get_or_insert_default();
        each(&mut clock.timer, preferred.preferred_timer.as_ref());
        if let Some(offset) = &preferred.preferred_clock_offset
            && clock.timezone.is_none()
            && clock.utc.is_none()
        {
            clock.timezone.clone_from(&offset.timezone);
            clock.utc.clone_from(&offset.utc);
        }
    }
    if let Some(preferred) = &from.features {
        features(preferred, domain);
    }
    if let Some(preferred) = &from.firmware {
        firmware(preferred, domain);
    }
}

fn features(from: &FeaturePreferences, domain: &mut DomainSpec) {
    let features = domain.features.get_or_insert_default();
    unset(&mut features.acpi, from.preferred_acpi.as_ref());
    unset(&mut features.apic, from.preferred_apic.as_ref());
    unset(&mut features.kvm, from.preferred_kvm.as_ref());
    unset(&mut features.pvspinlock, from.preferred_pvspinlock.as_ref());
    unset(&mut features.smm, from.preferred_smm.as_ref());
    // Both at once would contradict.
    if features.hyperv_passthrough.is_none() {
        each(&mut features.hyperv, from.preferred_hyperv.as_ref());
    }
}

fn firmware(from: &FirmwarePreferences, domain: &mut DomainSpec) {
    let there = domain.firmware.as_ref();
    let mut loader = there
        .and_then(|firmware| firmware.bootloader.clone())
        .unwrap_or_default();
    let open = |loader: &Bootloader| loader.bios.is_none() && loader.efi.is_none();
    if from.preferred_use_bios == Some(true) && open(&loader) {
        loader.bios = Some(Default::default());
    }
    if let (Some(preferred), Some(bios)) = (&from.preferred_use_bios_serial, &mut loader.bios) {
        unset(&mut bios.use_serial, Some(preferred));
    }
    if let Some(efi) = from.preferred_efi.as_ref().filter(|_| open(&loader)) {
        loader.efi = Some(efi.clone());
    }
    if from.preferred_use_efi == Some(true) && open(&loader) {
        loader.efi = Some(Efi::default());
    }
    if let Some(efi) = &mut loader.efi {
        unset(
            &mut efi.secure_boot,
            from.preferred_use_secure_boot.as_ref(),
        );
    }
    if !open(&loader) {
        domain.firmware.get_or_insert_default().bootloader = Some(loader);
    }
}

/// Interfaces. A machine that names none gets the one that it would have got, so that the preference has something to fill.
fn network(from: &DevicePreferences, machine: &mut VirtualMachineInstanceSpec) {
    let devices = &mut machine.domain.devices;
    let asks =
        from.preferred_interface_model.is_some() || from.preferred_interface_masquerade.is_some();
    let attach = devices
        .autoattach_pod_interface
        .or(from.preferred_autoattach_pod_interface);
    if asks && attach != Some(false) && devices.interfaces.is_empty() && machine.networks.is_empty()
    {
        let binding = from.preferred_interface_masquerade.as_ref();
        devices.interfaces.push(Interface {
            name: defaults::NETWORK_NAME.to_owned(),
            bridge: binding.is_none().then(InterfaceBridge::default),
            ..Interface::default()
        });
        machine.networks.push(Network {
            name: defaults::NETWORK_NAME.to_owned(),
            pod: Some(PodNetwork::default()),
            ..Network::default()
        });
    }
    for interface in &mut devices.interfaces {
        unset(
            &mut interface.model,
            from.preferred_interface_model.as_ref(),
        );
        let mut networks = machine.networks.iter();
        let of_pod =
            networks.any(|network| network.name == interface.name && network.pod.is_some());
        let bound = interface.bridge.is_some()
            || [
                "binding",
                "macvtap",
                "passt",
                "passtBinding",
                "slirp",
                "sriov",
            ]
            .iter()
            .any(|binding| interface.unknown.contains_key(*binding));
        if of_pod && !bound {
            unset(
                &mut interface.masquerade,
                from.preferred_interface_masquerade.as_ref(),
            );
        }
    }
}

fn devices(from: &DevicePreferences, devices: &mut Devices) {
    for (field, preferred) in [
        (
            &mut devices.autoattach_graphics_device,
            from.preferred_autoattach_graphics_device,
        ),
        (
            &mut devices.autoattach_input_device,
            from.preferred_autoattach_input_device,
        ),
        (
            &mut devices.autoattach_mem_balloon,
            from.preferred_autoattach_mem_balloon,
        ),
        (
            &mut devices.autoattach_pod_interface,
            from.preferred_autoattach_pod_interface,
        ),
        (
            &mut devices.autoattach_serial_console,
            from.preferred_autoattach_serial_console,
        ),
        (
            &mut devices.block_multi_queue,
            from.preferred_block_multi_queue,
        ),
        (&mut devices.disable_hotplug, from.preferred_disable_hotplug),
        (
            &mut devices.network_interface_multiqueue,
            from.preferred_network_interface_multi_queue,
        ),
        (
            &mut devices.use_virtio_transitional,
            from.preferred_use_virtio_transitional,
        ),
    ] {
        unset(field, preferred.as_ref());
    }
    unset(&mut devices.rng, from.preferred_rng.as_ref());
    unset(&mut devices.tpm, from.preferred_tpm.as_ref());
    if devices.autoattach_graphics_device != Some(false)
        && let Some(type_) = &from.preferred_video_type
    {
        let video = devices.video.get_or_insert_with(VideoDevice::default);
        unset(&mut video.type_, Some(type_));
    }
    for panic in &mut devices.panic_devices {
        unset(&mut panic.model, from.preferred_panic_device_model.as_ref());
    }
    inputs(from, devices);
    for disk in &mut devices.disks {
        self::disk(from, disk);
    }
}

fn inputs(from: &DevicePreferences, devices: &mut Devices) {
    let (bus, type_) = (&from.preferred_input_bus, &from.preferred_input_type);
    let asks = bus.is_some() || type_.is_some();
    if asks && devices.autoattach_input_device == Some(true) && devices.inputs.is_empty() {
        devices.inputs.push(Input {
            name: "default-0".to_owned(),
            type_: type_.clone().unwrap_or_else(|| "tablet".to_owned()),
            ..Input::default()
        });
    }
    for input in &mut devices.inputs {
        unset(&mut input.bus, bus.as_ref());
        if let Some(type_) = type_.as_ref().filter(|_| input.type_.is_empty()) {
            input.type_.clone_from(type_);
        }
    }
}

fn disk(from: &DevicePreferences, disk: &mut Disk) {
    let is_lun = disk.unknown.contains_key("lun");
    if let Some(cdrom) = &mut disk.cdrom {
        unset(&mut cdrom.bus, from.preferred_cdrom_bus.as_ref());
    } else if !is_lun {
        let preferred = from.preferred_disk_bus.as_ref();
        if let Some(target) = &mut disk.disk {
            unset(&mut target.bus, preferred);
        } else if preferred.is_some() {
            disk.disk.get_or_insert_default().bus = preferred.cloned();
        }
        let bus = disk.disk.as_ref().and_then(|disk| disk.bus.as_deref());
        if bus.is_none_or(|bus| bus == "virtio") {
            unset(
                &mut disk.dedicated_io_thread,
                from.preferred_disk_dedicated_io_thread.as_ref(),
            );
        }
    }
    unset(&mut disk.cache, from.preferred_disk_cache.as_ref());
    unset(&mut disk.io, from.preferred_disk_io.as_ref());
    unset(
        &mut disk.block_size,
        from.preferred_disk_block_size.as_ref(),
    );
}
