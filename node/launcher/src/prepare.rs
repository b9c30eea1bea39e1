//! The steps of a plan before the start: overlays, empty disks, seeds, UEFI variables, folders.
//!
//! Everything runs in the sandbox, since images and Secrets are others' bytes. Each step is idempotent: after a crash
//! in the middle the same plan is prepared again.

use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use catamaran_plan::{Prepare, SeedFile, SeedSource};

use crate::places::Places;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file could not be made or read.
    #[error("{what}: {source}")]
    File {
        /// What was done.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program said no.
    #[error("{program} for {file}: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The file it was to make.
        file: String,
        /// Its last words.
        message: String,
    },
    /// None of a seed's sources is there.
    #[error("none of {0} is there; the Secret or ConfigMap lacks this key")]
    NoSource(String),
    /// A path leads out of its place.
    #[error("{0:?} is not a plain relative path")]
    Path(String),
}

/// Largest file that is taken into a seed, bytes.
const SEED_FILE_MAX: u64 = 16 << 20;

/// Does all steps, which do not depend on each other, side by side: most of their time goes into starting `qemu-img` and `xorriso`. Says
/// whether a disk was made anew (memory saved earlier must then not be used).
///
/// # Errors
/// That of the first step in the plan's order that failed.
pub fn run(steps: &[Prepare], places: &Places) -> Result<bool, PrepareError> {
    let results: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> = steps
            .iter()
            .map(|step| scope.spawn(|| one(step, places)))
            .collect();
        tasks.into_iter().map(|task| task.join()).collect()
    });
    let mut made = false;
    for result in results {
        made |= result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    Ok(made)
}

fn one(step: &Prepare, places: &Places) -> Result<bool, PrepareError> {
    match step {
        Prepare::Overlay {
            path,
            base,
            base_format,
            size,
            limit,
        } => {
            let base = places.resolve(base);
            let backing = ["-b", text(&base)?, "-F", base_format.as_str()];
            make_disk(&places.resolve(path), &backing, *size, *limit)
        }
        Prepare::EmptyDisk { path, size } => make_disk(&places.resolve(path), &[], *size, None),
        Prepare::Seed { path, label, files } => {
            make_seed(&places.resolve(path), label, files, places).map(|()| false)
        }
        Prepare::Nvram { path, template } => {
            copy_missing(Path::new(template), &places.resolve(path)).map(|()| false)
        }
        Prepare::Folder { path } => make_folder(&places.resolve(path)).map(|()| false),
    }
}

fn make_disk(
    path: &Path,
    backing: &[&str],
    size: u64,
    limit: Option<u64>,
) -> Result<bool, PrepareError> {
    if path.exists() {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    // Made beside its place and renamed: a half-made file of a killed launcher is not taken for a disk.
    let fresh = beside(path);
    let _ = std::fs::remove_file(&fresh);
    let size = size.to_string();
    let mut arguments = vec!["create", "-q", "-f", "qcow2"];
    arguments.extend_from_slice(backing);
    arguments.extend_from_slice(&[text(&fresh)?, &size]);
    program("qemu-img", &arguments, path)?;
    if let Some(limit) = limit {
        let what = || format!("limit {} to {limit} bytes", path.display());
        std::fs::OpenOptions::new()
            .write(true)
            .open(&fresh)
            .and_then(|file| file.set_len(limit))
            .map_err(|source| PrepareError::File {
                what: what(),
                source,
            })?;
    }
    rename(&fresh, path)?;
    Ok(true)
}

fn make_seed(
    path: &Path,
    label: &str,
    files: &[SeedFile],
    places: &Places,
) -> Result<(), PrepareError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let _ = std::fs::remove_dir_all(&folder);
    make_folder(&folder)?;
    for file in files {
        let target = folder.join(relative(&file.path)?);
        if let Some(parent) = target.parent() {
            make_folder(parent)?;
        }
        let bytes = content(&file.content, places)?;
        // Seeds hold passwords.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&target)
            .and_then(|mut handle| std::io::Write::write_all(&mut handle, &bytes))
            .map_err(|source| PrepareError::File {
                what: format!("write {}", target.display()),
                source,
            })?;
    }
    let fresh = beside(path);
    let _ = std::fs::remove_file(&fresh);
    // In the guest every file is root's and readable, whatever it was here.
    let arguments = [
        "-quiet",
        "-output",
        text(&fresh)?,
        "-volid",
        label,
        "-joliet",
        "-rational-rock",
        text(&folder)?,
    ];
    let made = program("xorrisofs", &arguments, path);
    let _ = std::fs::remove_dir_all(&folder);
    made?;
    rename(&fresh, path)
}

