//! Volumes of a Pod.

use std::collections::BTreeSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1 as wire;

use super::problem::{Problem, Warning};
use super::{quantity, words};

/// A named volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Unique name in the Pod.
    pub name: String,
    /// What it holds.
    pub source: VolumeSource,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A folder that lives as long as the Pod.
    EmptyDir {
        /// In memory (tmpfs), limited to so many bytes where there is a limit.
        memory: Option<Option<u64>>,
    },
    /// A file or folder of the host.
    HostPath {
        /// Absolute path on the host.
        path: PathBuf,
        /// What must be there, or is made.
        kind: HostPathType,
    },
    /// Files of a ConfigMap's entries.
    ConfigMap(Files),
    /// Files of a Secret's entries.
    Secret(Files),
}

/// Entries of a ConfigMap or Secret as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Name of the object in the Pod's namespace.
    pub name: String,
    /// Without the object (or an entry), the folder is empty (or lacks it), and the Pod runs all the same.
    pub optional: bool,
    /// Mode of the files.
    pub mode: u32,
    /// Which entries, and where; every entry under its key when `None`.
    pub items: Option<Vec<FileItem>>,
}

/// One entry as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileItem {
    /// Key of the entry.
    pub key: String,
    /// Relative path of the file.
    pub path: String,
    /// Mode of this file.
    pub mode: Option<u32>,
}

/// What must be at a host path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathType {
    /// Nothing is checked; the runtime makes a folder where nothing is.
    Unset,
    /// A folder, made where nothing is.
    DirectoryOrCreate,
    /// A folder.
    Directory,
    /// A file, made where nothing is.
    FileOrCreate,
    /// A file.
    File,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

const TYPES: &[(&str, HostPathType)] = &[
    ("", HostPathType::Unset),
    ("DirectoryOrCreate", HostPathType::DirectoryOrCreate),
    ("Directory", HostPathType::Directory),
    ("FileOrCreate", HostPathType::FileOrCreate),
    ("File", HostPathType::File),
    ("Socket", HostPathType::Socket),
    ("CharDevice", HostPathType::CharDevice),
    ("BlockDevice", HostPathType::BlockDevice),
];

pub(super) fn parse(
    volumes: &[wire::Volume],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> Vec<Volume> {
    let mut names = BTreeSet::new();
    let mut parsed = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = format!("spec.volumes[{index}]");
        words::label(&format!("{at}.name"), &volume.name, problems);
        if !names.insert(&volume.name) {
            problems.push(Problem::duplicate(format!("{at}.name"), &volume.name));
        }
        let mut sources = Vec::new();
        if let Some(source) = &volume.empty_dir {
            sources.push(empty_dir(
                &format!("{at}.emptyDir"),
                source,
                problems,
                warnings,
            ));
        }
        if let Some(source) = &volume.host_path {
            sources.push(host_path(&format!("{at}.hostPath"), source, problems));
        }
        if let Some(source) = &volume.config_map {
            let at = format!("{at}.configMap");
            words::subdomain(&format!("{at}.name"), &source.name, problems);
            sources.push(VolumeSource::ConfigMap(files(
                &at,
                &source.name,
                source.optional,
                source.default_mode,
                source.items.as_deref(),
                problems,
            )));
        }
        if let Some(source) = &volume.secret {
            let at = format!("{at}.secret");
            let name = source.secret_name.as_deref().unwrap_or_default();
            words::subdomain(&format!("{at}.secretName"), name, problems);
            sources.push(VolumeSource::Secret(files(
                &at,
                name,
                source.optional,
                source.default_mode,
                source.items.as_deref(),
                problems,
            )));
        }
        if sources.len() > 1 {
            problems.push(Problem::forbidden(
                &at,
                "may not specify more than 1 volume type",
            ));
        }
        match sources.into_iter().next() {
            Some(source) => parsed.push(Volume { name: volume.name.clone(), source }),
            // A type that is not supported was refused by name already.
            None if other_type(volume) => {}
            None => problems.push(Problem { field: at, message: "Required value: must specify a volume type (emptyDir, hostPath, configMap or secret)".to_owned() }),
        }
    }
    parsed
}

