//! Disk files of a machine: images pulled, claims made, host files checked, all before anything is planned.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use catamaran_images::{
    DiskFile, DiskImage, ImagePath, ImageReference, ImageRequest, PullAuth, ensure_raw, open_disk,
};
use catamaran_plan::paths::{GID, UID};
use catamaran_plan::{Format, GivenBoot, GivenDisk};
use catamaran_spec::{HostDiskKind, MachineSpec, PullPolicy, VolumeSource};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Deserialize as _;

use crate::machine::claims::{Access, Hold};
use crate::machine::config;
use crate::machine::error::StartError;
use crate::machine::progress::Progress;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// File of a claim in its folder.
pub const CLAIM_FILE: &str = "disk.img";

/// What was found for a machine's volumes.
#[derive(Debug, Default)]
pub struct Found {
    /// Disk files by volume.
    pub disks: BTreeMap<String, GivenDisk>,
    /// The files among them that others may reach by their path, checked and held open.
    pub files: Vec<DiskFile>,
    /// Optional volumes whose object is missing.
    pub absent: Vec<String>,
    /// Kernel and initial RAM disk.
    pub boot: Option<GivenBoot>,
    /// Names in the image cache that must not be collected while the machine runs.
    pub images: Vec<String>,
}

impl Found {
    fn add(&mut self, volume: &str, file: DiskFile) {
        self.disks.insert(volume.to_owned(), raw(&file));
        self.files.push(file);
    }
}

/// Finds or makes everything; disks that may change are taken for the machine.
///
/// # Errors
/// The first volume that can't be had.
pub async fn find(daemon: &Daemon, machine: &Key, spec: &MachineSpec) -> Result<Found, StartError> {
    let mut found = Found::default();
    for volume in &spec.volumes {
        let name = &volume.name;
        match &volume.source {
            VolumeSource::ContainerDisk {
                image,
                path,
                pull_policy,
                pull_secret,
            } => {
                let disk = container_disk(
                    daemon,
                    machine,
                    name,
                    image,
                    path.as_deref(),
                    *pull_policy,
                    pull_secret.as_deref(),
                )
                .await?;
                found.images.push(disk.id);
                let format = match disk.format {
                    catamaran_images::Format::Raw => Format::Raw,
                    catamaran_images::Format::Qcow2 => Format::Qcow2,
                };
                found.disks.insert(
                    name.clone(),
                    given(&disk.path, format, disk.virtual_size, true),
                );
            }
            VolumeSource::PersistentVolumeClaim { claim, read_only } => {
                let file = claimed(daemon, name, &machine.namespace, claim)?;
                let access = if *read_only {
                    Access::Read
                } else {
                    Access::Write
                };
                daemon.claims.take(&Hold::of(&file, access), machine)?;
                found.add(name, file);
            }
            // The claim itself is only read, below an overlay; nobody may write to it meanwhile.
            VolumeSource::Ephemeral { claim, .. } => {
                let file = claimed(daemon, name, &machine.namespace, claim)?;
                daemon
                    .claims
                    .take(&Hold::of(&file, Access::Read), machine)?;
                found.add(name, file);
            }
            VolumeSource::HostDisk {
                path,
                kind,
                capacity,
                shared,
            } => {
                let file = host_disk(name, Path::new(path), *kind, *capacity)?;
                let readonly = spec
                    .disks
                    .iter()
                    .any(|disk| disk.name == *name && disk.target.readonly());
                file.check_access(UID, GID, !readonly)
                    .map_err(|source| StartError::Disk {
                        volume: name.clone(),
                        source,
                    })?;
                let access = match (shared, readonly) {
                    (true, _) => Access::Together,
                    (false, true) => Access::Read,
                    (false, false) => Access::Write,
                };
                daemon.claims.take(&Hold::of(&file, access), machine)?;
                found.add(name, file);
            }
            VolumeSource::ConfigMap {
                name: object,
                optional,
                ..
            } => {
                needs(
                    daemon,
                    &Key::new(Kind::ConfigMap, &machine.namespace, object),
                    *optional,
                    name,
                    &mut found,
                )?;
            }
            VolumeSource::Secret {
                name: object,
                optional,
                ..
            } => {
                needs(
                    daemon,
                    &Key::new(Kind::Secret, &machine.namespace, object),
                    *optional,
                    name,
                    &mut found,
                )?;
            }
            VolumeSource::CloudInit(_)
            | VolumeSource::EmptyDisk { .. }
            | VolumeSource::DownwardApi { .. } => {}
        }
    }
    found.boot = kernel(daemon, machine, spec, &mut found.images).await?;
    Ok(found)
}

