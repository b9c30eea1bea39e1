//! One pull, from the reference to files in the cache.
//!
//! Layers are looked at from the top, and only as far down as needed. A layer that is known from an earlier pull is not fetched again. Images
//! that have layers in common wait for each other, so that no layer is fetched twice.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tempfile::NamedTempFile;
use tokio::sync::OwnedMutexGuard;

use super::index::{Scan, StoredFile, file_id, seconds, sync_folder};
use super::{Inner, Pulled, WantedFile};
use crate::auth::PullAuth;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::layers::Merge;
use crate::layout::{BlobFile, Layout, layouts_in, open_regular};
use crate::manifest::{Blob, Image};
use crate::progress::{Listeners, Phase};
use crate::reference::{ImageReference, PullPolicy};
use crate::registry::RegistrySource;
use crate::source::Source;
use crate::worker::{Answer, ExtractedFile, LayerTask, Task};

pub(super) async fn pull(
    inner: &Arc<Inner>,
    reference: ImageReference,
    wanted: Vec<WantedFile>,
    policy: PullPolicy,
    auth: PullAuth,
    listeners: Listeners,
) -> Result<Pulled> {
    let shown = reference.to_string();
    listeners.tell(Phase::Resolving, 0, 0);
    let source = match inner.local_source(&reference).await? {
        Some(source) => source,
        None => {
            if policy != PullPolicy::Always
                && let Some(digest) = inner.with_index(|index| index.digest_of(&shown))
                && let Some(files) = inner.cached(&shown, &digest, &wanted)?
            {
                return Ok((digest, files));
            }
            let ImageReference::Registry(registry) = &reference else {
                return Err(ImageError::NotPresent { reference: shown });
            };
            if policy == PullPolicy::Never {
                return Err(ImageError::NotPresent { reference: shown });
            }
            Source::Registry(Box::new(
                RegistrySource::connect(
                    registry,
                    &auth,
                    &inner.config.registry,
                    &inner.config.limits,
                )
                .await?,
            ))
        }
    };
    let (digest, image) = source.image(&shown, &inner.config.limits).await?;
    if let Some(files) = inner.cached(&shown, &digest, &wanted)? {
        return Ok((digest, files));
    }
    source
        .check_config(&shown, &image, &inner.config.limits)
        .await?;
    tracing::info!(image = %shown, %digest, from = %source.place(), "pulling");
    let _locks = inner.lock_layers(&image).await;
    // Another tag of the same image may have been pulled while this one waited.
    if let Some(files) = inner.cached(&shown, &digest, &wanted)? {
        return Ok((digest, files));
    }
    let mut job = Job {
        inner,
        shown: &shown,
        source: &source,
        image: &image,
        blobs: image.layers.iter().map(|_| None).collect(),
        fetched: 0,
        listeners,
    };
    let mut files = Vec::new();
    for wanted in &wanted {
        files.push(job.file(&digest, wanted).await?);
    }
    inner.with_index(|index| {
        index.remember_reference(&shown, &digest);
        index.save(&inner.folder)
    })?;
    Ok((digest, files))
}

