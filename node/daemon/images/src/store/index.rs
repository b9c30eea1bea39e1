//! What the cache knows: one JSON file, replaced atomically, read once at open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::format::Inspection;
use crate::layers::{LayerFindings, Wanted};

/// Format of the file; another one is put aside.
const VERSION: u32 = 1;
/// How stale `last_used` may get before the file is written only because of it, seconds.
const TOUCH: u64 = 60;

/// Everything that is remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    /// Reference → manifest digest.
    references: BTreeMap<String, Digest>,
    /// Manifest digest and wanted file → cached file.
    images: BTreeMap<String, String>,
    /// Layer digest and wanted file → what the worker found in the layer when nothing above hid any of it.
    scans: BTreeMap<String, Scan>,
    /// Files below `disks/`, by id.
    files: BTreeMap<String, StoredFile>,
}

/// Result of looking through a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Scan {
    pub(super) findings: LayerFindings,
    /// The first wanted file of the layer, which is in the cache.
    pub(super) file: Option<String>,
}

/// A file in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredFile {
    pub(super) id: String,
    pub(super) layer: Digest,
    /// Path in the image, with leading slash.
    pub(super) path: String,
    pub(super) sha256: Digest,
    pub(super) size: u64,
    /// Of disks; kernels are not inspected.
    pub(super) inspection: Option<Inspection>,
    /// Seconds since 1970.
    pub(super) last_used: u64,
}

/// Name of a file in the cache: made of verified things only.
pub(super) fn file_id(layer: &Digest, path: &str, inspected: bool) -> String {
    let mut hasher = Sha256::new();
    let kind = if inspected { "disk" } else { "file" };
    for part in ["catamaran 1", kind, layer.hex(), path] {
        hasher.update(part);
        hasher.update([0]);
    }
    Digest::from_hasher(hasher).hex().to_owned()
}

fn key(digest: &Digest, wanted: &Wanted, inspected: bool) -> String {
    let kind = if inspected { "disk" } else { "file" };
    format!(
        "{digest} {kind} {}",
        wanted.path_of(wanted.name.as_deref().unwrap_or("*"))
    )
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

impl Index {
    pub(super) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("index.json");
        let fresh = Self {
            version: VERSION,
            ..Self::default()
        };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(fresh),
            Err(error) => return Err(ImageError::io("read", &path)(error)),
        };
        let mut index = match serde_json::from_slice::<Self>(&bytes) {
            Ok(index) if index.version == VERSION => index,
            other => {
                let reason =
                    other.map_or_else(|e| e.to_string(), |i| format!("version {}", i.version));
                tracing::warn!(path = %path.display(), %reason, "image index cannot be read; it is put aside and images are pulled again");
                let aside = folder.join("index.json.bad");
                std::fs::rename(&path, &aside).map_err(ImageError::io("rename", &path))?;
                // Files that only the old index knew stay: a VM may still be using them, and `gc` is told which.
                return Ok(fresh);
            }
        };
        let missing: BTreeSet<String> = index
            .files
            .values()
            .filter(|f| !is_whole(folder, f))
            .map(|f| f.id.clone())
            .collect();
        index.forget(&missing);
        Ok(index)
    }

    /// Replaces the file: after a crash it is the old or the new one.
    pub(super) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join("index.json");
        let failed = |error| ImageError::io("write", &path)(error);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        // It names images of private registries.
        catamaran_host::file::replace(&path, &bytes, 0o600).map_err(failed)
    }

    /// The manifest digest that the reference had when it was last pulled.
    pub(super) fn digest_of(&self, reference: &str) -> Option<Digest> {
        self.references.get(reference).cloned()
    }

    /// The cached file, where it is still whole; notes its use. The flag tells whether the index should be saved.
    pub(super) fn file(
        &mut self,
        folder: &Path,
        digest: &Digest,
        wanted: &Wanted,
        inspected: bool,
    ) -> Option<(StoredFile, bool)> {
        let id = self.images.get(&key(digest, wanted, inspected))?.clone();
        self.take(folder, &id)
    }

    fn take(&mut self, folder: &Path, id: &str) -> Option<(StoredFile, bool)> {
        let file = self.files.get_mut(id)?;
        if !is_whole(folder, file) {
            return None;
        }
        let now = seconds(SystemTime::now());
        let stale = now > file.last_used.saturating_add(TOUCH);
        file.last_used = now.max(file.last_used);
        Some((file.clone(), stale))
    }

    /// What is known of a layer that nothing above hides.
    pub(super) fn scan(
        &mut self,
        folder: &Path,
        layer: &Digest,
        wanted: &Wanted,
        inspected: bool,
    ) -> Option<(Scan, Option<StoredFile>)> {
        let scan = self.scans.get(&key(layer, wanted, inspected))?.clone();
        match &scan.file {
            Some(id) => {
                let (file, _) = self.take(folder, &id.clone())?;
                Some((scan, Some(file)))
            }
            None => Some((scan, None)),
        }
    }

    pub(super) fn remember_reference(&mut self, reference: &str, digest: &Digest) -> bool {
        self.references
            .insert(reference.to_owned(), digest.clone())
            .as_ref()
            != Some(digest)
    }

    pub(super) fn remember_scan(
        &mut self,
        layer: &Digest,
        wanted: &Wanted,
        inspected: bool,
        scan: Scan,
    ) {
        self.scans.insert(key(layer, wanted, inspected), scan);
    }

    pub(super) fn remember_file(&mut self, digest: &Digest, wanted: &Wanted, file: &StoredFile) {
        self.images.insert(
            key(digest, wanted, file.inspection.is_some()),
            file.id.clone(),
        );
        self.files.insert(file.id.clone(), file.clone());
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &StoredFile> {
        self.files.values()
    }

    /// Drops files and everything that leads to them.
    pub(super) fn forget(&mut self, ids: &BTreeSet<String>) {
        if ids.is_empty() {
            return;
        }
        self.files.retain(|id, _| !ids.contains(id));
        let files = &self.files;
        self.scans
            .retain(|_, scan| scan.file.as_ref().is_some_and(|id| files.contains_key(id)));
        self.images.retain(|_, id| files.contains_key(id));
        let images = &self.images;
        self.references.retain(|_, digest| {
            let prefix = format!("{digest} ");
            images
                .range(prefix.clone()..)
                .next()
                .is_some_and(|(key, _)| key.starts_with(&prefix))
        });
    }
}

fn is_whole(folder: &Path, file: &StoredFile) -> bool {
    let path = folder.join("disks").join(format!("{}.img", file.id));
    std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() == file.size)
}

pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    catamaran_host::file::sync_folder(folder).map_err(ImageError::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_index_that_everybody_could_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        std::fs::write(&path, "{}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Index::load(folder.path())
            .unwrap()
            .save(folder.path())
            .unwrap();
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{mode:o}");
    }
}