fn content(source: &SeedSource, places: &Places) -> Result<Vec<u8>, PrepareError> {
    match source {
        SeedSource::Inline(text) => Ok(text.clone().into_bytes()),
        SeedSource::FirstOf(candidates) => {
            let found = candidates
                .iter()
                .map(|path| places.resolve(path))
                .find(|path| path.is_file());
            read_small(&found.ok_or_else(|| PrepareError::NoSource(candidates.join(", ")))?)
        }
        SeedSource::MetaData {
            base,
            key_folders,
            keys_at,
        } => {
            let mut data: serde_json::Map<String, serde_json::Value> = base
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let mut keys = serde_json::Map::new();
            for folder in key_folders {
                for key in read_folder(&places.resolve(folder))? {
                    for line in key
                        .1
                        .lines()
                        .map(str::trim)
                        .filter(|line| !line.is_empty() && !line.starts_with('#'))
                    {
                        keys.insert(keys.len().to_string(), line.into());
                    }
                }
            }
            if !key_folders.is_empty() && !keys_at.is_empty() {
                data.insert(keys_at.clone(), keys.into());
            }
            Ok(serde_json::Value::Object(data).to_string().into_bytes())
        }
    }
}

/// The files of a folder with a Secret's or ConfigMap's keys, by name, without kubelet's `..data` links.
///
/// # Errors
/// When the folder or a file cannot be read.
pub fn read_folder(folder: &Path) -> Result<Vec<(String, String)>, PrepareError> {
    let failed = |source| PrepareError::File {
        what: format!("read the folder {}", folder.display()),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && entry.path().is_file() {
            files.push((
                name,
                String::from_utf8_lossy(&read_small(&entry.path())?).into_owned(),
            ));
        }
    }
    files.sort();
    Ok(files)
}

fn read_small(path: &Path) -> Result<Vec<u8>, PrepareError> {
    let failed = |source| PrepareError::File {
        what: format!("read {}", path.display()),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SEED_FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > SEED_FILE_MAX {
        return Err(failed(std::io::Error::other(format!(
            "it is larger than {SEED_FILE_MAX} bytes"
        ))));
    }
    Ok(bytes)
}

fn copy_missing(from: &Path, to: &Path) -> Result<(), PrepareError> {
    if to.exists() {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    let fresh = beside(to);
    let what = || format!("copy {} to {}", from.display(), to.display());
    // Not `fs::copy`, which would also copy a read-only mode.
    let copy = || {
        let mut source = std::fs::File::open(from)?;
        let mut target = std::fs::File::create(&fresh)?;
        std::io::copy(&mut source, &mut target)?;
        target.sync_data()
    };
    copy().map_err(|source| PrepareError::File {
        what: what(),
        source,
    })?;
    rename(&fresh, to)
}

fn make_folder(path: &Path) -> Result<(), PrepareError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|source| PrepareError::File {
            what: format!("make the folder {}", path.display()),
            source,
        })
}

fn rename(from: &Path, to: &Path) -> Result<(), PrepareError> {
    std::fs::rename(from, to).map_err(|source| PrepareError::File {
        what: format!("put {} in its place", to.display()),
        source,
    })
}

fn program(program: &'static str, arguments: &[&str], file: &Path) -> Result<(), PrepareError> {
    let failed = |message: String| PrepareError::Program {
        program,
        file: file.display().to_string(),
        message,
    };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let tail = said
        .char_indices()
        .rev()
        .nth(500)
        .map_or(said, |(at, _)| &said[at..]);
    Err(failed(if tail.is_empty() {
        output.status.to_string()
    } else {
        tail.to_owned()
    }))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn text(path: &Path) -> Result<&str, PrepareError> {
    path.to_str()
        .ok_or_else(|| PrepareError::Path(path.display().to_string()))
}

fn relative(path: &str) -> Result<&Path, PrepareError> {
    let plain = !path.is_empty()
        && Path::new(path)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
    if plain {
        Ok(Path::new(path))
    } else {
        Err(PrepareError::Path(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_folders_are_put_into_meta_data() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "ssh-ed25519 BBBB b\n").unwrap();
        std::fs::write(dir.path().join("a"), "# mine\nssh-ed25519 AAAA a\n\n").unwrap();
        let source = SeedSource::MetaData {
            base: [("instance-id".to_owned(), "i-1".into())].into(),
            key_folders: vec![dir.path().display().to_string()],
            keys_at: "public-keys".into(),
        };
        let bytes = content(&source, &Places::default()).unwrap();
        let data: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(data["public-keys"]["0"], "ssh-ed25519 AAAA a");
        assert_eq!(data["public-keys"]["1"], "ssh-ed25519 BBBB b");
        assert_eq!(data["instance-id"], "i-1");
    }

    #[test]
    fn a_seed_path_cannot_leave_the_seed() {
        for path in ["../x", "/etc/x", "a/../../x", ""] {
            assert!(relative(path).is_err(), "{path}");
        }
        assert!(relative("openstack/latest/user_data").is_ok());
    }

    #[test]
    fn a_missing_key_is_named() {
        let source = SeedSource::FirstOf(vec![
            "/config/a/userdata".into(),
            "/config/a/userData".into(),
        ]);
        let error = content(&source, &Places::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/config/a/userdata, /config/a/userData"),
            "{error}"
        );
    }

    #[test]
    fn variables_that_are_there_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (template, path) = (dir.path().join("t"), dir.path().join("state/nvram.fd"));
        std::fs::write(&template, "new").unwrap();
        copy_missing(&template, &path).unwrap();
        std::fs::write(&path, "changed").unwrap();
        copy_missing(&template, &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "changed");
    }
}
