//! Who has which disk. Never start two machines on one.
//!
//! A disk is taken before a machine is planned and given back by the proof that the machine is dead. What was taken is in the record of the
//! run, from which a new daemon takes it again before any machine is looked at. QEMU's own image locks are the second line; this is the one
//! with a message.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use catamaran_images::DiskFile;
use catamaran_sandbox::FileId;
use serde::{Deserialize, Serialize};

use crate::machine::cgroup::Dead;
use crate::serve::store::Key;

/// What a machine does with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// It alone writes, and nobody else reads.
    Write,
    /// It reads, and others may read; nobody writes meanwhile.
    Read,
    /// It writes, as others do that share the disk on purpose.
    Together,
}

/// A disk that a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// Where the disk was found; for messages.
    pub path: PathBuf,
    /// Which file it is, whatever leads to it.
    pub file: FileId,
    /// What for.
    pub access: Access,
}

impl Hold {
    /// A hold on a checked disk.
    #[must_use]
    pub fn of(disk: &DiskFile, access: Access) -> Self {
        Self {
            path: disk.path.clone(),
            file: FileId {
                device: disk.device,
                inode: disk.inode,
            },
            access,
        }
    }

    /// A hold on what is at a path now; `None` = nothing.
    #[must_use]
    pub fn at(path: &Path, access: Access) -> Option<Self> {
        let file = file_id(path)?;
        Some(Self {
            path: path.to_owned(),
            file,
            access,
        })
    }

    fn goes_with(&self, other: &Self) -> bool {
        self.file != other.file || (self.access == other.access && self.access != Access::Write)
    }
}

/// All disks that are taken.
#[derive(Debug, Default)]
pub struct Claims {
    taken: Mutex<Vec<(Key, Hold)>>,
}

/// The disk belongs to another machine.
#[derive(Debug, thiserror::Error)]
#[error("disk {path} is in use by {owner}; several machines may read it, or one may write to it")]
pub struct InUse {
    /// The disk.
    pub path: PathBuf,
    /// Who has it.
    pub owner: Key,
}

impl Claims {
    /// Takes a disk; taking it again is fine.
    ///
    /// # Errors
    /// When another machine has it, unless both only read it or both share it.
    pub fn take(&self, hold: &Hold, machine: &Key) -> Result<(), InUse> {
        let mut taken = self.lock();
        let other = taken
            .iter()
            .find(|(owner, other)| owner != machine && !hold.goes_with(other));
        if let Some((owner, _)) = other {
            return Err(InUse {
                path: hold.path.clone(),
                owner: owner.clone(),
            });
        }
        let fresh = (machine.clone(), hold.clone());
        if !taken.contains(&fresh) {
            taken.push(fresh);
        }
        Ok(())
    }

    /// Gives back everything that a dead machine had.
    pub fn release(&self, machine: &Key, _proof: &Dead) {
        self.lock().retain(|(owner, _)| owner != machine);
    }

    /// What a machine has.
    #[must_use]
    pub fn of(&self, machine: &Key) -> Vec<Hold> {
        let taken = self.lock();
        let own = taken.iter().filter(|(owner, _)| owner == machine);
        own.map(|(_, hold)| hold.clone()).collect()
    }

    /// Who has the disk, or one of those who do.
    #[must_use]
    pub fn owner(&self, path: &Path) -> Option<Key> {
        let file = file_id(path)?;
        let taken = self.lock();
        let found = taken.iter().find(|(_, hold)| hold.file == file);
        found.map(|(owner, _)| owner.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Key, Hold)>> {
        self.taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = path.metadata().ok()?;
    Some(FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::store::Kind;

    fn machine(name: &str) -> Key {
        Key::new(Kind::VirtualMachineInstance, "default", name)
    }

    fn hold(access: Access) -> Hold {
        Hold {
            path: "/disk".into(),
            file: FileId {
                device: 1,
                inode: 2,
            },
            access,
        }
    }

    #[test]
    fn one_machine_writes_or_several_read() {
        use Access::{Read, Together, Write};
        for (first, second, fits) in [
            (Write, Write, false),
            (Write, Read, false),
            (Read, Write, false),
            (Read, Read, true),
            (Together, Together, true),
            (Together, Write, false),
            (Together, Read, false),
        ] {
            let claims = Claims::default();
            claims.take(&hold(first), &machine("a")).unwrap();
            claims.take(&hold(first), &machine("a")).unwrap();
            let taken = claims.take(&hold(second), &machine("b"));
            assert_eq!(taken.is_ok(), fits, "{first:?} and {second:?}");
            assert_eq!(claims.of(&machine("b")).len(), usize::from(fits));
        }
    }

    #[test]
    fn a_base_that_is_only_read_has_an_owner_until_its_machine_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, "x").unwrap();
        let claims = Claims::default();
        let base = Hold::at(&path, Access::Read).unwrap();
        claims.take(&base, &machine("overlay")).unwrap();
        assert_eq!(claims.owner(&path), Some(machine("overlay")));
        let other = folder.path().join("other name");
        std::os::unix::fs::symlink(&path, &other).unwrap();
        let writer = Hold::at(&other, Access::Write).unwrap();
        let refused = claims.take(&writer, &machine("writer")).unwrap_err();
        assert_eq!(refused.owner, machine("overlay"));
    }
}