impl Inner {
    fn with_index<T>(&self, work: impl FnOnce(&mut super::Index) -> T) -> T {
        work(&mut self.index.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All wanted files of an image, where they are there.
    fn cached(
        &self,
        shown: &str,
        digest: &Digest,
        wanted: &[WantedFile],
    ) -> Result<Option<Vec<StoredFile>>> {
        self.with_index(|index| {
            let mut files = Vec::new();
            let mut changed = false;
            for file in wanted {
                let Some((file, stale)) =
                    index.file(&self.folder, digest, &file.wanted, file.inspect)
                else {
                    return Ok(None);
                };
                changed |= stale;
                files.push(file);
            }
            if index.remember_reference(shown, digest) || changed {
                index.save(&self.folder)?;
            }
            Ok(Some(files))
        })
    }

    /// The layout or archive that the reference names, or the configured layout that has it.
    async fn local_source(&self, reference: &ImageReference) -> Result<Option<Source>> {
        let shown = reference.to_string();
        let limits = &self.config.limits;
        if !self.config.local_references && !matches!(reference, ImageReference::Registry(_)) {
            return Err(ImageError::InvalidReference {
                reference: shown,
                reason: "references to paths of the host are not allowed here".to_owned(),
            });
        }
        let (layout, name) = match reference {
            ImageReference::Registry(registry) => {
                for layout in layouts_in(&self.config.local_layouts) {
                    match layout.find(registry, limits) {
                        Ok(Some(blob)) => return Ok(Some(Source::Layout(layout, blob))),
                        Ok(None) => {}
                        // One broken layout must not stop images that are elsewhere.
                        Err(error) => {
                            tracing::warn!(path = %layout.place(), %error, "local images cannot be used");
                        }
                    }
                }
                return Ok(None);
            }
            ImageReference::Layout { path, name } => (Layout::folder(path.clone()), name),
            ImageReference::Archive { path, name } => {
                let file = open_regular(path).map_err(ImageError::io("open", path))?;
                let input = file.try_clone().map_err(ImageError::io("open", path))?;
                let task = Task::ListArchive {
                    max_entries: limits.entries,
                };
                match self.work(task, input, None, |_, _| true).await {
                    Ok(Answer::Archive(entries)) => {
                        (Layout::archive(path.clone(), file, entries), name)
                    }
                    Ok(_) => return Err(confused(&shown)),
                    Err(error) => return Err(self.worker_error(&shown, error)),
                }
            }
        };
        let blob = layout.select(&shown, name.as_deref(), limits)?;
        Ok(Some(Source::Layout(layout, blob)))
    }

    /// Waits until no other pull works on a layer of this image. Always in the same order, so that no two wait for each other.
    async fn lock_layers(&self, image: &Image) -> Vec<OwnedMutexGuard<()>> {
        let mut digests: Vec<_> = image.layers.iter().map(|l| l.digest.clone()).collect();
        digests.sort();
        digests.dedup();
        let mut guards = Vec::new();
        for digest in digests {
            let lock = {
                let mut locks = self
                    .layer_locks
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                locks.retain(|_, lock| lock.strong_count() > 0);
                let running = locks.get(&digest).and_then(std::sync::Weak::upgrade);
                running.unwrap_or_else(|| {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(digest, Arc::downgrade(&lock));
                    lock
                })
            };
            guards.push(lock.lock_owned().await);
        }
        guards
    }
}

fn confused(shown: &str) -> ImageError {
    ImageError::Worker {
        what: shown.to_owned(),
        reason: "it answered another question".to_owned(),
    }
}

/// State of a pull that has to look into layers.
struct Job<'j> {
    inner: &'j Arc<Inner>,
    shown: &'j str,
    source: &'j Source,
    image: &'j Image,
    /// Layers that are here, bottom first.
    blobs: Vec<Option<BlobFile>>,
    /// Bytes of them.
    fetched: u64,
    listeners: Listeners,
}

/// A wanted file: known from before, or just made and not yet in its place.
enum Found {
    Stored(StoredFile),
    Fresh(NamedTempFile, ExtractedFile),
}

impl Job<'_> {
    async fn file(&mut self, digest: &Digest, file: &WantedFile) -> Result<StoredFile> {
        let WantedFile { wanted, inspect } = file;
        let mut merge = Merge::new(wanted.clone());
        let mut found = None;
        let mut scans = Vec::new();
        for index in (0..self.image.layers.len()).rev() {
            if merge.finished() {
                break;
            }
            let layer = &self.image.layers[index].digest;
            // What an upper layer hides changes what a scan returns; only unhidden ones are remembered.
            let plain = merge.hidden.is_empty() && found.is_none();
            let known = if plain {
                self.inner
                    .with_index(|i| i.scan(&self.inner.folder, layer, wanted, *inspect))
            } else {
                None
            };
            if let Some((scan, file)) = known {
                found = file.map(|file| (index, Found::Stored(file)));
                merge.add(scan.findings);
                continue;
            }
            let (findings, made) = self.look(index, file, &merge, found.is_none()).await?;
            if plain {
                scans.push((index, findings.clone(), made.is_some()));
            }
            if let Some(made) = made {
                found = Some((index, made));
            }
            merge.add(findings);
        }
        let refused = |reason| ImageError::Disk {
            reference: self.shown.to_owned(),
            reason,
        };
        let (_, name) = merge.result().map_err(refused)?;
        let Some((index, found)) = found else {
            return Err(refused(format!(
                "{} was not extracted",
                wanted.path_of(&name)
            )));
        };
        let layer = self.image.layers[index].digest.clone();
        let stored = match found {
            Found::Stored(file) => file,
            Found::Fresh(temporary, made) => {
                let stored = StoredFile {
                    id: file_id(&layer, &wanted.path_of(&name), *inspect),
                    layer,
                    path: wanted.path_of(&name),
                    sha256: made.sha256,
                    size: made.size,
                    inspection: made.inspection,
                    last_used: seconds(SystemTime::now()),
                };
                let inner = Arc::clone(self.inner);
                let id = stored.id.clone();
                let size = stored.size;
                let done =
                    tokio::task::spawn_blocking(move || put_in_place(&inner, temporary, &id, size))
                        .await;
                done.map_err(|error| {
                    ImageError::io("write into", &self.inner.folder)(error.into())
                })??;
                stored
            }
        };
        self.inner.with_index(|index| {
            for (layer, findings, holds_file) in scans {
                let scan = Scan {
                    findings,
                    file: holds_file.then(|| stored.id.clone()),
                };
                index.remember_scan(&self.image.layers[layer].digest, wanted, *inspect, scan);
            }
            index.remember_file(digest, wanted, &stored);
            index.save(&self.inner.folder)
        })?;
        Ok(stored)
    }

