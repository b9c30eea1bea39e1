//! Volumes on disk: `<pods>/<namespace>_<name>/volumes/<volume>`.
//!
//! Files of ConfigMaps and Secrets are replaced all at once, as the kubelet does it: `..data` is a symbolic link to the
//! current set, each file a link through it, so that a container never sees a half-written set.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Error;
use crate::objects::{Objects, entries, kind};
use crate::pod::{Files, HostPathType, PodSpec, Volume, VolumeMount, VolumeSource};

/// A set of files: relative path to content and mode.
type FileSet = BTreeMap<String, (Vec<u8>, u32)>;

/// Writes a file into a folder that nobody looks at yet.
fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let options = &mut fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(content)?;
        // For pods, whatever the daemon's umask is.
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    write().map_err(Error::file("write", path))
}

/// Makes a folder of that mode, or does nothing when it is there.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(Error::file("set the mode of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).map_err(Error::file("make the folder", parent))?;
            make_folder(path, mode)
        }
        Err(error) => Err(Error::file("make the folder", path)(error)),
    }
}

/// Mount points below a folder, innermost first.
pub(crate) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let unescape = |word: &str| {
        word.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
    };
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|word| PathBuf::from(unescape(word)));
    let mut points: Vec<_> = points.filter(|point| point.starts_with(folder)).collect();
    points.reverse();
    points
}

/// The folder of a Pod's volume.
fn folder_of(pod_folder: &Path, volume: &str) -> PathBuf {
    pod_folder.join("volumes").join(volume)
}

