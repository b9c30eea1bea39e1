//! Small read-only disks that the launcher builds: cloud-init seeds, ConfigMaps, Secrets, the downward API. Contents of Secrets are named by
//! their paths, never held.

use std::collections::BTreeMap;

use catamaran_spec::{
    AccessCredential, Binding, CloudInit, CloudInitData, CloudInitKind, Propagation, SecretKind,
    Volume, VolumeSource,
};
use serde_json::{Map, Value, json};

use crate::addresses::Addresses;
use crate::alias;
use crate::disks::Part;
use crate::draft::Draft;
use crate::firmware;
use crate::identity::mac_text;
use crate::paths;
use crate::plan::{AgentAccess, FileSource, Prepare, SeedFile, SeedSource};
use crate::volumes::{SourceKind, seed_path};

/// Volume label where the manifest has none, as the peer's.
const PLAIN_LABEL: &str = "cfgdata";

/// Adds the step that builds the seed of each disk that is one.
pub(crate) fn prepare(draft: &mut Draft<'_>, parts: &[Part<'_>], addresses: &Addresses) {
    let spec = draft.spec;
    for (index, volume) in spec.volumes.iter().enumerate() {
        let is_seed = parts
            .iter()
            .any(|part| part.disk.name == volume.name && part.source.kind == SourceKind::Seed);
        if !is_seed {
            continue;
        }
        let (label, files) = match &volume.source {
            VolumeSource::CloudInit(seed) => {
                cloud_init(draft, index, volume, seed, &tagged(draft, parts, addresses))
            }
            VolumeSource::ConfigMap { name, label, .. } => {
                (label.clone(), keys(draft, index, volume, "configmap", name))
            }
            VolumeSource::Secret { name, label, .. } => {
                (label.clone(), keys(draft, index, volume, "secret", name))
            }
            VolumeSource::DownwardApi { items, label } => {
                (label.clone(), downward(draft, index, items))
            }
            VolumeSource::ContainerDisk { .. }
            | VolumeSource::EmptyDisk { .. }
            | VolumeSource::Ephemeral { .. }
            | VolumeSource::PersistentVolumeClaim { .. }
            | VolumeSource::HostDisk { .. } => continue,
        };
        draft.prepare.push(Prepare::Seed {
            path: seed_path(&volume.name),
            label: label.unwrap_or_else(|| PLAIN_LABEL.to_owned()),
            files,
        });
    }
}

/// Folder with the keys of one Secret or ConfigMap, shown in the sandbox.
fn folder(draft: &mut Draft<'_>, source: FileSource, name: &str) -> String {
    let inside = format!("{}/{name}", paths::CONFIG);
    draft.view(source, inside.clone(), false);
    inside
}

/// Every key of a Secret or ConfigMap as a file.
fn keys(
    draft: &mut Draft<'_>,
    index: usize,
    volume: &Volume,
    kind: &str,
    name: &str,
) -> Vec<SeedFile> {
    let Some(keys) = known_keys(
        draft,
        kind,
        name,
        &format!("spec.volumes[{index}].{}", field_of(kind)),
    ) else {
        return Vec::new();
    };
    let source = if kind == "secret" {
        FileSource::Secret(name.to_owned())
    } else {
        FileSource::ConfigMap(name.to_owned())
    };
    let folder = folder(draft, source, &volume.name);
    let file = |key: &String| SeedFile {
        path: key.clone(),
        content: SeedSource::FirstOf(vec![format!("{folder}/{key}")]),
    };
    keys.iter().map(file).collect()
}

fn field_of(kind: &str) -> &'static str {
    if kind == "secret" {
        "secret.secretName"
    } else {
        "configMap.name"
    }
}

fn known_keys(draft: &mut Draft<'_>, kind: &str, name: &str, field: &str) -> Option<Vec<String>> {
    let found = draft
        .given
        .config_keys
        .get(&format!("{kind}/{name}"))
        .cloned();
    if found.is_none() {
        let kind = if kind == "secret" {
            "Secret"
        } else {
            "ConfigMap"
        };
        let namespace = draft.spec.namespace.clone();
        draft.error(
            field,
            format!("{kind} {name:?} is not there in namespace {namespace:?}"),
        );
    }
    found
}

