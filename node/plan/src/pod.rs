//! A machine as a pod: which folders the container of the launcher has, and where its disks and configuration are in it.
//!
//! The controller writes pods from [`mounts`] and [`WRITABLE`]; the node daemon looks for disks by [`looks`] and learns the keys of Secrets and
//! ConfigMaps from [`config_folders`]. Both use the same functions, so that they agree without a word on the wire.

use catamaran_spec::{
    CloudInitData, HostDiskKind, MachineSpec, Probe, ProbeAction, PullPolicy, VolumeSource,
};
use serde::{Deserialize, Serialize};

use crate::paths;

/// Name of the container with the launcher.
pub const CONTAINER: &str = "compute";
/// Folder of the programs in the node image.
pub const LIBEXEC: &str = "/usr/libexec/catamaran";
/// Command of the container: PID 1 of the pod.
pub const COMMAND: [&str; 2] = ["/usr/libexec/catamaran/catamaran-init", "pod"];
/// Name of the container that shows the guest's serial output.
pub const CONSOLE_LOG_CONTAINER: &str = "guest-console-log";
/// Command of that container.
pub const CONSOLE_LOG_COMMAND: [&str; 2] = ["/usr/libexec/catamaran/catamaran-init", "console-log"];
/// Command of an attachment pod: it only holds a claim on its node.
pub const HOLD_COMMAND: [&str; 2] = ["/usr/libexec/catamaran/catamaran-init", "hold"];
/// Pod volume of the run folder ([`paths::RUN`]).
pub const RUN_VOLUME: &str = "run";
/// Pod volume of the folder that outlives runs ([`paths::STATE`]).
pub const STATE_VOLUME: &str = "state";
/// Folders that must be writable for uid 107, as (pod volume, path in the container). Everything else of the root may be read-only.
pub const WRITABLE: [(&str, &str); 3] = [
    (RUN_VOLUME, paths::RUN),
    (STATE_VOLUME, paths::STATE),
    ("tmp", "/tmp"),
];
/// Where the image of a direct kernel boot is shown.
pub const BOOT_IMAGE: &str = "/boot/image";
/// File of a claim with a file system.
pub const CLAIM_FILE: &str = "disk.img";
/// Folder of a containerDisk's file in its image.
const IMAGE_FOLDER: &str = "disk";
/// Beginnings of the names of our own pod volumes besides [`WRITABLE`].
const OWN_PREFIXES: [&str; 4] = ["access-", "boot-image", "networkdata-", "userdata-"];

/// Folder of the host with the run folder of a pod.
#[must_use]
pub fn run_folder(kubelet_root: &str, pod_uid: &str) -> String {
    format!("{kubelet_root}/pods/{pod_uid}/volumes/kubernetes.io~empty-dir/{RUN_VOLUME}")
}

/// A volume of the pod, mounted in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Name of the pod's volume.
    pub volume: String,
    /// Folder in the container; for a claim in block mode, the device.
    pub path: String,
    /// What it is.
    pub source: Source,
    /// The container can't write to it.
    pub read_only: bool,
}

/// What a volume of the pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The root of a container image.
    Image {
        /// Image reference.
        reference: String,
        /// Pull policy.
        pull_policy: PullPolicy,
        /// Pull secret, one of the pod's `imagePullSecrets`.
        pull_secret: Option<String>,
    },
    /// A claim: a folder when it has a file system, a device ([`Mount::path`] is its path) when it is in block mode.
    Claim {
        /// Its name.
        name: String,
    },
    /// A folder of the host.
    HostFolder {
        /// Its path.
        path: String,
        /// Made when missing.
        create: bool,
    },
    /// A Secret's keys as files.
    Secret {
        /// Its name.
        name: String,
        /// An empty folder when it is missing.
        optional: bool,
    },
    /// A ConfigMap's keys as files.
    ConfigMap {
        /// Its name.
        name: String,
        /// An empty folder when it is missing.
        optional: bool,
    },
}

