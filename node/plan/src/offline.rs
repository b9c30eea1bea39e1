//! A plan without a host: what `catamaran plan -f vm.yaml` takes where no daemon runs.

use std::collections::BTreeMap;

use catamaran_spec::{CloudInitData, MachineSpec, VolumeSource};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::given::{Format, Given, GivenBoot, GivenDisk, GivenNic, Identity};
use crate::plan::Generation;

/// Virtual size that is shown for disks nobody has looked at.
const UNKNOWN_SIZE: u64 = 10 << 30;
const MTU: u32 = 1500;

/// Everything that a host would find or make for a machine, with paths that say what they stand for.
#[must_use]
pub fn offline_given(spec: &MachineSpec) -> Given {
    let identity = Identity::of_name(&spec.namespace, &spec.name);
    let nics = spec.interfaces.iter().enumerate().map(|(index, nic)| {
        let given = GivenNic {
            tap: format!("tap{index}"),
            mac: nic.mac.unwrap_or_else(|| identity.mac(&nic.name)),
            mtu: MTU,
            addresses: Vec::new(),
        };
        (nic.name.clone(), given)
    });
    let boot = spec.firmware.kernel_boot.as_ref().map(|boot| GivenBoot {
        kernel: boot
            .kernel_path
            .as_ref()
            .map(|path| format!("/offline/image{path}")),
        initrd: boot
            .initrd_path
            .as_ref()
            .map(|path| format!("/offline/image{path}")),
        inside: false,
        size: 0,
    });
    Given {
        generation: Generation {
            vmi_uid: Uuid::nil(),
            counter: 0,
            spec_digest: hex::encode(Sha256::digest(format!("{spec:?}"))),
        },
        disks: spec
            .volumes
            .iter()
            .filter_map(|volume| Some((volume.name.clone(), disk(&volume.source)?)))
            .collect(),
        absent: Vec::new(),
        nics: nics.collect(),
        boot,
        config_keys: config_keys(spec),
        hardware: None,
        overlay_limit: None,
        identity,
    }
}

fn disk(source: &VolumeSource) -> Option<GivenDisk> {
    let (host_path, format, size) = match source {
        VolumeSource::ContainerDisk { .. } => (
            "/offline/container-disk".to_owned(),
            Format::Qcow2,
            UNKNOWN_SIZE,
        ),
        VolumeSource::Ephemeral { claim, .. }
        | VolumeSource::PersistentVolumeClaim { claim, .. } => (
            format!("/offline/claim/{claim}/disk.img"),
            Format::Raw,
            UNKNOWN_SIZE,
        ),
        VolumeSource::HostDisk { path, capacity, .. } => {
            (path.clone(), Format::Raw, capacity.unwrap_or(UNKNOWN_SIZE))
        }
        VolumeSource::CloudInit(_)
        | VolumeSource::EmptyDisk { .. }
        | VolumeSource::ConfigMap { .. }
        | VolumeSource::Secret { .. }
        | VolumeSource::DownwardApi { .. } => return None,
    };
    Some(GivenDisk {
        host_path,
        inside: false,
        block: false,
        format,
        virtual_size: size,
        direct_io: true,
    })
}

/// Secrets and ConfigMaps count as there, with the keys that their use asks for.
fn config_keys(spec: &MachineSpec) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: String, wanted: &[&str]| {
        let all = keys.entry(name).or_default();
        all.extend(wanted.iter().map(|key| (*key).to_owned()));
        all.sort_unstable();
        all.dedup();
    };
    for volume in &spec.volumes {
        match &volume.source {
            VolumeSource::CloudInit(seed) => {
                if let Some(CloudInitData::SecretRef(name)) = &seed.user_data {
                    add(format!("secret/{name}"), &["userdata"]);
                }
                if let Some(CloudInitData::SecretRef(name)) = &seed.network_data {
                    add(format!("secret/{name}"), &["networkdata"]);
                }
            }
            VolumeSource::ConfigMap { name, .. } => add(format!("configmap/{name}"), &[]),
            VolumeSource::Secret { name, .. } => add(format!("secret/{name}"), &[]),
            _ => {}
        }
    }
    for credential in &spec.access_credentials {
        add(format!("secret/{}", credential.secret), &[]);
    }
    keys
}