fn needs(
    daemon: &Daemon,
    key: &Key,
    optional: bool,
    volume: &str,
    found: &mut Found,
) -> Result<(), StartError> {
    if daemon.store.get(key).is_some() {
        return Ok(());
    }
    if optional {
        found.absent.push(volume.to_owned());
        return Ok(());
    }
    Err(config::ConfigError::NotFound(key.clone()).into())
}

async fn container_disk(
    daemon: &Daemon,
    machine: &Key,
    volume: &str,
    image: &str,
    path: Option<&str>,
    policy: PullPolicy,
    secret: Option<&str>,
) -> Result<DiskImage, StartError> {
    let wrong = |error: String| StartError::Volume {
        volume: volume.to_owned(),
        message: error,
    };
    let request = ImageRequest {
        reference: image
            .parse::<ImageReference>()
            .map_err(|error| wrong(error.to_string()))?,
        path: path
            .map(str::parse::<ImagePath>)
            .transpose()
            .map_err(|error| wrong(error.to_string()))?,
        policy: pull_policy(policy),
        auth: auth(daemon, &machine.namespace, secret)?,
    };
    let progress = Progress::show(daemon, machine, image);
    let disk = daemon
        .images
        .resolve(request, Some(progress.sender()))
        .await;
    disk.map_err(|source| StartError::Image {
        volume: volume.to_owned(),
        source,
    })
}

async fn kernel(
    daemon: &Daemon,
    machine: &Key,
    spec: &MachineSpec,
    images: &mut Vec<String>,
) -> Result<Option<GivenBoot>, StartError> {
    let Some(boot) = &spec.firmware.kernel_boot else {
        return Ok(None);
    };
    let volume = "kernelBoot";
    let wrong = |error: String| StartError::Volume {
        volume: volume.to_owned(),
        message: error,
    };
    let reference = boot
        .image
        .parse::<ImageReference>()
        .map_err(|error| wrong(error.to_string()))?;
    let path = |path: &Option<String>| {
        path.as_deref()
            .map(str::parse::<ImagePath>)
            .transpose()
            .map_err(|error| wrong(error.to_string()))
    };
    let (kernel, initrd) = (path(&boot.kernel_path)?, path(&boot.initrd_path)?);
    let auth = auth(daemon, &machine.namespace, boot.pull_secret.as_deref())?;
    let progress = Progress::show(daemon, machine, &boot.image);
    let image = daemon
        .images
        .resolve_kernel(
            (reference, pull_policy(boot.pull_policy), auth),
            kernel,
            initrd,
            Some(progress.sender()),
        )
        .await;
    let image = image.map_err(|source| StartError::Image {
        volume: volume.to_owned(),
        source,
    })?;
    images.extend(
        [&image.kernel, &image.initrd]
            .into_iter()
            .flatten()
            .map(|(id, _)| id.clone()),
    );
    let size = |file: &Option<(String, PathBuf)>| {
        file.as_ref()
            .and_then(|(_, path)| path.metadata().ok())
            .map_or(0, |metadata| metadata.len())
    };
    let text = |file: &Option<(String, PathBuf)>| {
        file.as_ref().map(|(_, path)| path.display().to_string())
    };
    Ok(Some(GivenBoot {
        kernel: text(&image.kernel),
        initrd: text(&image.initrd),
        inside: false,
        size: size(&image.kernel) + size(&image.initrd),
    }))
}

fn pull_policy(policy: PullPolicy) -> catamaran_images::PullPolicy {
    match policy {
        PullPolicy::Always => catamaran_images::PullPolicy::Always,
        PullPolicy::IfNotPresent => catamaran_images::PullPolicy::IfNotPresent,
        PullPolicy::Never => catamaran_images::PullPolicy::Never,
    }
}

fn auth(daemon: &Daemon, namespace: &str, secret: Option<&str>) -> Result<PullAuth, StartError> {
    let Some(name) = secret else {
        return Ok(PullAuth::none());
    };
    let key = Key::new(Kind::Secret, namespace, name);
    let files = config::files(&daemon.store, &key)?;
    let content = files
        .get(".dockerconfigjson")
        .or_else(|| files.get(".dockercfg"));
    let content = content.ok_or_else(|| config::ConfigError::Shape {
        key: key.clone(),
        why: "an image pull secret needs the key .dockerconfigjson".to_owned(),
    })?;
    PullAuth::none()
        .with_secret(name, content)
        .map_err(|why| config::ConfigError::Shape { key, why }.into())
}

