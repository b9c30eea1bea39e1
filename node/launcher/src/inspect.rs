//! What is in the sandbox before the start: disks with their formats and sizes, configuration, the resolver's settings.
//!
//! Bytes of images and claims are others' making: they are read here, in the sandbox, and the daemon gets a few short fields.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use catamaran_plan::pod::{CLAIM_FILE, Look, LookKind};
use catamaran_plan::{Format, Hardware};
use catamaran_sandbox::records;
use catamaran_wire::{FoundDisk, Inspected, InspectedDisk};
use serde_json::Value;

use crate::places::Places;

/// Largest virtual size that is believed, bytes.
const LARGEST: u64 = 64 << 40;
/// File names of a folder that are reported.
const NAMES_MAX: usize = 4096;
/// Settings of the resolver.
const RESOLVER: &str = "/etc/resolv.conf";

/// Keeps the hardware for the next run, where the state folder outlives this one.
pub fn remember(places: &Places, hardware: &Hardware) {
    if let Err(error) = records::store(&places.hardware(), hardware) {
        tracing::warn!(%error, "the resolved hardware is not kept");
    }
}

/// Looks for everything. What is not there is left out; a disk that can't be used says why.
#[must_use]
pub fn look(places: &Places, disks: &[Look], files: &[String], folders: &[String]) -> Inspected {
    let (nameservers, search) = resolver(&fs::read_to_string(RESOLVER).unwrap_or_default());
    let size = |path: &String| {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_file().then(|| (path.clone(), metadata.len()))
    };
    Inspected {
        disks: disks.iter().map(disk).collect(),
        files: files.iter().filter_map(size).collect(),
        folders: folders
            .iter()
            .filter_map(|folder| Some((folder.clone(), names(Path::new(folder)).ok()?)))
            .collect(),
        nameservers,
        search,
        hardware: records::load(&places.hardware()).ok().flatten(),
        kvm: fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok(),
    }
}

fn disk(look: &Look) -> InspectedDisk {
    let (found, error) = match find(look) {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    InspectedDisk {
        volume: look.volume.clone(),
        found,
        error,
    }
}

fn find(look: &Look) -> Result<FoundDisk, String> {
    let path = PathBuf::from(&look.path);
    match look.kind {
        LookKind::ImageFile => image(&path),
        LookKind::ImageFolder => image(&only_file(&path)?),
        LookKind::Raw => raw(&path, look.make),
        LookKind::Claim if fs::metadata(&path).is_ok_and(|meta| meta.is_dir()) => {
            raw(&path.join(CLAIM_FILE), look.make)
        }
        LookKind::Claim => raw(&path, None),
    }
}

/// The one file of an image's folder.
fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let names = names(folder).map_err(|error| {
        format!("the image has no folder /disk that can be read ({error}); its disk belongs there, or `path` names it")
    })?;
    match names.as_slice() {
        [name] => Ok(folder.join(name)),
        [] => Err("the image's folder /disk is empty".to_owned()),
        names => Err(format!(
            "the image has several files below /disk ({}); `path` must name one",
            names.join(", ")
        )),
    }
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .take(NAMES_MAX)
        .collect();
    names.sort();
    Ok(names)
}

/// A file of an image: its header says the format.
fn image(path: &Path) -> Result<FoundDisk, String> {
    open(path, false)?;
    let said = program(&["info", "--output=json", text(path)?])?;
    let (format, virtual_size) = judge(&said)?;
    Ok(FoundDisk {
        path: path.display().to_string(),
        format,
        virtual_size,
        direct_io: direct_io(path),
        block: false,
    })
}

/// What `qemu-img info` says, if a guest may have it: nothing besides the file itself is opened later.
fn judge(info: &Value) -> Result<(Format, u64), String> {
    let format = match info["format"].as_str() {
        Some("raw") => Format::Raw,
        Some("qcow2") => Format::Qcow2,
        other => {
            return Err(format!(
                "it is {}; only raw and qcow2 are supported (convert it with qemu-img)",
                other.unwrap_or("of an unknown format")
            ));
        }
    };
    if info["backing-filename"].is_string() || info["full-backing-filename"].is_string() {
        return Err("it needs a backing file, which is refused".to_owned());
    }
    let data = &info["format-specific"]["data"];
    if data["data-file"].is_string() || data["encrypt"].is_object() {
        return Err("it needs an external data file or a password, which is refused".to_owned());
    }
    match info["virtual-size"].as_u64() {
        Some(size) if (1..=LARGEST).contains(&size) => Ok((format, size)),
        size => Err(format!(
            "its virtual size is {} bytes; allowed are 1 to {LARGEST}",
            size.unwrap_or(0)
        )),
    }
}