/// Label and files of a cloud-init seed.
fn cloud_init(
    draft: &mut Draft<'_>,
    index: usize,
    volume: &Volume,
    seed: &CloudInit,
    devices: &[Value],
) -> (Option<String>, Vec<SeedFile>) {
    let (label, kind, keys_at) = match seed.kind {
        CloudInitKind::NoCloud => ("cidata", "cloudInitNoCloud", "public-keys"),
        CloudInitKind::ConfigDrive => ("config-2", "cloudInitConfigDrive", "public_keys"),
    };
    let field = format!("spec.volumes[{index}].{kind}");
    let user = seed
        .user_data
        .as_ref()
        .map(|data| content(draft, &field, volume, data, Which::User));
    let network = seed
        .network_data
        .as_ref()
        .map(|data| content(draft, &field, volume, data, Which::Network));
    let wanted = match seed.kind {
        CloudInitKind::NoCloud => Propagation::NoCloud,
        CloudInitKind::ConfigDrive => Propagation::ConfigDrive,
    };
    let key_folders = draft
        .spec
        .access_credentials
        .iter()
        .enumerate()
        .filter(|(_, credential)| credential.propagation == wanted)
        .filter_map(|(index, credential)| credential_folder(draft, index, credential))
        .collect();
    let meta = SeedSource::MetaData {
        base: meta_data(draft, seed.kind, devices),
        key_folders,
        keys_at: keys_at.to_owned(),
    };
    let (meta_path, user_path, network_path) = match seed.kind {
        CloudInitKind::NoCloud => ("meta-data", "user-data", "network-config"),
        CloudInitKind::ConfigDrive => (
            "openstack/latest/meta_data.json",
            "openstack/latest/user_data",
            "openstack/latest/network_data.json",
        ),
    };
    // NoCloud counts as found only with user data, be it empty.
    let user = match (user, seed.kind) {
        (None, CloudInitKind::NoCloud) => Some(SeedSource::Inline(String::new())),
        (user, _) => user,
    };
    let file = |path: &str, content| SeedFile {
        path: path.to_owned(),
        content,
    };
    let files = std::iter::once(file(meta_path, meta))
        .chain(user.map(|content| file(user_path, content)))
        .chain(network.map(|content| file(network_path, content)));
    (Some(label.to_owned()), files.collect())
}

/// Which part of a seed.
#[derive(Clone, Copy)]
enum Which {
    User,
    Network,
}

fn content(
    draft: &mut Draft<'_>,
    field: &str,
    volume: &Volume,
    data: &CloudInitData,
    which: Which,
) -> SeedSource {
    let secret = match data {
        CloudInitData::Inline(text) => return SeedSource::Inline(text.clone()),
        CloudInitData::SecretRef(name) => name,
    };
    // A dot can't be in a volume's name, so these folders are nobody else's.
    let (suffix, names, key) = match which {
        Which::User => ("user", ["userdata", "userData"], "secretRef"),
        Which::Network => (
            "network",
            ["networkdata", "networkData"],
            "networkDataSecretRef",
        ),
    };
    let field = format!("{field}.{key}.name");
    if let Some(keys) = known_keys(draft, "secret", secret, &field)
        && !keys.iter().any(|key| names.contains(&key.as_str()))
    {
        draft.error(
            &field,
            format!(
                "Secret {secret:?} has neither the key {:?} nor {:?}",
                names[0], names[1]
            ),
        );
    }
    let folder = folder(
        draft,
        FileSource::Secret(secret.clone()),
        &format!("{}.{suffix}", volume.name),
    );
    SeedSource::FirstOf(
        names
            .iter()
            .map(|name| format!("{folder}/{name}"))
            .collect(),
    )
}

fn credential_folder(
    draft: &mut Draft<'_>,
    index: usize,
    credential: &AccessCredential,
) -> Option<String> {
    let kind = match credential.kind {
        SecretKind::SshPublicKey => "sshPublicKey",
        SecretKind::UserPassword => "userPassword",
    };
    let secret = &credential.secret;
    known_keys(
        draft,
        "secret",
        secret,
        &format!("spec.accessCredentials[{index}].{kind}.source.secret.secretName"),
    )?;
    Some(folder(
        draft,
        FileSource::Secret(secret.clone()),
        &format!("access.{secret}"),
    ))
}

/// What the guest agent is told once it answers.
pub(crate) fn agent_access(draft: &mut Draft<'_>) -> Vec<AgentAccess> {
    let mut out = Vec::new();
    for (index, credential) in draft.spec.access_credentials.iter().enumerate() {
        let Propagation::GuestAgent { users } = &credential.propagation else {
            continue;
        };
        let users = users.clone();
        let Some(folder) = credential_folder(draft, index, credential) else {
            continue;
        };
        out.push(match credential.kind {
            SecretKind::SshPublicKey => AgentAccess::SshKeys { folder, users },
            SecretKind::UserPassword => AgentAccess::Passwords { folder },
        });
    }
    out
}