/// Every volume of the pod besides [`WRITABLE`], each mounted in the launcher's container.
#[must_use]
pub fn mounts(spec: &MachineSpec) -> Vec<Mount> {
    let mut out = Vec::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let name = &volume.name;
        let disk = |source: Source, read_only| Mount {
            volume: volume_name(name),
            path: folder(name),
            source,
            read_only,
        };
        let config = |source: Source| Mount {
            volume: volume_name(name),
            path: format!("{}/{name}", paths::CONFIG),
            source,
            read_only: true,
        };
        match &volume.source {
            VolumeSource::ContainerDisk {
                image,
                pull_policy,
                pull_secret,
                ..
            } => out.push(disk(
                Source::Image {
                    reference: image.clone(),
                    pull_policy: *pull_policy,
                    pull_secret: pull_secret.clone(),
                },
                true,
            )),
            VolumeSource::PersistentVolumeClaim { claim, read_only } => out.push(disk(
                Source::Claim {
                    name: claim.clone(),
                },
                *read_only,
            )),
            VolumeSource::Ephemeral { claim, .. } => out.push(disk(
                Source::Claim {
                    name: claim.clone(),
                },
                true,
            )),
            VolumeSource::HostDisk { path, kind, .. } => {
                let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
                out.push(disk(
                    Source::HostFolder {
                        path: if folder.is_empty() { "/" } else { folder }.to_owned(),
                        create: *kind == HostDiskKind::DiskOrCreate,
                    },
                    false,
                ));
            }
            VolumeSource::Secret { name, optional, .. } => out.push(config(Source::Secret {
                name: name.clone(),
                optional: *optional,
            })),
            VolumeSource::ConfigMap { name, optional, .. } => out.push(config(Source::ConfigMap {
                name: name.clone(),
                optional: *optional,
            })),
            VolumeSource::CloudInit(seed) => {
                for (data, kind, word) in [
                    (&seed.user_data, "user", "userdata"),
                    (&seed.network_data, "network", "networkdata"),
                ] {
                    if let Some(CloudInitData::SecretRef(secret)) = data {
                        out.push(Mount {
                            volume: format!("{word}-{index}"),
                            path: format!("{}/{name}.{kind}", paths::CONFIG),
                            source: Source::Secret {
                                name: secret.clone(),
                                optional: false,
                            },
                            read_only: true,
                        });
                    }
                }
            }
            VolumeSource::EmptyDisk { .. } | VolumeSource::DownwardApi { .. } => {}
        }
    }
    for (index, credential) in spec.access_credentials.iter().enumerate() {
        let path = format!("{}/access.{}", paths::CONFIG, credential.secret);
        if out.iter().all(|mount| mount.path != path) {
            out.push(Mount {
                volume: format!("access-{index}"),
                path,
                source: Source::Secret {
                    name: credential.secret.clone(),
                    optional: false,
                },
                read_only: true,
            });
        }
    }
    if let Some(boot) = &spec.firmware.kernel_boot {
        out.push(Mount {
            volume: "boot-image".to_owned(),
            path: BOOT_IMAGE.to_owned(),
            source: Source::Image {
                reference: boot.image.clone(),
                pull_policy: boot.pull_policy,
                pull_secret: boot.pull_secret.clone(),
            },
            read_only: true,
        });
    }
    out
}

/// Name of the pod's volume for a volume of the machine: the same, unless it is one of our own.
#[must_use]
pub fn volume_name(volume: &str) -> String {
    let own = WRITABLE.iter().any(|(name, _)| *name == volume)
        || OWN_PREFIXES.iter().any(|prefix| volume.starts_with(prefix));
    if own {
        format!("vm-{volume}")
    } else {
        volume.to_owned()
    }
}

/// Where to look for the disk of a volume, and how much of what is found there can be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Volume.
    pub volume: String,
    /// Path in the container.
    pub path: String,
    /// What is there.
    pub kind: LookKind,
    /// Bytes to make the file with when it is missing; filled in by whoever knows the claim's size.
    #[serde(default)]
    pub make: Option<u64>,
}

/// What a [`Look`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LookKind {
    /// A file whose format its header says: it comes from an image.
    ImageFile,
    /// A folder of an image with one such file.
    ImageFolder,
    /// A claim: a device, or a folder with [`CLAIM_FILE`]; raw, whatever the bytes say, since a guest writes them.
    Claim,
    /// A raw file.
    Raw,
}

