//! Where the bytes of each disk come from: views of host files, overlays and empty disks.

use catamaran_spec::{Disk, DiskTarget, Volume, VolumeSource};

use crate::draft::Draft;
use crate::given::{Format, GivenDisk};
use crate::paths;
use crate::plan::{FileSource, Prepare};

/// The file that QEMU opens for a disk.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Path in the sandbox.
    pub(crate) file: String,
    pub(crate) format: Format,
    /// (path in the sandbox, format) of the file below an overlay.
    pub(crate) base: Option<(String, Format)>,
    /// What it is.
    pub(crate) kind: SourceKind,
    /// Neither the guest nor QEMU writes.
    pub(crate) read_only: bool,
    /// The file system takes `O_DIRECT`.
    pub(crate) direct_io: bool,
    /// Opened by other machines too.
    pub(crate) shared: bool,
    /// [`Self::file`] is a block device.
    pub(crate) block: bool,
    /// So is the file below the overlay.
    pub(crate) base_block: bool,
    /// Virtual size in bytes; 0 = small.
    pub(crate) size: u64,
    /// Bytes that the file may grow to.
    pub(crate) limit: Option<u64>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// Outlives the run.
    Durable,
    /// Thrown away after the run.
    Scratch,
    /// A small disk that the launcher makes.
    Seed,
}

/// Path of a seed in the sandbox.
pub(crate) fn seed_path(volume: &str) -> String {
    format!("{}/{volume}.iso", paths::SEEDS)
}

/// Resolves the volume of a disk; `None` = left out or refused.
pub(crate) fn source(draft: &mut Draft<'_>, volume: &Volume, disk: &Disk) -> Option<Source> {
    let name = volume.name.as_str();
    if draft.given.absent.iter().any(|absent| absent == name) {
        if matches!(
            &volume.source,
            VolumeSource::ConfigMap { optional: true, .. }
                | VolumeSource::Secret { optional: true, .. }
        ) {
            draft.note(format!(
                "disk {name}: left out, its object is missing and optional"
            ));
        } else {
            draft.error(
                "spec.volumes",
                format!("the object of volume {name:?} is missing and not optional"),
            );
        }
        return None;
    }
    // A drive that never writes needs no overlay.
    let never_written = disk.target.readonly() || matches!(disk.target, DiskTarget::Cdrom { .. });
    match &volume.source {
        VolumeSource::ContainerDisk { .. } | VolumeSource::Ephemeral { .. } => {
            let given = file(draft, volume)?;
            let base = view(draft, name, &given, false);
            Some(if never_written {
                plain(base, &given, true)
            } else {
                overlay(draft, name, base, &given)
            })
        }
        VolumeSource::PersistentVolumeClaim { read_only, .. } => {
            let given = file(draft, volume)?;
            let inside = view(draft, name, &given, !*read_only && !never_written);
            Some(plain(inside, &given, *read_only || never_written))
        }
        VolumeSource::HostDisk { shared, .. } => {
            let given = file(draft, volume)?;
            let inside = view(draft, name, &given, !never_written);
            let mut source = plain(inside, &given, never_written);
            source.shared = *shared;
            Some(source)
        }
        VolumeSource::EmptyDisk { capacity } => {
            let path = format!("{}/{name}.qcow2", paths::OVERLAYS);
            draft.prepare.push(Prepare::EmptyDisk {
                path: path.clone(),
                size: *capacity,
            });
            Some(Source {
                file: path,
                format: Format::Qcow2,
                base: None,
                kind: SourceKind::Scratch,
                read_only: false,
                direct_io: false,
                shared: false,
                block: false,
                base_block: false,
                size: *capacity,
                limit: None,
            })
        }
        VolumeSource::CloudInit(_)
        | VolumeSource::ConfigMap { .. }
        | VolumeSource::Secret { .. }
        | VolumeSource::DownwardApi { .. } => Some(Source {
            file: seed_path(name),
            format: Format::Raw,
            base: None,
            kind: SourceKind::Seed,
            read_only: true,
            direct_io: false,
            shared: false,
            block: false,
            base_block: false,
            size: 0,
            limit: None,
        }),
    }
}

fn file(draft: &mut Draft<'_>, volume: &Volume) -> Option<GivenDisk> {
    let given = draft.given.disks.get(&volume.name).cloned();
    if given.is_none() {
        let index = draft
            .spec
            .volumes
            .iter()
            .position(|other| other.name == volume.name)
            .unwrap_or(0);
        draft.error(
            format!("spec.volumes[{index}]"),
            format!("no disk file was found for volume {:?}", volume.name),
        );
    }
    given
}

fn view(draft: &mut Draft<'_>, name: &str, given: &GivenDisk, writable: bool) -> String {
    if given.inside {
        return given.host_path.clone();
    }
    let inside = format!("{}/{name}", paths::DISKS);
    draft.view(
        FileSource::HostFile(given.host_path.clone()),
        inside.clone(),
        writable,
    );
    inside
}

fn plain(file: String, given: &GivenDisk, read_only: bool) -> Source {
    Source {
        file,
        format: given.format,
        base: None,
        kind: SourceKind::Durable,
        read_only,
        direct_io: given.direct_io,
        shared: false,
        block: given.block,
        base_block: false,
        size: given.virtual_size,
        limit: None,
    }
}

fn overlay(draft: &mut Draft<'_>, name: &str, base: String, given: &GivenDisk) -> Source {
    let path = format!("{}/{name}.qcow2", paths::OVERLAYS);
    // A file as long as the disk and its tables can't run into the limit.
    let most = given.virtual_size + given.virtual_size / 1024 + (1 << 20);
    let limit = draft.given.overlay_limit.filter(|limit| *limit < most);
    draft.prepare.push(Prepare::Overlay {
        path: path.clone(),
        base: base.clone(),
        base_format: given.format,
        size: given.virtual_size,
        limit,
    });
    Source {
        file: path,
        format: Format::Qcow2,
        base: Some((base, given.format)),
        kind: SourceKind::Scratch,
        read_only: false,
        direct_io: given.direct_io,
        shared: false,
        block: false,
        base_block: given.block,
        size: given.virtual_size,
        limit,
    }
}
