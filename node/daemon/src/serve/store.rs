//! The object store: the state folder of `play` is what an API server is on Kubernetes.
//!
//! Objects are JSON files, written atomically, mirrored in memory. Manifest files are *applied*: each object remembers the digest of
//! what was applied last, and a file acts again only when its content changes; verbs edit stored objects. Readers get copies; whoever wants to know of
//! changes subscribes to a counter and looks again (level-triggered).
//!
//! On a full disk nothing is accepted, but statuses go on in memory: they tell of the world, and that a machine stands still for want of space is
//! what somebody needs to see then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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

/// Kinds that can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// `v1` Pod.
    Pod,
    /// `kubevirt.io/v1` VirtualMachine.
    VirtualMachine,
    /// `kubevirt.io/v1` VirtualMachineInstance.
    VirtualMachineInstance,
}

impl Kind {
    /// All kinds, in the order in which they are applied.
    pub const ALL: [Self; 6] = [
        Self::ConfigMap,
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::Pod,
        Self::VirtualMachine,
        Self::VirtualMachineInstance,
    ];

    /// Kubernetes' word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Pod => "Pod",
            Self::VirtualMachine => "VirtualMachine",
            Self::VirtualMachineInstance => "VirtualMachineInstance",
        }
    }

    /// What people type: kind, plural or short name, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "cm" | "configmap" | "configmaps" => Self::ConfigMap,
            "secret" | "secrets" => Self::Secret,
            "pvc" | "persistentvolumeclaim" | "persistentvolumeclaims" => {
                Self::PersistentVolumeClaim
            }
            "po" | "pod" | "pods" => Self::Pod,
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Self::VirtualMachine,
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => {
                Self::VirtualMachineInstance
            }
            _ => return None,
        })
    }
}

/// Name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The same name with another kind.
    #[must_use]
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self {
            kind,
            ..self.clone()
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

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

    /// Applies a manifest's object: new content replaces the old one, status and identity stay.
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
        let outcome = match objects.get(key) {
            Some(old) if old.deleting() => return Err(StoreError::Deleting(key.clone())),
            Some(old)
                if old.applied.as_deref() == Some(&digest) && old.source.as_deref() == source =>
            {
                return Ok(Applied::Unchanged);
            }
            Some(old) if old.applied.as_deref() == Some(&digest) => {
                carry_over(&old.object, &mut object, 0);
                Applied::Unchanged
            }
            Some(old) => {
                carry_over(&old.object, &mut object, 1);
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
            source: source.map(Path::to_owned),
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

/// uid of an object under `play`: a function of its name, so that a machine that is built again from its manifests keeps its identity.
#[must_use]
pub fn uid(key: &Key) -> uuid::Uuid {
    const NAMESPACE: uuid::Uuid = uuid::Uuid::from_u128(0x0f1d_7cf5_98cf_4c27_9a6c_6b6c_0c8a_51a2);
    uuid::Uuid::new_v5(
        &NAMESPACE,
        format!("{}/{}/{}", key.kind.as_str(), key.namespace, key.name).as_bytes(),
    )
}

/// Digest of a manifest's object, hex. Maps of `serde_json` are sorted, so that the order of keys does not matter.
#[must_use]
pub fn digest(object: &Value) -> String {
    hex::encode(Sha256::digest(object.to_string()))
}

/// What a newly applied object keeps of the stored one.
fn carry_over(old: &Value, new: &mut Value, generations: u64) {
    for field in ["uid", "creationTimestamp"] {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    new["metadata"]["generation"] =
        (old["metadata"]["generation"].as_u64().unwrap_or(0) + generations).into();
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
mod tests {
    use super::*;
    use serde_json::json;

    fn object(cpu: u32) -> Value {
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "default"}, "spec": {"cpu": cpu}})
    }

    fn key() -> Key {
        Key::new(Kind::VirtualMachine, "default", "a")
    }

    #[test]
    fn same_content_acts_once_and_verbs_survive_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(
            store.apply(&key(), object(1), None, "now").unwrap(),
            Applied::Created
        );
        store
            .edit(&key(), |o| o["spec"]["runStrategy"] = "Halted".into())
            .unwrap();
        assert_eq!(
            store.apply(&key(), object(1), None, "later").unwrap(),
            Applied::Unchanged
        );
        assert_eq!(
            store.get(&key()).unwrap().object["spec"]["runStrategy"],
            "Halted"
        );
        assert_eq!(
            store.apply(&key(), object(2), None, "later").unwrap(),
            Applied::Configured
        );
        let stored = store.get(&key()).unwrap();
        assert_eq!(stored.object["metadata"]["generation"], 2);
        assert_eq!(stored.object["metadata"]["creationTimestamp"], "now");
    }

    #[test]
    fn objects_are_there_after_a_restart_and_cut_off_writes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.apply(&key(), object(1), None, "now").unwrap();
        fs::write(folder.path().join("VirtualMachine/default/b.json.new"), "{").unwrap();
        let again = Store::open(folder.path()).unwrap();
        assert_eq!(
            again.list(Kind::VirtualMachine),
            store.list(Kind::VirtualMachine)
        );
    }

    #[test]
    fn status_of_a_manifest_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut with_status = object(1);
        with_status["status"] = json!({"ready": true});
        store.apply(&key(), with_status, None, "now").unwrap();
        assert!(store.get(&key()).unwrap().object.get("status").is_none());
    }

    /// A file system of its own, full but for what it takes to make a folder. `None` without root.
    fn full_disk() -> Option<(tempfile::TempDir, PathBuf)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::create_dir(&path).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &path, "tmpfs", flags, Some(c"size=64k")).ok()?;
        Some((folder, path))
    }

    #[test]
    fn a_status_is_seen_though_the_disk_is_full_and_written_when_it_no_longer_is() {
        let Some((_folder, disk)) = full_disk() else {
            eprintln!("skipped: needs root");
            return;
        };
        let store = Store::open(&disk).unwrap();
        store.apply(&key(), object(1), None, "now").unwrap();
        let filler = disk.join("filler");
        assert!(fs::write(&filler, vec![0; 1 << 20]).is_err());

        let told = store.edit(&key(), |o| o["status"] = json!({"phase": "Running"}));
        assert!(told.unwrap());
        let seen = store.get(&key()).unwrap();
        assert_eq!(seen.object["status"]["phase"], "Running");
        let asked = store.edit(&key(), |o| o["spec"]["runStrategy"] = "Halted".into());
        assert!(asked.unwrap_err().is_full());
        assert_eq!(store.get(&key()).unwrap(), seen);

        fs::remove_file(filler).unwrap();
        store.write_again();
        assert_eq!(Store::open(&disk).unwrap().get(&key()).unwrap(), seen);
        assert!(store.unwritten.borrow().is_empty());
        rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    }

    #[test]
    fn object_on_its_way_out_is_not_applied() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.apply(&key(), object(1), None, "now").unwrap();
        store.mark_deleted(&key(), "now").unwrap();
        assert!(matches!(
            store.apply(&key(), object(2), None, "now"),
            Err(StoreError::Deleting(_))
        ));
    }
}
