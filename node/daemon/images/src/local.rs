//! Disk files that are already on the host, or are made there: volumes of claims and host disks.
//!
//! A guest may have written any bytes into them, so their format is always raw and they are never inspected. Their folder may have been written
//! by others, too: a file is opened through its folder's descriptor, without following any link, first as a mere handle (`O_PATH`), so that a
//! FIFO does not block and a device does nothing, and is used through that descriptor from then on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};

use crate::error::{ImageError, Result};

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A regular file that was found without following links. It stays the same file whatever happens to its path.
#[derive(Debug)]
pub struct DiskFile {
    /// For messages; to use the file, go through [`DiskFile::proc_path`] or the descriptor.
    pub path: PathBuf,
    /// Size of the file and of the raw disk, bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of its file system; with `inode` it tells one file from all others.
    pub device: u64,
    /// Number in its file system.
    pub inode: u64,
    handle: OwnedFd,
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl DiskFile {
    /// `/proc/self/fd/N`: source of a bind mount made by this process while `self` lives.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// The disk with at least `size` bytes, rounded up as by [`create_raw`]: what is missing is added as a hole; it never shrinks.
    ///
    /// # Errors
    /// [`ImageError::Io`] when this process may not write it or the file system has no such files.
    pub fn grown(mut self, size: u64) -> Result<Self> {
        let wanted = size.checked_next_multiple_of(4096).unwrap_or(size);
        if wanted > self.size {
            let grow = || {
                let file = File::options().write(true).open(self.proc_path())?;
                // Somebody may have been faster.
                if file.metadata()?.len() < wanted {
                    file.set_len(wanted)?;
                    file.sync_all()?;
                }
                file.metadata()
            };
            self.size = grow().map_err(ImageError::io("grow", &self.path))?.len();
        }
        Ok(self)
    }

    /// Checks that QEMU's user can use the file.
    ///
    /// # Errors
    /// [`ImageError::LocalDisk`] that names the mode and the owner.
    pub fn check_access(&self, uid: u32, gid: u32, writable: bool) -> Result<()> {
        let needed = if writable { 0o6 } else { 0o4 };
        let shift = match () {
            () if self.uid == uid => 6,
            () if self.gid == gid => 3,
            () => 0,
        };
        if (self.mode >> shift) & needed == needed {
            return Ok(());
        }
        Err(refused(
            &self.path,
            format!(
                "user {uid} (group {gid}) cannot {} it: its mode is {:04o}, its owner {}:{}",
                if writable { "write" } else { "read" },
                self.mode,
                self.uid,
                self.gid
            ),
        ))
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::LocalDisk {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn open_folder(folder: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| ImageError::io("open", folder)(error.into()))
}

fn plain_name<'n>(folder: &Path, name: &'n str) -> Result<&'n str> {
    let plain = !name.is_empty()
        && name != "."
        && name != ".."
        && name.len() <= 255
        && !name.contains(['/', '\0']);
    if plain {
        Ok(name)
    } else {
        let shown: String = name.chars().take(100).collect();
        Err(refused(
            folder,
            format!("{shown:?} is not a plain file name"),
        ))
    }
}

/// Opens the disk `name` in `folder`.
///
/// # Errors
/// [`ImageError::LocalDisk`] when it is missing, a link, a folder, a FIFO, a socket or a device, has a second name, or is empty.
pub fn open_disk(folder: &Path, name: &str) -> Result<DiskFile> {
    let name = plain_name(folder, name)?;
    let path = folder.join(name);
    match look(&open_folder(folder)?, name, &path)? {
        Some(found) => Ok(found),
        None => Err(refused(&path, "there is no such file")),
    }
}

fn look(folder: &OwnedFd, name: &str, path: &Path) -> Result<Option<DiskFile>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat2(folder, name, flags, Mode::empty(), RESOLVE) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(refused(
                path,
                "it is a symbolic link; only a regular file can be used",
            ));
        }
        Err(error) => return Err(ImageError::io("open", path)(error.into())),
    };
    let stat = rustix::fs::fstat(&handle)
        .map_err(|error| ImageError::io("look at", path)(error.into()))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some("a symbolic link"),
        FileType::Directory => Some("a folder"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::BlockDevice | FileType::CharacterDevice => Some("a device"),
        FileType::Unknown => Some("of unknown type"),
    };
    if let Some(kind) = kind {
        return Err(refused(
            path,
            format!("it is {kind}; only a regular file can be used"),
        ));
    }
    if stat.st_nlink > 1 {
        return Err(refused(
            path,
            format!(
                "it has {} names (hard links); only one is allowed",
                stat.st_nlink
            ),
        ));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        return Err(refused(path, "it is empty"));
    }
    Ok(Some(DiskFile {
        path: path.to_owned(),
        size,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: stat.st_dev,
        inode: stat.st_ino,
        handle,
    }))
}