fn meta_data(draft: &Draft<'_>, kind: CloudInitKind, devices: &[Value]) -> BTreeMap<String, Value> {
    let spec = draft.spec;
    // Never changes with a run: cloud-init would do its once-per-instance work again.
    let instance = format!("{}.{}", spec.name, spec.namespace);
    let mut base = BTreeMap::new();
    match kind {
        CloudInitKind::NoCloud => {
            base.insert("instance-id".to_owned(), json!(instance));
            base.insert("local-hostname".to_owned(), json!(spec.hostname));
        }
        CloudInitKind::ConfigDrive => {
            base.insert("instance_id".to_owned(), json!(instance));
            base.insert("hostname".to_owned(), json!(spec.hostname));
            base.insert("uuid".to_owned(), json!(firmware::uuid(draft).to_string()));
        }
    }
    if !devices.is_empty() {
        base.insert("devices".to_owned(), json!(devices));
    }
    base
}

/// Device metadata of tagged disks, and of the interfaces beside them.
fn tagged(draft: &Draft<'_>, parts: &[Part<'_>], addresses: &Addresses) -> Vec<Value> {
    let disk = |part: &Part<'_>| {
        let tag = part.disk.tag.as_ref()?;
        let mut entry = Map::new();
        entry.insert("type".to_owned(), json!("disk"));
        if let Some(address) = addresses.text(&alias::disk(&part.disk.name)) {
            entry.insert("bus".to_owned(), json!("pci"));
            entry.insert("address".to_owned(), json!(address));
        } else {
            entry.insert("bus".to_owned(), json!(part.bus().as_str()));
        }
        let serial = part
            .disk
            .serial
            .clone()
            .unwrap_or_else(|| draft.given.identity.disk_serial(&part.disk.name));
        entry.insert("serial".to_owned(), json!(serial));
        entry.insert("tags".to_owned(), json!([tag]));
        Some(Value::Object(entry))
    };
    let mut out: Vec<Value> = parts.iter().filter_map(disk).collect();
    if out.is_empty() {
        return out;
    }
    for nic in &draft.spec.interfaces {
        let (Some(given), Some(address)) = (
            draft.given.nics.get(&nic.name),
            addresses.text(&alias::nic(&nic.name)),
        ) else {
            continue;
        };
        let network = match nic.binding {
            Binding::Masquerade { .. } => "masquerade",
            Binding::Bridge => "bridge",
        };
        out.push(json!({
            "type": "nic",
            "bus": "pci",
            "address": address,
            "mac": mac_text(nic.mac.unwrap_or(given.mac)),
            "tags": [nic.name, network],
        }));
    }
    out
}

/// Files of a downward API disk.
fn downward(draft: &mut Draft<'_>, index: usize, items: &[(String, String)]) -> Vec<SeedFile> {
    let mut files = Vec::new();
    for (number, (path, field)) in items.iter().enumerate() {
        match downward_value(draft, field) {
            Some(text) => files.push(SeedFile {
                path: path.clone(),
                content: SeedSource::Inline(text),
            }),
            None => draft.error(
                format!("spec.volumes[{index}].downwardAPI.fields[{number}].fieldRef.fieldPath"),
                format!(
                    "unknown field {field:?}; allowed: metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, \
                     metadata.labels['KEY'], metadata.annotations['KEY']"
                ),
            ),
        }
    }
    files
}

fn downward_value(draft: &Draft<'_>, field: &str) -> Option<String> {
    let spec = draft.spec;
    // The kubelet's format.
    let all = |map: &BTreeMap<String, String>| {
        let lines: Vec<String> = map
            .iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect();
        lines.join("\n")
    };
    let one = |map: &BTreeMap<String, String>, rest: &str| {
        let key = rest.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    match field {
        "metadata.name" => Some(spec.name.clone()),
        "metadata.namespace" => Some(spec.namespace.clone()),
        "metadata.uid" => Some(draft.given.generation.vmi_uid.to_string()),
        "metadata.labels" => Some(all(&spec.labels)),
        "metadata.annotations" => Some(all(&spec.annotations)),
        _ => match (
            field.strip_prefix("metadata.labels"),
            field.strip_prefix("metadata.annotations"),
        ) {
            (Some(rest), _) => one(&spec.labels, rest),
            (None, Some(rest)) => one(&spec.annotations, rest),
            (None, None) => None,
        },
    }
}