    /// Has the worker look through a layer.
    async fn look(
        &mut self,
        index: usize,
        file: &WantedFile,
        merge: &Merge,
        extract: bool,
    ) -> Result<(crate::layers::LayerFindings, Option<Found>)> {
        self.fetch(index).await?;
        let folder = self.inner.temporary();
        let failed = |action| ImageError::io(action, &folder);
        let Some(blob) = &self.blobs[index] else {
            return Err(confused(self.shown));
        };
        let limits = &self.inner.config.limits;
        let task = Task::Layer(LayerTask {
            offset: blob.offset,
            length: blob.length,
            wanted: file.wanted.clone(),
            hidden: merge.hidden.clone(),
            extract,
            inspect: file.inspect,
            max_entries: limits.entries,
            max_expanded: limits.layer_expanded(blob.length),
            max_file_size: limits.disk_size,
            max_virtual_size: limits.virtual_size,
        });
        let temporary = NamedTempFile::new_in(&folder).map_err(failed("create a file in"))?;
        let output = temporary
            .as_file()
            .try_clone()
            .map_err(failed("create a file in"))?;
        let input = blob.file.try_clone().map_err(failed("read a layer in"))?;
        let progress = |done, total| {
            self.listeners.tell(Phase::Extracting, done, total);
            self.inner.has_room(0)
        };
        match self.inner.work(task, input, Some(output), progress).await {
            Ok(Answer::Layer { findings, file }) => {
                Ok((findings, file.map(|made| Found::Fresh(temporary, made))))
            }
            Ok(_) => Err(confused(self.shown)),
            Err(error) => Err(self.inner.worker_error(self.shown, error)),
        }
    }

    /// Makes sure that a layer is here.
    async fn fetch(&mut self, index: usize) -> Result<()> {
        if self.blobs[index].is_some() {
            return Ok(());
        }
        let blob: &Blob = &self.image.layers[index];
        if self.source.is_remote() && !self.inner.has_room(blob.size) {
            return Err(self
                .inner
                .no_space(&format!("a layer of {}", self.shown), Some(blob.size)));
        }
        let total: u64 = self.image.layers.iter().map(|l| l.size).sum();
        let (before, listeners) = (self.fetched, self.listeners.clone());
        let progress = move |done| listeners.tell(Phase::Pulling, before + done, total);
        let file = self
            .source
            .layer(self.shown, blob, &self.inner.temporary(), progress)
            .await?;
        self.fetched += blob.size;
        self.blobs[index] = Some(file);
        Ok(())
    }
}

/// Gives a finished file its name: mode, contents on disk, rename, folder on disk.
fn put_in_place(inner: &Inner, temporary: NamedTempFile, id: &str, size: u64) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = inner.file_path(id);
    let failed = |action: &'static str| ImageError::io(action, &path);
    let file = temporary.as_file();
    let length = file.metadata().map_err(failed("look at"))?.len();
    if length != size {
        return Err(ImageError::Worker {
            what: id.to_owned(),
            reason: format!("it made a file of {length} bytes and said {size}"),
        });
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o444))
        .map_err(failed("set the mode of"))?;
    file.sync_all().map_err(failed("write"))?;
    temporary
        .persist(&path)
        .map_err(|error| failed("rename")(error.error))?;
    sync_folder(&inner.folder.join("disks"))
}
