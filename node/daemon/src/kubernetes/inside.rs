//! A pod from inside: its network namespace, its mounts and its root folder, by way of its launcher's process.
//!
//! A process id alone names nobody for long. The handles are taken while a pidfd says that the process lives, and the root must show the very
//! run folder that the launcher was reached in: so they are that pod's and nobody else's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2, stat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use catamaran_plan::paths;

/// Handles of a pod.
#[derive(Debug)]
pub struct Inside {
    pid: i32,
    process: OwnedFd,
    netns: File,
    mounts: File,
    root: OwnedFd,
}

impl Inside {
    /// The pod of a launcher, or of who holds a claim, that was reached in that run folder.
    ///
    /// # Errors
    /// The process is gone, or is not in the pod of that folder.
    pub fn of_launcher(pid: i32, run: &Path) -> io::Result<Self> {
        let named = Pid::from_raw(pid).ok_or_else(|| gone(pid))?;
        let process = pidfd_open(named, PidfdFlags::empty())?;
        let netns = File::open(format!("/proc/{pid}/ns/net"))?;
        let mounts = File::open(format!("/proc/{pid}/ns/mnt"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let inside = Self {
            pid,
            process,
            netns,
            mounts,
            root,
        };
        let (seen, wanted) = (fstat(inside.open(paths::RUN)?)?, stat(run)?);
        if (seen.st_dev, seen.st_ino) != (wanted.st_dev, wanted.st_ino) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("process {pid} is not in the pod of {}", run.display()),
            ));
        }
        inside.process()?;
        Ok(inside)
    }

    /// The id of the process that it was reached by, which lives.
    ///
    /// # Errors
    /// It is gone.
    pub fn process(&self) -> io::Result<i32> {
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        if poll(&mut ended, Some(&Timespec::default()))? > 0 {
            return Err(gone(self.pid));
        }
        Ok(self.pid)
    }

    /// A path of the network namespace, for whoever enters it while this lives.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.netns.as_raw_fd()).into()
    }

    /// The mount namespace, for whoever enters it.
    #[must_use]
    pub fn mounts(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    /// A mere handle on something in the pod, found without following links.
    ///
    /// # Errors
    /// It is not there.
    pub fn open(&self, path: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let relative = path.trim_start_matches('/');
        Ok(openat2(
            &self.root,
            relative,
            flags,
            Mode::empty(),
            resolve,
        )?)
    }
}

fn gone(pid: i32) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("process {pid} is gone"))
}

/// What a handle is of.
///
/// # Errors
/// The system's.
pub fn kind(handle: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(handle)?.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_elsewhere_is_not_believed() {
        let own = i32::try_from(std::process::id()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // This process has no /vm, or not that one.
        assert!(Inside::of_launcher(own, folder.path()).is_err());
        assert!(Inside::of_launcher(i32::MAX, folder.path()).is_err());
    }
}