/// The disks that are there before the start.
#[must_use]
pub fn looks(spec: &MachineSpec) -> Vec<Look> {
    let look = |volume: &str, path: String, kind, make| Look {
        volume: volume.to_owned(),
        path,
        kind,
        make,
    };
    spec.volumes
        .iter()
        .filter_map(|volume| {
            let name = volume.name.as_str();
            match &volume.source {
                VolumeSource::ContainerDisk {
                    path: Some(path), ..
                } => Some(look(
                    name,
                    format!("{}/{}", folder(name), path.trim_start_matches('/')),
                    LookKind::ImageFile,
                    None,
                )),
                VolumeSource::ContainerDisk { path: None, .. } => Some(look(
                    name,
                    format!("{}/{IMAGE_FOLDER}", folder(name)),
                    LookKind::ImageFolder,
                    None,
                )),
                VolumeSource::PersistentVolumeClaim { .. } | VolumeSource::Ephemeral { .. } => {
                    Some(look(name, folder(name), LookKind::Claim, None))
                }
                VolumeSource::HostDisk {
                    path,
                    kind,
                    capacity,
                    ..
                } => Some(look(
                    name,
                    format!(
                        "{}/{}",
                        folder(name),
                        path.rsplit_once('/')
                            .map_or(path.as_str(), |(_, file)| file)
                    ),
                    LookKind::Raw,
                    capacity.filter(|_| *kind == HostDiskKind::DiskOrCreate),
                )),
                VolumeSource::CloudInit(_)
                | VolumeSource::EmptyDisk { .. }
                | VolumeSource::ConfigMap { .. }
                | VolumeSource::Secret { .. }
                | VolumeSource::DownwardApi { .. } => None,
            }
        })
        .collect()
}

/// Paths of kernel and initial RAM disk in the container.
#[must_use]
pub fn boot_files(spec: &MachineSpec) -> (Option<String>, Option<String>) {
    let at = |path: &Option<String>| {
        path.as_ref()
            .map(|path| format!("{BOOT_IMAGE}/{}", path.trim_start_matches('/')))
    };
    spec.firmware
        .kernel_boot
        .as_ref()
        .map_or((None, None), |boot| {
            (at(&boot.kernel_path), at(&boot.initrd_path))
        })
}

/// A folder of the container with the keys of one Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFolder {
    /// (`secret`|`configmap`)`/name`, as in [`crate::Given::config_keys`].
    pub object: String,
    /// Path in the container.
    pub path: String,
    /// The volume of the machine that is left out when the folder is empty.
    pub optional_volume: Option<String>,
}

/// Where the keys of Secrets and ConfigMaps are.
#[must_use]
pub fn config_folders(spec: &MachineSpec) -> Vec<ConfigFolder> {
    mounts(spec)
        .into_iter()
        .filter_map(|mount| {
            let (object, optional) = match &mount.source {
                Source::Secret { name, optional } => (format!("secret/{name}"), *optional),
                Source::ConfigMap { name, optional } => (format!("configmap/{name}"), *optional),
                Source::Image { .. } | Source::Claim { .. } | Source::HostFolder { .. } => {
                    return None;
                }
            };
            let optional_volume = spec
                .volumes
                .iter()
                .find(|volume| optional && volume_name(&volume.name) == mount.volume)
                .map(|volume| volume.name.clone());
            Some(ConfigFolder {
                object,
                path: mount.path,
                optional_volume,
            })
        })
        .collect()
}

/// What the kubelet runs in the container for a probe that only the guest agent can answer; `None` for the others.
#[must_use]
pub fn probe_command(probe: &Probe) -> Option<Vec<String>> {
    let command: &[String] = match &probe.action {
        ProbeAction::Exec { command } => command,
        ProbeAction::GuestAgentPing => &[],
        ProbeAction::HttpGet { .. } | ProbeAction::TcpSocket { .. } => return None,
    };
    let launcher = format!("{}/current/catamaran-launcher", paths::CODE);
    let timeout = probe.timeout_seconds.max(1).to_string();
    let mut words = [&launcher, "probe", "--timeout", &timeout, "--"]
        .map(str::to_owned)
        .to_vec();
    words.extend_from_slice(command);
    Some(words)
}

/// Where the disk of a volume is in its attachment pod.
#[must_use]
pub fn held(volume: &str) -> String {
    folder(volume)
}

/// Where to look for the disk of a volume that was brought into the pod while it runs.
#[must_use]
pub fn hot_look(volume: &str) -> Look {
    Look {
        volume: volume.to_owned(),
        path: format!("{}/{volume}", paths::HOTPLUG),
        kind: LookKind::Claim,
        make: None,
    }
}

