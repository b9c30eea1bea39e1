//! Volumes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catamaran_api::{CloudInitNoCloudSource, VirtualMachineInstanceSpec};

use crate::defaults;
use crate::disk::{
    CloudInit, CloudInitData, CloudInitKind, HostDiskKind, PullPolicy, Volume, VolumeSource,
};
use crate::field::{Fault, Faults, FieldPath};
use crate::names;
use crate::quantity;

/// All volumes that can be told, in the order of the manifest.
pub(super) fn volumes(
    spec: &VirtualMachineInstanceSpec,
    root: &FieldPath,
    faults: &mut Faults,
) -> Vec<Volume> {
    let mut volumes: Vec<Volume> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, volume) in spec.volumes.iter().enumerate() {
        let path = root.child("volumes").index(i);
        if volume.name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if !names::is_label(&volume.name) {
            faults.invalid(&path.child("name"), &volume.name, names::LABEL);
        } else if seen.contains(&volume.name.as_str()) {
            faults.duplicate(&path.child("name"), &volume.name);
        }
        seen.push(&volume.name);
        if let Some(source) = source(volume, spec, &path, faults) {
            volumes.push(Volume {
                name: volume.name.clone(),
                source,
            });
        }
    }
    let seeds = volumes
        .iter()
        .filter(|v| matches!(v.source, VolumeSource::CloudInit(_)))
        .count();
    if seeds > 1 {
        faults.push(
            &root.child("volumes"),
            Fault::Forbidden("at most one cloud-init volume can be given".to_owned()),
        );
    }
    volumes
}

