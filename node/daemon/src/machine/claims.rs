//! Who has which writable disk. Never start two machines on one.
//!
//! A disk is taken before a machine is planned and given back by the proof that the machine is dead. QEMU's own image locks are the
//! second line; this is the one with a message.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::machine::cgroup::Dead;
use crate::serve::store::Key;

/// All disks that are taken.
#[derive(Debug, Default)]
pub struct Claims {
    taken: Mutex<BTreeMap<PathBuf, Key>>,
}

/// The disk belongs to another machine.
#[derive(Debug, thiserror::Error)]
#[error("disk {path} is in use by {owner}; only one machine at a time may write to it")]
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
    /// When another machine has it.
    pub fn take(&self, path: &Path, machine: &Key) -> Result<(), InUse> {
        // One disk has one name here, whatever links lead to it.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut taken = self.lock();
        match taken.get(&path) {
            Some(owner) if owner != machine => Err(InUse {
                path,
                owner: owner.clone(),
            }),
            _ => {
                taken.insert(path, machine.clone());
                Ok(())
            }
        }
    }

    /// Gives back everything that a dead machine had.
    pub fn release(&self, machine: &Key, _proof: &Dead) {
        self.lock().retain(|_, owner| owner != machine);
    }

    /// Who has the disk.
    #[must_use]
    pub fn owner(&self, path: &Path) -> Option<Key> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        self.lock().get(&path).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, Key>> {
        self.taken
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