fn folder(volume: &str) -> String {
    format!("{}/{volume}", paths::DISKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMI: &str = "
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {name: web, namespace: shop}
spec:
  domain:
    memory: {guest: 128Mi}
    firmware:
      kernelBoot: {container: {image: 'kernel:1', kernelPath: /boot/vmlinuz}}
    devices:
      disks:
      - {name: root, disk: {bus: virtio}}
      - {name: run, disk: {bus: virtio}}
      - {name: host, disk: {bus: virtio}}
      - {name: seed, disk: {bus: virtio}}
      - {name: keys, disk: {bus: virtio}}
  accessCredentials:
  - sshPublicKey: {source: {secret: {secretName: my.keys}}, propagationMethod: {noCloud: {}}}
  volumes:
  - {name: root, containerDisk: {image: 'registry/guest:1'}}
  - {name: run, persistentVolumeClaim: {claimName: data}}
  - {name: host, hostDisk: {path: /srv/disks/a.img, type: DiskOrCreate, capacity: 1Gi}}
  - {name: seed, cloudInitNoCloud: {secretRef: {name: user}}}
  - {name: keys, secret: {secretName: my.keys, optional: true}}
";

    fn spec() -> MachineSpec {
        let manifest = serde_yaml_ng::from_str(VMI).unwrap();
        let read = catamaran_spec::read::virtual_machine_instance(
            &manifest,
            catamaran_spec::Context::Play,
        );
        read.unwrap().1
    }

    #[test]
    fn every_volume_is_mounted_where_the_plan_looks_for_it() {
        let mounts = mounts(&spec());
        let paths: Vec<(&str, &str)> = mounts
            .iter()
            .map(|mount| (mount.volume.as_str(), mount.path.as_str()))
            .collect();
        assert_eq!(
            paths,
            [
                ("root", "/disks/root"),
                ("vm-run", "/disks/run"),
                ("host", "/disks/host"),
                ("userdata-3", "/config/seed.user"),
                ("keys", "/config/keys"),
                ("access-0", "/config/access.my.keys"),
                ("boot-image", "/boot/image"),
            ]
        );
        assert!(mounts[0].read_only && !mounts[1].read_only);
    }

    #[test]
    fn disks_are_looked_for_in_their_mounts() {
        let looks = looks(&spec());
        let found: Vec<(&str, LookKind, Option<u64>)> = looks
            .iter()
            .map(|look| (look.path.as_str(), look.kind, look.make))
            .collect();
        assert_eq!(
            found,
            [
                ("/disks/root/disk", LookKind::ImageFolder, None),
                ("/disks/run", LookKind::Claim, None),
                ("/disks/host/a.img", LookKind::Raw, Some(1 << 30)),
            ]
        );
        assert_eq!(
            boot_files(&spec()),
            (Some("/boot/image/boot/vmlinuz".to_owned()), None)
        );
    }

    #[test]
    fn an_optional_secret_names_the_volume_that_is_left_out() {
        let folders = config_folders(&spec());
        let keys = folders
            .iter()
            .find(|folder| folder.path == "/config/keys")
            .unwrap();
        assert_eq!(keys.object, "secret/my.keys");
        assert_eq!(keys.optional_volume.as_deref(), Some("keys"));
        assert!(
            folders.iter().any(
                |folder| folder.path == "/config/seed.user" && folder.optional_volume.is_none()
            )
        );
    }

    #[test]
    fn the_guests_own_answer_is_asked_for_beside_its_launcher() {
        let mut probe = Probe {
            action: ProbeAction::GuestAgentPing,
            initial_delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 3,
            success_threshold: 1,
            failure_threshold: 3,
        };
        let ping = probe_command(&probe).unwrap();
        assert_eq!(ping[1..], ["probe", "--timeout", "3", "--"]);
        probe.action = ProbeAction::Exec {
            command: vec!["cat".into(), "/x".into()],
        };
        assert_eq!(probe_command(&probe).unwrap()[5..], ["cat", "/x"]);
    }

    #[test]
    fn no_two_pod_volumes_have_one_name() {
        let mut names: Vec<String> = mounts(&spec())
            .into_iter()
            .map(|mount| mount.volume)
            .collect();
        names.extend(WRITABLE.iter().map(|(name, _)| (*name).to_owned()));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