/// Makes the raw disk `name` in `folder`, which must not be there: sparse, `size` bytes (rounded up to 4 KiB), mode 0600, owned by `owner`
/// (user, group) where this process is root.
///
/// # Errors
/// [`ImageError::LocalDisk`] when there is something of that name already, [`ImageError::NoSpace`] and [`ImageError::Io`].
pub fn create_raw(folder: &Path, name: &str, size: u64, owner: (u32, u32)) -> Result<DiskFile> {
    let name = plain_name(folder, name)?;
    let path = folder.join(name);
    let handle = open_folder(folder)?;
    if size == 0 || size > i64::MAX as u64 - 4096 {
        return Err(refused(
            &path,
            format!(
                "its size would be {size} bytes; allowed are 1 to {}",
                i64::MAX - 4096
            ),
        ));
    }
    // A temporary name first: a crash must not leave a disk of the wrong size.
    let temporary = format!(".{}.new", &name[..name.floor_char_boundary(200)]);
    let failed = |action| {
        let path = path.clone();
        move |error: rustix::io::Errno| ImageError::io(action, path)(error.into())
    };
    match rustix::fs::unlinkat(&handle, temporary.as_str(), AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed("remove the rest of")(error)),
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat2(&handle, temporary.as_str(), flags, mode, RESOLVE)
        .map_err(failed("create"))?;
    let made = (|| {
        rustix::fs::ftruncate(&file, size.next_multiple_of(4096))
            .map_err(failed("set the size of"))?;
        if rustix::process::geteuid().is_root() {
            let owner = (Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)));
            rustix::fs::fchown(&file, owner.0, owner.1).map_err(failed("set the owner of"))?;
        }
        rustix::fs::fsync(&file).map_err(failed("write"))?;
        let renamed = rustix::fs::renameat_with(
            &handle,
            temporary.as_str(),
            &handle,
            name,
            RenameFlags::NOREPLACE,
        );
        renamed.map_err(|error| match error {
            rustix::io::Errno::EXIST => refused(&path, "there is already something of that name"),
            error => failed("rename")(error),
        })
    })();
    if let Err(error) = made {
        // The first error is the one to tell.
        let _ = rustix::fs::unlinkat(&handle, temporary.as_str(), AtFlags::empty());
        return Err(error);
    }
    super::store::sync_folder(folder)?;
    look(&handle, name, &path)?
        .ok_or_else(|| ImageError::io("find", &path)(io::ErrorKind::NotFound.into()))
}

/// Opens the disk `name` in `folder`, or makes it as [`create_raw`] does; an existing one keeps its size.
///
/// # Errors
/// As [`open_disk`] and [`create_raw`].
pub fn ensure_raw(folder: &Path, name: &str, size: u64, owner: (u32, u32)) -> Result<DiskFile> {
    let name = plain_name(folder, name)?;
    match look(&open_folder(folder)?, name, &folder.join(name))? {
        Some(found) => Ok(found),
        None => create_raw(folder, name, size, owner),
    }
}