/// The only source of a volume.
fn source(
    volume: &catamaran_api::Volume,
    spec: &VirtualMachineInstanceSpec,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<VolumeSource> {
    let mut sources: Vec<(&str, Option<VolumeSource>)> = Vec::new();
    if let Some(s) = &volume.container_disk {
        sources.push((
            "containerDisk",
            container_disk(s, &path.child("containerDisk"), faults),
        ));
    }
    if let Some(s) = &volume.cloud_init_no_cloud {
        sources.push((
            "cloudInitNoCloud",
            cloud_init(
                s,
                CloudInitKind::NoCloud,
                spec,
                &path.child("cloudInitNoCloud"),
                faults,
            ),
        ));
    }
    if let Some(s) = &volume.cloud_init_config_drive {
        let same = CloudInitNoCloudSource {
            network_data: s.network_data.clone(),
            network_data_base64: s.network_data_base64.clone(),
            network_data_secret_ref: s.network_data_secret_ref.clone(),
            secret_ref: s.secret_ref.clone(),
            user_data: s.user_data.clone(),
            user_data_base64: s.user_data_base64.clone(),
            unknown: s.unknown.clone(),
        };
        sources.push((
            "cloudInitConfigDrive",
            cloud_init(
                &same,
                CloudInitKind::ConfigDrive,
                spec,
                &path.child("cloudInitConfigDrive"),
                faults,
            ),
        ));
    }
    if let Some(s) = &volume.empty_disk {
        let capacity = size(
            s.capacity.as_str(),
            &path.child("emptyDisk").child("capacity"),
            faults,
        );
        sources.push((
            "emptyDisk",
            capacity.map(|capacity| VolumeSource::EmptyDisk { capacity }),
        ));
    }
    if let Some(s) = &volume.ephemeral {
        let at = path.child("ephemeral").child("persistentVolumeClaim");
        sources.push(("ephemeral", ephemeral(s, &at, faults)));
    }
    if let Some(s) = &volume.persistent_volume_claim {
        let claim = object_name(
            Some(&s.claim_name),
            &path.child("persistentVolumeClaim").child("claimName"),
            faults,
        );
        let read_only = s.read_only.unwrap_or(false);
        sources.push((
            "persistentVolumeClaim",
            claim.map(|claim| VolumeSource::PersistentVolumeClaim { claim, read_only }),
        ));
    }
    if let Some(s) = &volume.data_volume {
        // An importer makes a claim of its own name.
        let claim = object_name(
            Some(&s.name),
            &path.child("dataVolume").child("name"),
            faults,
        );
        sources.push((
            "dataVolume",
            claim.map(|claim| VolumeSource::PersistentVolumeClaim {
                claim,
                read_only: false,
            }),
        ));
    }
    if let Some(s) = &volume.host_disk {
        sources.push(("hostDisk", host_disk(s, &path.child("hostDisk"), faults)));
    }
    if let Some(s) = &volume.config_map {
        let at = path.child("configMap");
        let name = object_name(s.name.as_deref(), &at.child("name"), faults);
        let label = label(s.volume_label.as_deref(), &at, faults);
        sources.push((
            "configMap",
            name.map(|name| VolumeSource::ConfigMap {
                name,
                optional: s.optional.unwrap_or(false),
                label,
            }),
        ));
    }
    if let Some(s) = &volume.secret {
        let at = path.child("secret");
        let name = object_name(s.secret_name.as_deref(), &at.child("secretName"), faults);
        let label = label(s.volume_label.as_deref(), &at, faults);
        sources.push((
            "secret",
            name.map(|name| VolumeSource::Secret {
                name,
                optional: s.optional.unwrap_or(false),
                label,
            }),
        ));
    }
    if let Some(s) = &volume.downward_api {
        sources.push((
            "downwardAPI",
            Some(downward_api(s, &path.child("downwardAPI"), faults)),
        ));
    }
    // A source that is not carried out here has been refused by name already; "required" would only confuse.
    if sources.is_empty() && volume.unknown.is_empty() {
        faults.required(path, "must have exactly one source type set");
    }
    for (name, _) in sources.iter().skip(1) {
        faults.push(
            &path.child(name),
            Fault::Forbidden("must have exactly one source type set".to_owned()),
        );
    }
    sources.into_iter().next().and_then(|(_, source)| source)
}

/// Pull policy, by default after the image's tag.
pub(super) fn pull_policy(
    word: Option<&str>,
    image: &str,
    path: &FieldPath,
    faults: &mut Faults,
) -> PullPolicy {
    let words = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    faults
        .word(path, word.filter(|w| !w.is_empty()), &words)
        .unwrap_or_else(|| defaults::pull_policy(image))
}

fn container_disk(
    source: &catamaran_api::ContainerDiskSource,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<VolumeSource> {
    let image = &source.image;
    if image.is_empty() {
        faults.required(&path.child("image"), "");
        return None;
    }
    if image.len() > 512 || image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.invalid(&path.child("image"), image, "must be an image reference");
    }
    let file = source.path.clone().filter(|p| !p.is_empty());
    if let Some(file) = file.as_ref().filter(|f| !names::is_safe_path(f)) {
        faults.invalid(&path.child("path"), file, names::PATH);
    }
    Some(VolumeSource::ContainerDisk {
        image: image.clone(),
        path: file,
        pull_policy: pull_policy(
            source.image_pull_policy.as_deref(),
            image,
            &path.child("imagePullPolicy"),
            faults,
        ),
        pull_secret: source.image_pull_secret.clone().filter(|s| !s.is_empty()),
    })
}

fn ephemeral(
    source: &catamaran_api::EphemeralVolumeSource,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<VolumeSource> {
    let Some(claim) = &source.persistent_volume_claim else {
        faults.required(path, "");
        return None;
    };
    let name = object_name(Some(&claim.claim_name), &path.child("claimName"), faults)?;
    Some(VolumeSource::Ephemeral {
        claim: name,
        read_only: claim.read_only.unwrap_or(false),
    })
}

fn host_disk(
    disk: &catamaran_api::HostDisk,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<VolumeSource> {
    if !names::is_safe_path(&disk.path) {
        faults.invalid(&path.child("path"), &disk.path, names::PATH);
    }
    let kind = faults.word(
        &path.child("type"),
        Some(&disk.type_),
        &[
            ("Disk", HostDiskKind::Disk),
            ("DiskOrCreate", HostDiskKind::DiskOrCreate),
        ],
    );
    let capacity = disk
        .capacity
        .as_ref()
        .and_then(|q| size(q.as_str(), &path.child("capacity"), faults));
    if kind == Some(HostDiskKind::DiskOrCreate) && disk.capacity.is_none() {
        faults.required(&path.child("capacity"), "a disk that is made needs a size");
    }
    if kind == Some(HostDiskKind::Disk) && disk.capacity.is_some() {
        faults.push(
            &path.child("capacity"),
            Fault::Forbidden("only a disk of type DiskOrCreate is given a size".to_owned()),
        );
    }
    Some(VolumeSource::HostDisk {
        path: disk.path.clone(),
        kind: kind?,
        capacity,
        shared: disk.shared.unwrap_or(false),
    })
}

/// Fields of the instance that a file can hold.
const DOWNWARD_FIELDS: [&str; 4] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.labels",
    "metadata.annotations",
];

fn downward_api(
    source: &catamaran_api::DownwardApiVolumeSource,
    path: &FieldPath,
    faults: &mut Faults,
) -> VolumeSource {
    let mut items = Vec::new();
    for (i, item) in source.fields.iter().enumerate() {
        let path = path.child("fields").index(i);
        let name = item.path.as_str();
        if name.is_empty()
            || name.starts_with('/')
            || name.split('/').any(|part| part == "..")
            || name.chars().any(char::is_control)
        {
            faults.invalid(
                &path.child("path"),
                name,
                "must be a relative path without '..'",
            );
        } else if items.iter().any(|(other, _)| other == name) {
            faults.duplicate(&path.child("path"), name);
        }
        let field = item
            .field_ref
            .as_ref()
            .map(|f| f.field_path.as_str())
            .unwrap_or_default();
        let at = path.child("fieldRef").child("fieldPath");
        let keyed = field.strip_suffix("']").and_then(|f| {
            f.strip_prefix("metadata.labels['")
                .or_else(|| f.strip_prefix("metadata.annotations['"))
        });
        if field.is_empty() {
            if item.resource_field_ref.is_none() {
                faults.required(&at, "");
            }
        } else if keyed.is_none_or(str::is_empty) && field != "metadata.uid" {
            faults.word(&at, Some(field), &DOWNWARD_FIELDS.map(|f| (f, ())));
        }
        items.push((name.to_owned(), field.to_owned()));
    }
    VolumeSource::DownwardApi {
        items,
        label: label(source.volume_label.as_deref(), path, faults),
    }
}

fn cloud_init(
    source: &CloudInitNoCloudSource,
    kind: CloudInitKind,
    spec: &VirtualMachineInstanceSpec,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<VolumeSource> {
    let user_data = part(
        ["userData", "userDataBase64", "secretRef"],
        [
            source.user_data.as_deref(),
            source.user_data_base64.as_deref(),
            source.secret_ref.as_ref().map(|s| s.name.as_str()),
        ],
        path,
        faults,
    );
    let network_data = part(
        ["networkData", "networkDataBase64", "networkDataSecretRef"],
        [
            source.network_data.as_deref(),
            source.network_data_base64.as_deref(),
            source
                .network_data_secret_ref
                .as_ref()
                .map(|s| s.name.as_str()),
        ],
        path,
        faults,
    );
    // An empty seed still carries the host name, and keys where a credential goes this way.
    let credentials = spec
        .access_credentials
        .iter()
        .any(|c| c.ssh_public_key.is_some());
    if matches!(user_data, Ok(None))
        && matches!(network_data, Ok(None))
        && !credentials
        && kind == CloudInitKind::ConfigDrive
    {
        faults.required(
            path,
            "must have at least one userdatasource or one networkdatasource set",
        );
    }
    Some(VolumeSource::CloudInit(CloudInit {
        kind,
        user_data: user_data.ok()?,
        network_data: network_data.ok()?,
    }))
}

/// One of inline text, base64 and Secret, in this order. `Err` when there is a mistake.
fn part(
    fields: [&str; 3],
    values: [Option<&str>; 3],
    path: &FieldPath,
    faults: &mut Faults,
) -> Result<Option<CloudInitData>, ()> {
    let mut set = values
        .iter()
        .zip(fields)
        .enumerate()
        .filter_map(|(i, (value, field))| Some((i, (*value)?, field)));
    let Some((which, value, field)) = set.next() else {
        return Ok(None);
    };
    let mut result = Ok(());
    for (_, _, other) in set {
        faults.push(
            &path.child(other),
            Fault::Forbidden(format!(
                "{field} is set already: only one source can be given"
            )),
        );
        result = Err(());
    }
    let at = path.child(field);
    let data = match which {
        0 => CloudInitData::Inline(value.to_owned()),
        1 => match STANDARD
            .decode(value.split_whitespace().collect::<String>())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
        {
            Some(text) => CloudInitData::Inline(text),
            None => {
                // The value may hold a password.
                faults.invalid(&at, "<redacted>", "must be base64 of UTF-8 text");
                return Err(());
            }
        },
        _ if !names::is_subdomain(value) => {
            faults.invalid(&at.child("name"), value, names::SUBDOMAIN);
            return Err(());
        }
        _ => CloudInitData::SecretRef(value.to_owned()),
    };
    if let CloudInitData::Inline(text) = &data
        && text.len() > defaults::CLOUD_INIT_BYTES
    {
        faults.invalid(
            &at,
            format!("<{} bytes>", text.len()),
            &format!(
                "must be at most {} bytes; put larger data into a Secret",
                defaults::CLOUD_INIT_BYTES
            ),
        );
        result = Err(());
    }
    result.map(|()| Some(data))
}

fn size(text: &str, path: &FieldPath, faults: &mut Faults) -> Option<u64> {
    let bytes = quantity::units(text).filter(|b| *b >= 512);
    if bytes.is_none() {
        faults.invalid(
            path,
            text,
            "must be a quantity of at least 512 bytes such as 1Gi",
        );
    }
    bytes
}

fn object_name(name: Option<&str>, path: &FieldPath, faults: &mut Faults) -> Option<String> {
    match name.filter(|n| !n.is_empty()) {
        None => {
            faults.required(path, "");
            None
        }
        Some(name) if !names::is_subdomain(name) => {
            faults.invalid(path, name, names::SUBDOMAIN);
            None
        }
        Some(name) => Some(name.to_owned()),
    }
}

fn label(label: Option<&str>, path: &FieldPath, faults: &mut Faults) -> Option<String> {
    let label = label.filter(|l| !l.is_empty())?;
    if label.len() > 32 || !label.chars().all(|c| c.is_ascii_graphic()) {
        faults.invalid(
            &path.child("volumeLabel"),
            label,
            "must be at most 32 printable ASCII characters without spaces",
        );
    }
    Some(label.to_owned())
}
