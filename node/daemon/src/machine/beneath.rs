//! Files in folders that a sandbox owns: a link that a compromised launcher put there leads nowhere.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// Opens `name` in `folder` without following links and without blocking, and makes sure that it is of the kind.
///
/// # Errors
/// When it is not there, or something else than what it should be.
pub fn open(folder: &Path, name: &str, flags: OFlags, kind: FileType) -> io::Result<OwnedFd> {
    let folder = rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let file = openat2(
        &folder,
        name,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?;
    let found = FileType::from_raw_mode(fstat(&file)?.st_mode);
    if found != kind {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} is a {found:?}, not a {kind:?}"),
        ));
    }
    Ok(file)
}

/// Opens a regular file for reading.
///
/// # Errors
/// As [`open`].
pub fn read(folder: &Path, name: &str) -> io::Result<std::fs::File> {
    // A pipe in the file's place must not make the daemon wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    Ok(open(folder, name, flags, FileType::RegularFile)?.into())
}

/// The beginning of a text file, at most so many bytes.
///
/// # Errors
/// As [`open`].
pub fn text(folder: &Path, name: &str, longest: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    read(folder, name)?.take(longest).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_files_of_the_folder_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(read(folder.path(), "file").is_ok());
        assert!(read(folder.path(), "link").is_err());
        assert!(read(folder.path(), "../passwd").is_err());
        let error = read(folder.path(), "folder").unwrap_err();
        assert!(error.to_string().contains("is a Directory"), "{error}");
    }
}
