//! The object store: the state folder of `play` is what an API server is on Kubernetes.
//!
//! Objects are JSON files, written atomically, mirrored in memory. Manifest files are *applied*: each object remembers the digest of
//! what was applied last, and a file acts again only when its content changes; verbs edit stored objects. Readers get copies; whoever wants to know of
//! changes subscribes to a counter and looks again (level-triggered).
//!
//! On a full disk nothing is accepted, but statuses go on in memory: they tell of the world, and that a machine stands still for want of space is
//! what somebody needs to see then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::serve::layout::write_atomically;

mod key;

pub use key::{Key, Kind, uid};

/// An object with what the store knows about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The object: `apiVersion`, `kind`, `metadata`, `spec`, `status`.
    pub object: Value,
    /// Digest of what was applied last; `None` for objects that the daemon made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// Watched file that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
}

impl Stored {
    /// Whether deletion was asked for.
    #[must_use]
    pub fn deleting(&self) -> bool {
        self.object.pointer("/metadata/deletionTimestamp").is_some()
    }

    /// The object as a typed one.
    ///
    /// # Errors
    /// When it does not have the shape of a `T`.
    pub fn typed<T: serde::de::DeserializeOwned>(&self) -> serde_json::Result<T> {
        T::deserialize(&self.object)
    }
}

/// What applying did to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    /// It is new.
    Created,
    /// It was there, with other content.
    Configured,
    /// It was applied before with the same content.
    Unchanged,
}

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A stored file is not an object.
    #[error("{path} is not a stored object; move it away to start without it")]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// No such object.
    #[error("{0} not found")]
    NotFound(Key),
    /// The object is on its way out.
    #[error("{0} is being deleted; apply it again when it is gone")]
    Deleting(Key),
    /// A watched file would bring it back.
    #[error("{key} comes from {file}, which is watched: remove it there", file = file.display())]
    Watched {
        /// Which.
        key: Key,
        /// The file.
        file: PathBuf,
    },
    /// A claim asks for less than its disk has.
    #[error(
        "{key}: spec.resources.requests.storage: Forbidden: {asked} bytes are less than the {has} that its disk has; it can grow, not shrink"
    )]
    Smaller {
        /// Which.
        key: Key,
        /// Bytes asked for.
        asked: u64,
        /// Bytes of the disk.
        has: u64,
    },
    /// Somebody runs on it.
    #[error("{key} is in use by {owner}; stop that first")]
    InUse {
        /// Which.
        key: Key,
        /// By whom.
        owner: Key,
    },
}

impl StoreError {
    fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// How long after a full disk the statuses that were not written are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The object store.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    objects: Mutex<BTreeMap<Key, Stored>>,
    version: watch::Sender<u64>,
    /// Objects whose status in memory is newer than their file. Changed only while `objects` is held.
    unwritten: watch::Sender<BTreeSet<Key>>,
}

