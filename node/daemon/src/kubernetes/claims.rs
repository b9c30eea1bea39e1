//! Disks of claims, made usable for uid 107 where the kubelet does not: a `disk.img` in a file system that it does not give to the pod's
//! group, a device node that belongs to root.
//!
//! Nothing that a guest wrote is read; files are found without following links.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use catamaran_images::ensure_raw;
use catamaran_plan::paths::{self, GID, UID};
use catamaran_plan::pod::{CLAIM_FILE, Look};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};

use crate::kubernetes::devices;
use crate::kubernetes::inside::{Inside, kind};
use crate::machine::error::StartError;

/// Makes one claim's disk usable, and corrects where it is looked for. `run` is the pod's run folder on the host.
///
/// # Errors
/// The disk can't be made or given away.
pub fn prepare(
    inside: &Inside,
    run: &Path,
    look: &mut Look,
    writable: bool,
) -> Result<(), StartError> {
    let failed = || StartError::io(format!("the disk of volume {}", look.volume));
    let handle = inside.open(&look.path).map_err(failed())?;
    match kind(&handle).map_err(failed())? {
        FileType::Directory if writable => file(&handle, look),
        FileType::BlockDevice => {
            let stat = fstat(&handle).map_err(|error| failed()(error.into()))?;
            if !usable(&stat, writable) {
                let name = format!("device-{}", look.volume);
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                open(run, flags, Mode::empty())
                    .map_err(Into::into)
                    .and_then(|run| devices::make(&run, &name, stat.st_rdev, writable))
                    .map_err(failed())?;
                look.path = format!("{}/{name}", paths::RUN);
            }
            Ok(())
        }
        // Read-only: what is there is there, and the launcher says what is wrong with it.
        _ => Ok(()),
    }
}

fn file(folder: &OwnedFd, look: &Look) -> Result<(), StartError> {
    let failed = |source| StartError::Disk {
        volume: look.volume.clone(),
        source,
    };
    let Some(size) = look.make else {
        return Ok(());
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let disk = ensure_raw(&path, CLAIM_FILE, size, (UID, GID)).map_err(failed)?;
    if disk.check_access(UID, GID, true).is_err() {
        std::os::unix::fs::chown(disk.proc_path(), Some(UID), Some(GID)).map_err(
            StartError::io(format!("the disk of volume {}", look.volume)),
        )?;
    }
    Ok(())
}

/// Whether uid 107 may open it.
fn usable(stat: &Stat, writable: bool) -> bool {
    let needed = if writable { 0o6 } else { 0o4 };
    let shift = match () {
        () if stat.st_uid == UID => 6,
        () if stat.st_gid == GID => 3,
        () => 0,
    };
    (stat.st_mode >> shift) & needed == needed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use catamaran_plan::pod::LookKind;

    use super::*;

    fn look() -> Look {
        Look {
            volume: "data".into(),
            path: "/disks/data".into(),
            kind: LookKind::Claim,
            make: Some(1 << 20),
        }
    }

    fn handle(folder: &Path) -> OwnedFd {
        open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_disk_is_made_once_and_given_to_the_guest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CLAIM_FILE);
        std::fs::write(&path, vec![1; 8192]).unwrap();
        file(&handle(dir.path()), &look()).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.len()), (UID, 8192));
        std::fs::remove_file(&path).unwrap();
        file(&handle(dir.path()), &look()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_link_in_the_disks_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join(CLAIM_FILE)).unwrap();
        assert!(file(&handle(dir.path()), &look()).is_err());
    }
}
