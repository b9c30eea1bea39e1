//! Volumes of a launcher pod, from the mounts that the launcher expects.

use std::collections::BTreeMap;

use catamaran_plan::pod::{Mount, STATE_VOLUME, Source, WRITABLE, mounts};
use catamaran_spec::{MachineSpec, PullPolicy};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource,
    PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeDevice, VolumeMount,
};

use super::ClaimMode;

/// Volumes of the pod and where its container sees them.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    /// Volumes of the pod.
    pub(super) volumes: Vec<Volume>,
    /// Folders of the container.
    pub(super) mounts: Vec<VolumeMount>,
    /// Devices of the container.
    pub(super) devices: Vec<VolumeDevice>,
    /// Pull Secrets that the images need.
    pub(super) pull_secrets: Vec<String>,
}

/// All volumes of a machine's pod.
///
/// `state`: the claim that takes the place of the folder that outlives runs.
pub(super) fn volumes(
    machine: &MachineSpec,
    claims: &BTreeMap<String, ClaimMode>,
    state: Option<&str>,
) -> Volumes {
    let mut out = Volumes::default();
    for (name, path) in WRITABLE {
        let claim = state.filter(|_| name == STATE_VOLUME).map(str::to_owned);
        let empty = claim.is_none();
        out.volumes.push(Volume {
            name: name.to_owned(),
            empty_dir: empty.then(EmptyDirVolumeSource::default),
            persistent_volume_claim: claim.map(|claim_name| PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            }),
            ..Volume::default()
        });
        out.mounts.push(VolumeMount {
            name: name.to_owned(),
            mount_path: path.to_owned(),
            ..VolumeMount::default()
        });
    }
    for mount in mounts(machine) {
        out.volumes.push(volume(&mount));
        if let Source::Image {
            pull_secret: Some(secret),
            ..
        } = &mount.source
        {
            out.pull_secrets.push(secret.clone());
        }
        let block = match &mount.source {
            Source::Claim { name } => claims.get(name) == Some(&ClaimMode::Block),
            _ => false,
        };
        if block {
            out.devices.push(VolumeDevice {
                device_path: mount.path,
                name: mount.volume,
            });
        } else {
            out.mounts.push(VolumeMount {
                name: mount.volume,
                mount_path: mount.path,
                read_only: mount.read_only.then_some(true),
                ..VolumeMount::default()
            });
        }
    }
    out
}

fn volume(mount: &Mount) -> Volume {
    let mut volume = Volume {
        name: mount.volume.clone(),
        ..Volume::default()
    };
    match &mount.source {
        Source::Image {
            reference,
            pull_policy,
            ..
        } => {
            volume.image = Some(ImageVolumeSource {
                pull_policy: Some(policy(*pull_policy).to_owned()),
                reference: Some(reference.clone()),
            });
        }
        Source::Claim { name } => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: None,
            });
        }
        Source::HostFolder { path, create } => {
            volume.host_path = Some(HostPathVolumeSource {
                path: path.clone(),
                type_: Some(
                    if *create {
                        "DirectoryOrCreate"
                    } else {
                        "Directory"
                    }
                    .to_owned(),
                ),
            });
        }
        Source::Secret { name, optional } => {
            volume.secret = Some(SecretVolumeSource {
                optional: optional.then_some(true),
                secret_name: Some(name.clone()),
                ..SecretVolumeSource::default()
            });
        }
        Source::ConfigMap { name, optional } => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: name.clone(),
                optional: optional.then_some(true),
                ..ConfigMapVolumeSource::default()
            });
        }
    }
    volume
}

fn policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}
