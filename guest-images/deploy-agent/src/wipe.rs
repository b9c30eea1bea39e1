//! Cleaning of metadata: after it no disk is found to have anything on it. Data between stays, as on every disk that is formatted.

use std::path::Path;

use crate::disk::{self, DiskError};
use crate::image::DiskTarget;
use crate::program;

/// Wipes the signatures of a disk and of its partitions, then both ends of it.
///
/// Partitions are wiped first: a RAID or a volume group lies in them, and would be found again behind the same partition table.
///
/// # Errors
/// Something can't be wiped, or is still there afterwards.
pub fn metadata(device: &str) -> Result<(), DiskError> {
    for partition in disk::partitions(Path::new("/sys"), device) {
        program::run("wipefs", &["--all", "--force", "--quiet", &partition], "")?;
    }
    signatures(device)?;
    let io = |source| DiskError::Io {
        device: device.to_owned(),
        source,
    };
    let mut target = DiskTarget::open(Path::new(device)).map_err(io)?;
    target.wipe_ends().map_err(io)?;
    drop(target);
    disk::reread(device);
    Ok(())
}

fn signatures(device: &str) -> Result<(), DiskError> {
    program::run("wipefs", &["--all", "--force", "--quiet", device], "")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::disk;

    #[test]
    fn nothing_is_found_on_a_wiped_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut bytes = vec![0; 4 << 20];
        bytes[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        // What wipefs does not know, at the very end.
        let end = bytes.len() - 5;
        bytes[end..].copy_from_slice(b"thing");
        std::fs::write(&path, bytes).unwrap();
        let name = path.to_str().unwrap();
        super::metadata(name).unwrap();
        assert!(disk::contents(name).unwrap().is_empty());
        assert_eq!(&std::fs::read(&path).unwrap()[end..], [0; 5]);
    }
}