/// A disk that a guest writes is raw, whatever its bytes say.
fn raw(path: &Path, make: Option<u64>) -> Result<FoundDisk, String> {
    if let Some(size) = make.filter(|_| !path.exists()) {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o660)
            .open(path)
            .and_then(|file| file.set_len(size))
            .map_err(|error| format!("make {} of {size} bytes: {error}", path.display()))?;
    }
    let mut file = open(path, true)?;
    let kind = file.metadata().map_err(|error| error.to_string())?;
    let size = file
        .seek(SeekFrom::End(0))
        .map_err(|error| format!("find the size of {}: {error}", path.display()))?;
    if size == 0 {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(FoundDisk {
        path: path.display().to_string(),
        format: Format::Raw,
        virtual_size: size,
        direct_io: direct_io(path),
        block: kind.file_type().is_block_device(),
    })
}

/// Opens for reading; the error names what an administrator has to change.
fn open(path: &Path, device: bool) -> Result<fs::File, String> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match fs::metadata(path) {
            Ok(meta) => format!(
                "{} can't be read by user {} (its mode is {:o}): {error}",
                path.display(),
                catamaran_plan::paths::UID,
                meta.permissions().mode() & 0o7777
            ),
            Err(_) => format!("{} can't be read: {error}", path.display()),
        })?;
    let kind = file
        .metadata()
        .map_err(|error| error.to_string())?
        .file_type();
    if kind.is_file() || device && kind.is_block_device() {
        Ok(file)
    } else {
        Err(format!(
            "{} is neither a file nor a disk device",
            path.display()
        ))
    }
}

fn direct_io(path: &Path) -> bool {
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .is_ok()
}

fn program(arguments: &[&str]) -> Result<Value, String> {
    let output = Command::new("qemu-img")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("qemu-img can't be run: {error}"))?;
    if !output.status.success() {
        let said: String = String::from_utf8_lossy(&output.stderr)
            .trim()
            .chars()
            .take(500)
            .collect();
        return Err(said);
    }
    let mut bytes = Vec::new();
    output
        .stdout
        .as_slice()
        .take(1 << 20)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Name servers and search domains.
fn resolver(text: &str) -> (Vec<std::net::IpAddr>, Vec<String>) {
    let lines = text.lines().map(str::split_whitespace);
    let (mut nameservers, mut search) = (Vec::new(), Vec::new());
    for mut words in lines {
        match words.next() {
            Some("nameserver") => nameservers.extend(
                words
                    .next()
                    .and_then(|w| w.parse::<std::net::IpAddr>().ok()),
            ),
            Some("search") => search = words.map(str::to_owned).take(32).collect(),
            _ => {}
        }
    }
    (nameservers, search)
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(path: &Path, kind: LookKind, make: Option<u64>) -> Look {
        Look {
            volume: "root".into(),
            path: path.display().to_string(),
            kind,
            make,
        }
    }

    #[test]
    fn a_disk_that_opens_other_files_is_refused() {
        let backed =
            json!({"format": "qcow2", "virtual-size": 1024, "backing-filename": "/etc/shadow"});
        assert!(judge(&backed).unwrap_err().contains("backing file"));
        let data = json!({"format": "qcow2", "virtual-size": 1024, "format-specific": {"data": {"data-file": "/x"}}});
        assert!(judge(&data).is_err());
        let foreign = json!({"format": "vmdk", "virtual-size": 1024});
        assert!(judge(&foreign).unwrap_err().contains("it is vmdk"));
        let good = json!({"format": "qcow2", "virtual-size": 1024});
        assert_eq!(judge(&good), Ok((Format::Qcow2, 1024)));
    }

    #[test]
    fn a_missing_file_of_a_claim_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let look = wanted(dir.path(), LookKind::Claim, Some(1 << 20));
        let found = find(&look).unwrap();
        assert_eq!((found.format, found.virtual_size), (Format::Raw, 1 << 20));
        let file = dir.path().join(CLAIM_FILE);
        fs::write(&file, vec![7; 2 << 20]).unwrap();
        assert_eq!(find(&look).unwrap().virtual_size, 2 << 20);
    }

    #[test]
    fn several_files_of_an_image_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let look = wanted(dir.path(), LookKind::ImageFolder, None);
        assert!(find(&look).unwrap_err().contains("empty"));
        for name in ["b.img", "a.img", ".wh.x"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        assert!(find(&look).unwrap_err().contains("a.img, b.img"));
    }

    #[test]
    fn settings_of_the_resolver_are_read() {
        let text = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5\n";
        let (servers, search) = resolver(text);
        assert_eq!(servers.len(), 2);
        assert_eq!(search, ["default.svc.cluster.local", "svc.cluster.local"]);
    }
}
