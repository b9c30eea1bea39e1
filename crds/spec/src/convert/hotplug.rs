//! Volumes that come and go while the machine runs, told from those that it starts with.

use catamaran_api::VirtualMachineInstanceSpec;

use crate::disk::{Bus, Disk, DiskTarget, HotDisk, Volume, VolumeSource};
use crate::field::{Fault, Faults, FieldPath};
use crate::support::Context;

/// Buses that a disk can be plugged into while the machine runs.
const BUSES: [Bus; 2] = [Bus::Virtio, Bus::Scsi];

/// Disks and volumes that the machine starts with, and those that are plugged in when it runs. Under `play` all are there from the start.
pub(super) fn split(
    spec: &VirtualMachineInstanceSpec,
    (disks, volumes): (Vec<Disk>, Vec<Volume>),
    context: Context,
    path: &FieldPath,
    faults: &mut Faults,
) -> (Vec<Disk>, Vec<Volume>, Vec<HotDisk>) {
    let fields: Vec<(&str, FieldPath)> = match context {
        Context::Play => Vec::new(),
        Context::Cluster => fields(spec, path),
    };
    let (mut kept, mut hot) = (Vec::new(), Vec::new());
    for disk in disks {
        let Some((_, field)) = fields.iter().find(|(name, _)| *name == disk.name) else {
            kept.push(disk);
            continue;
        };
        check(spec, &disk, field, path, faults);
        let volume = volumes.iter().find(|volume| volume.name == disk.name);
        if let Some(VolumeSource::PersistentVolumeClaim { claim, read_only }) =
            volume.map(|volume| &volume.source)
        {
            hot.push(HotDisk {
                claim: claim.clone(),
                read_only: *read_only,
                disk,
            });
        }
    }
    let cold = |volume: &Volume| fields.iter().all(|(name, _)| *name != volume.name);
    let volumes = volumes.into_iter().filter(cold).collect();
    (kept, volumes, hot)
}

/// Names of the volumes that say so, and where they do.
fn fields<'a>(spec: &'a VirtualMachineInstanceSpec, path: &FieldPath) -> Vec<(&'a str, FieldPath)> {
    let volumes = spec.volumes.iter().enumerate();
    let found = volumes.filter_map(|(index, volume)| {
        let claim = volume.persistent_volume_claim.as_ref();
        let data = volume.data_volume.as_ref();
        let word = if claim.is_some_and(|claim| claim.hotpluggable == Some(true)) {
            "persistentVolumeClaim"
        } else if data.is_some_and(|data| data.hotpluggable == Some(true)) {
            "dataVolume"
        } else {
            return None;
        };
        let at = path.child("volumes").index(index).child(word);
        Some((volume.name.as_str(), at.child("hotpluggable")))
    });
    found.collect()
}

fn check(
    spec: &VirtualMachineInstanceSpec,
    disk: &Disk,
    field: &FieldPath,
    path: &FieldPath,
    faults: &mut Faults,
) {
    let devices = &spec.domain.devices;
    let mut forbid = |at: &FieldPath, words: &str| {
        faults.push(at, Fault::Forbidden(words.to_owned()));
    };
    for (set, name) in [
        (devices.disable_hotplug, "disableHotplug"),
        (devices.use_virtio_transitional, "useVirtioTransitional"),
    ] {
        if set == Some(true) {
            forbid(
                field,
                &format!("nothing can be plugged into a running machine with {name}"),
            );
        }
    }
    let index = devices.disks.iter().position(|d| d.name == disk.name);
    let at = path.child("domain").child("devices").child("disks");
    let at = at.index(index.unwrap_or_default());
    if disk.boot_order.is_some() {
        forbid(
            &at.child("bootOrder"),
            "a machine can't boot from a hotpluggable volume: it is plugged in when the machine runs",
        );
    }
    if disk.dedicated_io_thread {
        forbid(
            &at.child("dedicatedIOThread"),
            "I/O threads are made when the machine starts, not for hotpluggable volumes",
        );
    }
    match &disk.target {
        DiskTarget::Cdrom { .. } => forbid(
            &at.child("cdrom"),
            "a hotpluggable volume is a disk; CD-ROMs are there from the start",
        ),
        DiskTarget::Disk { bus, .. } if !BUSES.contains(bus) => faults.push(
            &at.child("disk").child("bus"),
            Fault::Unsupported(
                bus.as_str().to_owned(),
                BUSES.map(|bus| bus.as_str().to_owned()).into(),
            ),
        ),
        DiskTarget::Disk { .. } => {}
    }
    if disk.pci_address.is_some() {
        faults.push(
            &at.child("disk").child("pciAddress"),
            Fault::Forbidden(
                "a hotpluggable volume gets a root port that is free when it is plugged in"
                    .to_owned(),
            ),
        );
    }
}