impl Store {
    /// Reads all objects below the folder.
    ///
    /// # Errors
    /// When a file can't be read or is not an object.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let mut objects = BTreeMap::new();
        for kind in Kind::ALL {
            for path in
                files_below(&folder.join(kind.as_str())).map_err(|source| StoreError::Io {
                    path: folder.to_owned(),
                    source,
                })?
            {
                if path.extension().is_none_or(|e| e != "json") {
                    // A write that was cut off.
                    let _ = fs::remove_file(&path);
                    continue;
                }
                let bytes = fs::read(&path).map_err(|source| StoreError::Io {
                    path: path.clone(),
                    source,
                })?;
                let stored: Stored =
                    serde_json::from_slice(&bytes).map_err(|source| StoreError::Broken {
                        path: path.clone(),
                        source,
                    })?;
                if stored.deleting() && !kind.runs() {
                    // Nobody else finishes its deletion, which a full disk or an older version left undone.
                    let _ = fs::remove_file(&path);
                    continue;
                }
                if let Some(key) = key_of(&stored.object, kind) {
                    objects.insert(key, stored);
                }
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            objects: Mutex::new(objects),
            version: watch::Sender::new(0),
            unwritten: watch::Sender::new(BTreeSet::new()),
        })
    }

    /// A counter that grows with each change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// A copy of the object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Stored> {
        self.lock().get(key).cloned()
    }

    /// Copies of all objects of that kind, sorted by namespace and name.
    #[must_use]
    pub fn list(&self, kind: Kind) -> Vec<(Key, Stored)> {
        self.lock()
            .iter()
            .filter(|(key, _)| key.kind == kind)
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect()
    }

    /// Applies a manifest's object: new content replaces the old one, status and identity stay. The same content from another watched file changes the
    /// file only that the object belongs to; without a file it stays with the one that it has.
    ///
    /// # Errors
    /// When the object is being deleted or can't be written.
    pub fn apply(
        &self,
        key: &Key,
        mut object: Value,
        source: Option<&Path>,
        now: &str,
    ) -> Result<Applied, StoreError> {
        let digest = digest(&object);
        let mut objects = self.lock();
        let mut home = source.map(Path::to_owned);
        let outcome = match objects.get(key) {
            Some(old) if old.deleting() => return Err(StoreError::Deleting(key.clone())),
            Some(old) if old.applied.as_deref() == Some(&digest) => {
                if source.is_none() || old.source.as_deref() == source {
                    return Ok(Applied::Unchanged);
                }
                // What verbs did to it holds; another file is its home from now on.
                let moved = Stored {
                    source: source.map(Path::to_owned),
                    ..old.clone()
                };
                self.write(key, &moved)?;
                objects.insert(key.clone(), moved);
                return Ok(Applied::Unchanged);
            }
            Some(old) => {
                carry_over(&old.object, &mut object);
                home = home.or_else(|| old.source.clone());
                Applied::Configured
            }
            None => {
                let metadata = &mut object["metadata"];
                metadata["uid"] = uid(key).to_string().into();
                metadata["generation"] = 1.into();
                metadata["creationTimestamp"] = now.into();
                if let Some(map) = object.as_object_mut() {
                    map.remove("status");
                }
                Applied::Created
            }
        };
        let stored = Stored {
            object,
            applied: Some(digest),
            source: home,
        };
        self.write(key, &stored)?;
        objects.insert(key.clone(), stored);
        drop(objects);
        self.changed();
        Ok(outcome)
    }

    /// Puts an object that the daemon itself made.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn put(&self, key: &Key, object: Value) -> Result<(), StoreError> {
        let mut objects = self.lock();
        let stored = Stored {
            object,
            applied: None,
            source: None,
        };
        self.write(key, &stored)?;
        objects.insert(key.clone(), stored);
        drop(objects);
        self.changed();
        Ok(())
    }

    /// Edits an object; nothing is written when the edit changes nothing. Returns whether it changed.
    ///
    /// # Errors
    /// When there is no such object or it can't be written. A status that finds the disk full is no error: it is written when there is space.
    pub fn edit(&self, key: &Key, edit: impl FnOnce(&mut Value)) -> Result<bool, StoreError> {
        let mut objects = self.lock();
        let mut stored = objects
            .get(key)
            .cloned()
            .ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let before = stored.object.clone();
        edit(&mut stored.object);
        if stored.object == before {
            return Ok(false);
        }
        match self.write(key, &stored) {
            Err(error) if error.is_full() && differ_in_status_only(&before, &stored.object) => {
                tracing::debug!(%key, "its status is kept in memory: no space left");
                self.unwritten.send_modify(|keys| {
                    keys.insert(key.clone());
                });
            }
            written => written?,
        }
        objects.insert(key.clone(), stored);
        drop(objects);
        self.changed();
        Ok(true)
    }

    /// Asks for deletion: whoever runs the object tears it down and then removes it.
    ///
    /// # Errors
    /// When there is no such object or it can't be written.
    pub fn mark_deleted(&self, key: &Key, now: &str) -> Result<(), StoreError> {
        self.edit(key, |object| {
            if object.pointer("/metadata/deletionTimestamp").is_none() {
                object["metadata"]["deletionTimestamp"] = now.into();
            }
        })?;
        Ok(())
    }

    /// Removes an object; none is fine.
    ///
    /// # Errors
    /// When its file can't be removed.
    pub fn remove(&self, key: &Key) -> Result<(), StoreError> {
        let mut objects = self.lock();
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path, source });
            }
            _ => {}
        }
        let removed = objects.remove(key).is_some();
        drop(objects);
        if removed {
            self.changed();
        }
        Ok(())
    }

    /// Writes statuses that found the disk full, as soon as there is space. Never ends.
    pub async fn write_when_possible(&self) {
        let mut unwritten = self.unwritten.subscribe();
        while unwritten.wait_for(|keys| !keys.is_empty()).await.is_ok() {
            tokio::time::sleep(RETRY).await;
            self.write_again();
        }
    }

    fn write_again(&self) {
        let objects = self.lock();
        let keys = self.unwritten.borrow().clone();
        for key in keys {
            // What is removed meanwhile has no file to be behind.
            match objects.get(&key) {
                Some(stored) => {
                    let _ = self.write(&key, stored);
                }
                None => self.written(&key),
            }
        }
    }

    fn written(&self, key: &Key) {
        self.unwritten.send_if_modified(|keys| keys.remove(key));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Stored>> {
        // A panic while holding the lock leaves the map as it was: files and memory change together at the end.
        self.objects
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder
            .join(key.kind.as_str())
            .join(&key.namespace)
            .join(format!("{}.json", key.name))
    }

    fn write(&self, key: &Key, stored: &Stored) -> Result<(), StoreError> {
        let path = self.path(key);
        let bytes = serde_json::to_vec_pretty(stored).map_err(|source| StoreError::Broken {
            path: path.clone(),
            source,
        })?;
        write_atomically(&path, &bytes).map_err(|source| StoreError::Io { path, source })?;
        self.written(key);
        Ok(())
    }
}

/// Digest of a manifest's object, hex. Maps of `serde_json` are sorted, so that the order of keys does not matter.
#[must_use]
pub fn digest(object: &Value) -> String {
    hex::encode(Sha256::digest(object.to_string()))
}

/// What a newly applied object keeps of the stored one.
fn carry_over(old: &Value, new: &mut Value) {
    for field in ["uid", "creationTimestamp"] {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    new["metadata"]["generation"] =
        (old["metadata"]["generation"].as_u64().unwrap_or(0) + 1).into();
    if let Some(map) = new.as_object_mut() {
        match old.get("status") {
            Some(status) => map.insert("status".to_owned(), status.clone()),
            None => map.remove("status"),
        };
    }
}

fn differ_in_status_only(one: &Value, other: &Value) -> bool {
    let (mut one, mut other) = (one.clone(), other.clone());
    for object in [&mut one, &mut other] {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
    }
    one == other
}

fn key_of(object: &Value, kind: Kind) -> Option<Key> {
    Some(Key::new(
        kind,
        object.pointer("/metadata/namespace")?.as_str()?,
        object.pointer("/metadata/name")?.as_str()?,
    ))
}

/// Files two levels below: namespace and name.
fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let namespaces = match fs::read_dir(folder) {
        Ok(namespaces) => namespaces,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        Err(error) => return Err(error),
    };
    for namespace in namespaces {
        for file in fs::read_dir(namespace?.path())? {
            files.push(file?.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