/// The disk of a claim, made at its first use with the size that the claim asks for, and grown when it asks for more.
fn claimed(
    daemon: &Daemon,
    volume: &str,
    namespace: &str,
    claim: &str,
) -> Result<DiskFile, StartError> {
    let key = Key::new(Kind::PersistentVolumeClaim, namespace, claim);
    let stored = daemon
        .store
        .get(&key)
        .ok_or_else(|| StartError::ClaimNotFound(format!("{namespace}/{claim}")))?;
    let object: PersistentVolumeClaim = stored.typed().map_err(|error| StartError::Volume {
        volume: volume.to_owned(),
        message: error.to_string(),
    })?;
    let size = requested(&object).ok_or_else(|| StartError::Volume {
        volume: volume.to_owned(),
        message: format!("claim {claim}: spec.resources.requests.storage: Required value"),
    })?;
    let folder = daemon.layout.claim(namespace, claim);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&folder)
        .map_err(StartError::io(folder.display().to_string()))?;
    ensure_raw(&folder, CLAIM_FILE, size, (UID, GID))
        .and_then(|file| file.grown(size))
        .map_err(|source| StartError::Disk {
            volume: volume.to_owned(),
            source,
        })
}

/// Bytes that a claim's object asks for and that its disk in `folder` has, where it asks for less: a disk does not shrink.
#[must_use]
pub fn shrinks(claim: &serde_json::Value, folder: &Path) -> Option<(u64, u64)> {
    let claim = PersistentVolumeClaim::deserialize(claim).ok()?;
    let asked = requested(&claim)?;
    let has = folder.join(CLAIM_FILE).symlink_metadata().ok()?.len();
    // Disks are made in blocks of 4 KiB.
    (asked.checked_next_multiple_of(4096)? < has).then_some((asked, has))
}

/// Bytes that a claim asks for.
#[must_use]
pub fn requested(claim: &PersistentVolumeClaim) -> Option<u64> {
    let Quantity(text) = claim
        .spec
        .as_ref()?
        .resources
        .as_ref()?
        .requests
        .as_ref()?
        .get("storage")?;
    catamaran_spec::quantity::units(text)
}

fn host_disk(
    volume: &str,
    path: &Path,
    kind: HostDiskKind,
    capacity: Option<u64>,
) -> Result<DiskFile, StartError> {
    let wrong = |message: &str| StartError::Volume {
        volume: volume.to_owned(),
        message: format!("{}: {message}", path.display()),
    };
    let (Some(folder), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Err(wrong("is no path of a file"));
    };
    let file = match (kind, capacity) {
        (HostDiskKind::Disk, _) => open_disk(folder, name),
        (HostDiskKind::DiskOrCreate, Some(size)) => ensure_raw(folder, name, size, (UID, GID)),
        (HostDiskKind::DiskOrCreate, None) => {
            return Err(wrong("capacity: Required value for DiskOrCreate"));
        }
    };
    file.map_err(|source| StartError::Disk {
        volume: volume.to_owned(),
        source,
    })
}

fn given(path: &Path, format: Format, virtual_size: u64, direct_io: bool) -> GivenDisk {
    GivenDisk {
        host_path: path.display().to_string(),
        inside: false,
        block: false,
        format,
        virtual_size,
        direct_io,
    }
}

/// A disk that a guest writes is raw, whatever its bytes say.
fn raw(file: &DiskFile) -> GivenDisk {
    given(
        &file.path,
        Format::Raw,
        file.size,
        direct_io(&file.proc_path()),
    )
}

/// Whether the file system takes `O_DIRECT`.
fn direct_io(path: &Path) -> bool {
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_asks_for_less_than_its_disk_only_when_there_is_a_larger_one() {
        let folder = tempfile::tempdir().unwrap();
        let claim =
            |storage: &str| json!({"spec": {"resources": {"requests": {"storage": storage}}}});
        assert_eq!(shrinks(&claim("1Mi"), folder.path()), None);
        ensure_raw(folder.path(), CLAIM_FILE, 1_000_000, (UID, GID)).unwrap();
        assert_eq!(shrinks(&claim("1M"), folder.path()), None);
        assert_eq!(shrinks(&claim("1Mi"), folder.path()), None);
        assert_eq!(
            shrinks(&claim("64Ki"), folder.path()),
            Some((65536, 1_003_520))
        );
    }
}
