//! Removing what nobody uses.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::ImageStore;
use super::index::{seconds, sync_folder};
use crate::error::{ImageError, Result};

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Names in the cache of the files that are gone.
    pub removed: Vec<String>,
    /// Bytes of disk space that this gave back.
    pub freed: u64,
}

impl ImageStore {
    /// Removes files that are not in `in_use` (ids of [`crate::DiskImage`] and [`crate::KernelImage`]) and were not resolved for `keep`.
    ///
    /// `keep` must be longer than it takes a caller from `resolve` to having the id in its list.
    ///
    /// # Errors
    /// [`ImageError::Io`]; what could be removed until then is gone and forgotten.
    pub fn gc(
        &self,
        in_use: &BTreeSet<String>,
        now: SystemTime,
        keep: Duration,
    ) -> Result<GcReport> {
        let folder = &self.inner.folder;
        let disks = folder.join("disks");
        let oldest = seconds(now).saturating_sub(keep.as_secs());
        let mut index = self
            .inner
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<String> = index.files().map(|f| f.id.clone()).collect();
        let mut doomed: BTreeSet<String> = index
            .files()
            .filter(|f| !in_use.contains(&f.id) && f.last_used <= oldest)
            .map(|f| f.id.clone())
            .collect();
        // Files without a record: the daemon died between the file's rename and the index', or the index was lost.
        let failed = || ImageError::io("read", &disks);
        for entry in std::fs::read_dir(&disks).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.strip_suffix(".img").unwrap_or(&name).to_owned();
            let changed = entry
                .metadata()
                .map(|m| u64::try_from(m.mtime()).unwrap_or(0))
                .unwrap_or(u64::MAX);
            if !known.contains(&id)
                && !in_use.contains(&id)
                && changed <= oldest
                && name.ends_with(".img")
            {
                doomed.insert(id);
            }
        }
        if doomed.is_empty() {
            return Ok(GcReport::default());
        }
        // First forget, then remove: a crash in between leaves files without a record, not records without a file.
        index.forget(&doomed);
        index.save(folder)?;
        let mut report = GcReport::default();
        for id in doomed {
            let path = self.inner.file_path(&id);
            let bytes = std::fs::symlink_metadata(&path).map_or(0, |m| m.blocks() * 512);
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(%id, bytes, "removed an unused disk image");
                    report.freed += bytes;
                    report.removed.push(id);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(ImageError::io("remove", &path)(error)),
            }
        }
        sync_folder(&disks)?;
        Ok(report)
    }
}
