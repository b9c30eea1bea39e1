//! Volumes brought from one pod into another while both run: file systems as mounts, devices as nodes.
//!
//! The mount is cloned where it is seen, in the mount namespace of its attachment pod, and attached in the one of the launcher: the host's own
//! mounts never change, and both ends are handles that were found without following links. A namespace is entered by a thread of its own that
//! ends with the work: a thread of the runtime must never change its namespace.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use catamaran_plan::paths;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::process::fchdir;

use crate::kubernetes::devices::{self, Allowed};
use crate::kubernetes::inside::{Inside, kind};

/// What is held in an attachment pod.
#[derive(Debug)]
pub enum Held {
    /// A file system.
    Folder(OwnedFd),
    /// A device, by its number.
    Device(u64),
}

/// The volume at a path of an attachment pod.
///
/// # Errors
/// It is not there, or something else.
pub fn held(attachment: &Inside, path: &str) -> io::Result<Held> {
    let handle = attachment.open(path)?;
    match kind(&handle)? {
        FileType::Directory => Ok(Held::Folder(handle)),
        FileType::BlockDevice => Ok(Held::Device(fstat(&handle)?.st_rdev)),
        other => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is a {other:?}, neither a folder nor a device"),
        )),
    }
}

/// Whether what an attachment pod holds is what is there in the launcher's pod.
///
/// # Errors
/// The system's.
pub fn is_brought(held: &Held, launcher: &Inside, volume: &str) -> io::Result<bool> {
    let there = launcher_place(launcher, volume);
    match held {
        Held::Folder(folder) => is_same(&there, folder),
        Held::Device(number) => match there {
            Ok(there) => Ok(device_at(&there)? == Some(*number)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Brings what an attachment pod holds into the launcher's pod, below [`paths::HOTPLUG`]. `run`: the launcher's run folder on the host; `writable`: whether
/// the guest may write to a device.
///
/// # Errors
/// The system's.
pub fn bring(
    attachment: &Inside,
    held: &Held,
    launcher: &Inside,
    (run, volume): (&Path, &str),
    writable: bool,
) -> io::Result<Allowed> {
    let allowed = match held {
        Held::Device(number) => devices::allow(launcher, *number, writable)?,
        Held::Folder(_) => Allowed::anyway(),
    };
    if is_brought(held, launcher, volume)? {
        return Ok(allowed);
    }
    // What an earlier attachment pod held is not this volume.
    leave(launcher, run, volume)?;
    let parent = make(&open(run, HANDLE, Mode::empty())?, FOLDER)?;
    let folder = match held {
        Held::Device(number) => {
            return devices::make(&parent, volume, *number, writable).map(|()| allowed);
        }
        Held::Folder(folder) => folder,
    };
    make(&parent, volume)?;
    let target = launcher.open(&path(volume))?;
    in_thread(|| {
        enter(attachment)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(folder, "", flags)?;
        enter(launcher)?;
        let both =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(&tree, "", &target, "", both)?)
    })?;
    Ok(allowed)
}

/// Takes a volume out of the launcher's pod; nothing is to be done when it is not there.
///
/// # Errors
/// The system's: somebody still uses it.
pub fn leave(launcher: &Inside, run: &Path, volume: &str) -> io::Result<()> {
    let run = open(run, HANDLE, Mode::empty())?;
    let Some(parent) = find(&run, FOLDER)? else {
        return Ok(());
    };
    if let Some(number) = find_device(&parent, volume)? {
        devices::deny(launcher, number)?;
        return Ok(unlinkat(&parent, volume, AtFlags::empty())?);
    }
    let Some(bare) = find(&parent, volume)? else {
        return Ok(());
    };
    // The host sees what is beneath a mount of the pod, the pod what is on top.
    while !is_same(&launcher_place(launcher, volume), &bare)? {
        let within = launcher.open(paths::HOTPLUG)?;
        in_thread(|| {
            enter(launcher)?;
            fchdir(&within)?;
            Ok(unmount(volume, UnmountFlags::NOFOLLOW)?)
        })?;
    }
    drop(bare);
    match unlinkat(&parent, volume, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Name of the folder [`paths::HOTPLUG`] in the run folder.
const FOLDER: &str = "hotplug";
/// A mere handle on a folder.
const HANDLE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn path(volume: &str) -> String {
    format!("{}/{volume}", paths::HOTPLUG)
}

fn launcher_place(launcher: &Inside, volume: &str) -> io::Result<OwnedFd> {
    launcher.open(&path(volume))
}

/// Whether two handles are of one folder; not, where the first is not there.
fn is_same(one: &io::Result<OwnedFd>, other: &OwnedFd) -> io::Result<bool> {
    let one = match one {
        Ok(one) => fstat(one)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
    };
    let other = fstat(other)?;
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The number of a device, if it is one.
fn device_at(handle: &OwnedFd) -> io::Result<Option<u64>> {
    let stat = fstat(handle)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
    Ok(device.then_some(stat.st_rdev))
}

/// A folder in another, which a sandbox may write to; `None` when there is none.
fn find(folder: &OwnedFd, name: &str) -> io::Result<Option<OwnedFd>> {
    look(folder, name, HANDLE)
}

/// The number of the device of that name; `None` when there is none, or something else.
fn find_device(folder: &OwnedFd, name: &str) -> io::Result<Option<u64>> {
    let found = look(folder, name, HANDLE.difference(OFlags::DIRECTORY))?;
    found.map_or(Ok(None), |found| device_at(&found))
}

fn look(folder: &OwnedFd, name: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(folder, name, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The same, made when there is none.
fn make(folder: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    find(folder, name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn in_thread(work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("mounts".to_owned());
        let started = thread.spawn_scoped(scope, || -> io::Result<()> {
            // A mount namespace is entered by who shares its root and working folder with nobody.
            unshare(CloneFlags::CLONE_FS)?;
            work()
        })?;
        let failed = |_| io::Error::other("the thread has failed");
        started.join().map_err(failed)?
    })
}

fn enter(pod: &Inside) -> io::Result<()> {
    Ok(setns(pod.mounts(), CloneFlags::CLONE_NEWNS)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(path: &Path) -> OwnedFd {
        open(path, HANDLE, Mode::empty()).unwrap()
    }

    #[test]
    fn folders_are_made_once_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let run = handle(dir.path());
        assert!(find(&run, FOLDER).unwrap().is_none());
        let first = make(&run, FOLDER).unwrap();
        assert!(is_same(&make(&run, FOLDER), &first).unwrap());
        std::os::unix::fs::symlink("/etc", dir.path().join("hotplug/data")).unwrap();
        assert!(find(&first, "data").is_err());
        assert!(make(&first, "data").is_err());
    }

    #[test]
    fn what_is_not_there_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Err(io::Error::from(io::ErrorKind::NotFound));
        assert!(!is_same(&missing, &handle(dir.path())).unwrap());
    }
}