/// Whether the volume is of a type that this crate does not know.
fn other_type(volume: &wire::Volume) -> bool {
    *volume
        != wire::Volume {
            name: volume.name.clone(),
            ..wire::Volume::default()
        }
}

fn empty_dir(
    at: &str,
    source: &wire::EmptyDirVolumeSource,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Warning>,
) -> VolumeSource {
    let limit = source.size_limit.as_ref().and_then(|limit| {
        let bytes = quantity::whole(&limit.0).and_then(|bytes| u64::try_from(bytes).ok());
        if bytes.is_none() {
            problems.push(Problem::invalid(
                format!("{at}.sizeLimit"),
                &limit.0,
                "must be a quantity of bytes, as in 64Mi",
            ));
        }
        bytes
    });
    let memory = match source.medium.as_deref().unwrap_or_default() {
        "" => {
            if limit.is_some() {
                warnings.push(Warning::new(
                    format!("{at}.sizeLimit"),
                    "only an emptyDir of medium Memory is limited here",
                ));
            }
            None
        }
        "Memory" => Some(limit),
        other => {
            problems.push(Problem::unsupported(
                format!("{at}.medium"),
                other,
                &["", "Memory"],
            ));
            None
        }
    };
    VolumeSource::EmptyDir { memory }
}

fn host_path(
    at: &str,
    source: &wire::HostPathVolumeSource,
    problems: &mut Vec<Problem>,
) -> VolumeSource {
    let field = format!("{at}.path");
    if source.path.is_empty() {
        problems.push(Problem::required(field));
    } else if !source.path.starts_with('/') {
        problems.push(Problem::invalid(
            field,
            &source.path,
            "must be an absolute path of the host",
        ));
    } else if source.path.split('/').any(|part| part == "..") {
        problems.push(Problem::invalid(
            field,
            &source.path,
            "must not contain '..'",
        ));
    }
    let word = source.type_.as_deref().unwrap_or_default();
    let kind = TYPES
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, kind)| *kind);
    if kind.is_none() {
        problems.push(Problem::unsupported(
            format!("{at}.type"),
            word,
            &TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ));
    }
    VolumeSource::HostPath {
        path: PathBuf::from(&source.path),
        kind: kind.unwrap_or(HostPathType::Unset),
    }
}

fn files(
    at: &str,
    name: &str,
    optional: Option<bool>,
    mode: Option<i32>,
    items: Option<&[wire::KeyToPath]>,
    problems: &mut Vec<Problem>,
) -> Files {
    let items = items.map(|items| {
        let mut paths = BTreeSet::new();
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let at = format!("{at}.items[{index}]");
                if item.key.is_empty() {
                    problems.push(Problem::required(format!("{at}.key")));
                }
                words::local_path(&format!("{at}.path"), &item.path, problems);
                if item.path.starts_with("..") {
                    problems.push(Problem::invalid(
                        format!("{at}.path"),
                        &item.path,
                        "must not start with '..'",
                    ));
                }
                if !paths.insert(&item.path) {
                    problems.push(Problem::duplicate(format!("{at}.path"), &item.path));
                }
                FileItem {
                    key: item.key.clone(),
                    path: item.path.clone(),
                    mode: item
                        .mode
                        .map(|mode| file_mode(&format!("{at}.mode"), mode, problems)),
                }
            })
            .collect()
    });
    let mode = mode.map_or(0o644, |mode| {
        file_mode(&format!("{at}.defaultMode"), mode, problems)
    });
    Files {
        name: name.to_owned(),
        optional: optional.unwrap_or(false),
        mode,
        items,
    }
}

fn file_mode(field: &str, mode: i32, problems: &mut Vec<Problem>) -> u32 {
    u32::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .unwrap_or_else(|| {
            problems.push(Problem::invalid(
                field,
                mode,
                "must be a number between 0 and 0777 (octal), both inclusive",
            ));
            0
        })
}