/// Makes or updates every volume of the Pod. The error is a message for a person: what is missing.
pub(crate) fn prepare(
    pod_folder: &Path,
    pod: &PodSpec,
    objects: &dyn Objects,
) -> Result<(), String> {
    for volume in &pod.volumes {
        let folder = folder_of(pod_folder, &volume.name);
        let failed = |error: Error| {
            format!(
                "MountVolume.SetUp failed for volume \"{}\": {}",
                volume.name,
                catamaran_client::chain(&error)
            )
        };
        match &volume.source {
            VolumeSource::EmptyDir { memory } => empty_dir(&folder, *memory).map_err(failed)?,
            VolumeSource::HostPath { path, kind } => host_path(path, *kind).map_err(|why| {
                format!(
                    "MountVolume.SetUp failed for volume \"{}\": {why}",
                    volume.name
                )
            })?,
            VolumeSource::ConfigMap(files) | VolumeSource::Secret(files) => {
                let secret = matches!(volume.source, VolumeSource::Secret(_));
                let set = file_set(files, secret, &pod.key.namespace, objects).map_err(|why| {
                    format!(
                        "MountVolume.SetUp failed for volume \"{}\": {why}",
                        volume.name
                    )
                })?;
                write_set(&folder, &set).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Updates files of ConfigMaps and Secrets; an object that is gone leaves its files as they are.
pub(crate) fn refresh(
    pod_folder: &Path,
    pod: &PodSpec,
    objects: &dyn Objects,
) -> Result<(), String> {
    for volume in &pod.volumes {
        if let VolumeSource::ConfigMap(files) | VolumeSource::Secret(files) = &volume.source {
            let secret = matches!(volume.source, VolumeSource::Secret(_));
            let set = file_set(files, secret, &pod.key.namespace, objects)?;
            write_set(&folder_of(pod_folder, &volume.name), &set)
                .map_err(|error| catamaran_client::chain(&error))?;
        }
    }
    Ok(())
}

fn empty_dir(folder: &Path, memory: Option<Option<u64>>) -> Result<(), Error> {
    make_folder(folder, 0o777)?;
    if let Some(limit) = memory
        && !mounts_below(folder).contains(&folder.to_path_buf())
    {
        let options = limit.map_or_else(
            || "mode=777".to_owned(),
            |bytes| format!("mode=777,size={bytes}"),
        );
        let options = std::ffi::CString::new(options).expect("there is no NUL byte in it");
        mount(
            "tmpfs",
            folder,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )
        .map_err(|error| Error::file("mount a tmpfs at", folder)(error.into()))?;
    }
    Ok(())
}

fn host_path(path: &Path, kind: HostPathType) -> Result<(), String> {
    let shown = path.display();
    let found = fs::metadata(path).ok().map(|data| data.file_type());
    let made = |result: io::Result<()>| {
        result.map_err(|error| format!("hostPath {shown} could not be made: {error}"))
    };
    match (kind, found) {
        (HostPathType::Unset, _) => Ok(()),
        (HostPathType::DirectoryOrCreate, None) => made(fs::create_dir_all(path)),
        (HostPathType::FileOrCreate, None) => made(fs::File::create(path).map(|_| ())),
        (_, None) => Err(format!("hostPath {shown} does not exist")),
        (kind, Some(found)) => {
            let (fits, word) = match kind {
                HostPathType::Unset => (true, ""),
                HostPathType::DirectoryOrCreate | HostPathType::Directory => {
                    (found.is_dir(), "a directory")
                }
                HostPathType::FileOrCreate | HostPathType::File => (found.is_file(), "a file"),
                HostPathType::Socket => (found.is_socket(), "a socket"),
                HostPathType::CharDevice => (found.is_char_device(), "a character device"),
                HostPathType::BlockDevice => (found.is_block_device(), "a block device"),
            };
            if fits {
                Ok(())
            } else {
                Err(format!("hostPath type check failed: {shown} is not {word}"))
            }
        }
    }
}

fn file_set(
    files: &Files,
    secret: bool,
    namespace: &str,
    objects: &dyn Objects,
) -> Result<FileSet, String> {
    let Some(mut entries) = entries(objects, namespace, secret, &files.name) else {
        return if files.optional {
            Ok(FileSet::new())
        } else {
            Err(format!(
                "{} \"{namespace}/{}\" not found",
                kind(secret),
                files.name
            ))
        };
    };
    let Some(items) = &files.items else {
        return Ok(entries
            .into_iter()
            .map(|(key, content)| (key, (content, files.mode)))
            .collect());
    };
    let mut set = FileSet::new();
    for item in items {
        match entries.remove(&item.key) {
            Some(content) => {
                set.insert(
                    item.path.clone(),
                    (content, item.mode.unwrap_or(files.mode)),
                );
            }
            None if files.optional => {}
            None => {
                return Err(format!(
                    "{} \"{namespace}/{}\" references non-existent key: {}",
                    kind(secret),
                    files.name,
                    item.key
                ));
            }
        }
    }
    Ok(set)
}

fn write_set(folder: &Path, set: &FileSet) -> Result<(), Error> {
    make_folder(folder, 0o755)?;
    let data = folder.join("..data");
    let current = fs::read_link(&data).ok();
    if current.is_some() && read_set(&data).as_ref() == Some(set) {
        return Ok(());
    }
    let fresh = tempfile::Builder::new()
        .prefix("..")
        .tempdir_in(folder)
        .map_err(Error::file("make a folder in", folder))?
        .keep();
    let written = write_fresh(folder, &fresh, set);
    if written.is_err() {
        let _ = fs::remove_dir_all(&fresh);
    }
    written?;
    let tops: BTreeSet<_> = set
        .keys()
        .filter_map(|path| path.split('/').next())
        .collect();
    for top in &tops {
        let link = folder.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link)
                .map_err(Error::file("make the link", &link))?;
        }
    }
    // What the new set does not have: links to nothing, and older sets.
    for entry in fs::read_dir(folder)
        .map_err(Error::file("read", folder))?
        .flatten()
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.starts_with("..") && name != "..data" && path != fresh {
            let _ = fs::remove_dir_all(&path);
        } else if !name.starts_with("..") && !tops.contains(&*name) {
            fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

fn write_fresh(folder: &Path, fresh: &Path, set: &FileSet) -> Result<(), Error> {
    fs::set_permissions(fresh, fs::Permissions::from_mode(0o755))
        .map_err(Error::file("set the mode of", fresh))?;
    for (path, (content, mode)) in set {
        let file = fresh.join(path);
        if let Some(parent) = file.parent() {
            make_folder(parent, 0o755)?;
        }
        write_file(&file, content, *mode)?;
    }
    let link = folder.join("..data_new");
    let _ = fs::remove_file(&link);
    let name = fresh.file_name().unwrap_or_default();
    symlink(name, &link).map_err(Error::file("make the link", &link))?;
    let data = folder.join("..data");
    fs::rename(&link, &data).map_err(Error::file("replace", &data))
}

fn read_set(folder: &Path) -> Option<FileSet> {
    fn walk(folder: &Path, prefix: &str, set: &mut FileSet) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let data = entry.metadata()?;
            if data.is_dir() {
                walk(&entry.path(), &format!("{path}/"), set)?;
            } else {
                set.insert(
                    path,
                    (fs::read(entry.path())?, data.permissions().mode() & 0o777),
                );
            }
        }
        Ok(())
    }
    let mut set = FileSet::new();
    walk(&fs::canonicalize(folder).ok()?, "", &mut set).ok()?;
    Some(set)
}

/// The host's path of a mount, and whether it is mounted read-only. The error is a message for a person.
pub(crate) fn mount_source(
    pod_folder: &Path,
    pod: &PodSpec,
    mount: &VolumeMount,
) -> Result<(PathBuf, bool), String> {
    let volume = pod
        .volumes
        .iter()
        .find(|volume| volume.name == mount.volume);
    let Some(Volume { name, source }) = volume else {
        return Err(format!("volume \"{}\" not found", mount.volume));
    };
    Ok(match source {
        VolumeSource::EmptyDir { .. } => (folder_of(pod_folder, name), mount.read_only),
        VolumeSource::HostPath { path, .. } => (path.clone(), mount.read_only),
        VolumeSource::ConfigMap(_) | VolumeSource::Secret(_) => {
            let folder = folder_of(pod_folder, name);
            // Nothing but this module writes here, so that the link leads where it says.
            let path = match &mount.sub_path {
                Some(path) => fs::canonicalize(folder.join(path))
                    .map_err(|_| format!("subPath {path} does not exist in volume \"{name}\""))?,
                None => folder,
            };
            (path, true)
        }
    })
}

/// Removes volumes and logs: the Pod is replaced by another one.
pub(crate) fn clear(pod_folder: &Path) -> Result<(), Error> {
    remove(&pod_folder.join("volumes")).and_then(|()| remove(&pod_folder.join("logs")))
}

/// Unmounts everything below a folder.
pub(crate) fn unmount_below(folder: &Path) -> Result<(), Error> {
    for point in mounts_below(folder) {
        unmount(&point, UnmountFlags::DETACH)
            .map_err(|error| Error::file("unmount", &point)(error.into()))?;
    }
    Ok(())
}

/// Removes a folder with the mounts below it.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    unmount_below(folder)?;
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Content of `/etc/hosts` in a Pod.
pub(crate) fn hosts_file(pod: &PodSpec, pod_ips: &[String]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for address in pod_ips {
        text.push_str(&format!("{address}\t{}\n", pod.hostname));
    }
    for alias in &pod.host_aliases {
        text.push_str(&format!("{}\t{}\n", alias.address, alias.names.join("\t")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str, u32)]) -> FileSet {
        files
            .iter()
            .map(|(path, text, mode)| ((*path).to_owned(), (text.as_bytes().to_vec(), *mode)))
            .collect()
    }
    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_of_files_is_replaced_as_a_whole_and_keeps_modes() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("v");
        write_set(
            &volume,
            &set(&[
                ("a", "1", 0o644),
                ("deep/b", "2", 0o400),
                ("gone", "3", 0o644),
            ]),
        )
        .unwrap();
        assert_eq!(names(&volume), ["a", "deep", "gone"]);
        let first = fs::read_link(volume.join("..data")).unwrap();
        let mode = |path: &str| {
            fs::metadata(volume.join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("a"), mode("deep/b")), (0o644, 0o400));

        write_set(
            &volume,
            &set(&[
                ("a", "1", 0o644),
                ("deep/b", "2", 0o400),
                ("gone", "3", 0o644),
            ]),
        )
        .unwrap();
        assert_eq!(
            fs::read_link(volume.join("..data")).unwrap(),
            first,
            "the same content was written again"
        );

        write_set(&volume, &set(&[("a", "new", 0o644), ("c", "4", 0o644)])).unwrap();
        assert_eq!(names(&volume), ["a", "c"]);
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "new");
        assert!(!volume.join(first).exists(), "the old set is still there");
        let hidden = fs::read_dir(&volume).unwrap().count() - 2;
        assert_eq!(hidden, 2, "..data and one set");
    }
}
