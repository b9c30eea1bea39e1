//! The cache: what is there, who is pulling what, and the public face of this crate.
//!
//! ```text
//! <store>/lock         held while the store is open
//!         index.json   references, images, scanned layers, disks (replaced atomically)
//!         disks/<id>.img   read-only disk and kernel files; id = sha256 of (layer digest, path in it)
//!         tmp/         files being made; emptied at open
//!         empty/       root of the worker
//! ```

mod gc;
mod index;
mod pull;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use rustix::fs::{FlockOperation, flock};

use crate::auth::PullAuth;
use crate::digest::Digest;
use crate::error::{ImageError, Result};
use crate::format::Format;
use crate::layers::Wanted;
use crate::limits::Limits;
use crate::progress::{Listeners, ProgressSender, WeakListeners};
use crate::reference::{ImagePath, ImageReference, PullPolicy};
use crate::registry::RegistryConfig;
use crate::worker::{self, Answer, Failure, Task, WorkerConfig, WorkerError};
pub use gc::GcReport;
pub(crate) use index::sync_folder;
use index::{Index, StoredFile};

/// How a store works.
#[derive(Debug, Clone, Default)]
pub struct StoreConfig {
    /// Upper bounds.
    pub limits: Limits,
    /// How registries are reached.
    pub registry: RegistryConfig,
    /// How the unprivileged worker is started.
    pub worker: WorkerConfig,
    /// OCI layouts, or folders of them, in which ordinary references are looked up before any registry, whatever the pull policy.
    pub local_layouts: Vec<PathBuf>,
    /// Whether `oci:` and `oci-archive:` references are allowed: they name paths of the host, so only where its administrator writes the manifests.
    pub local_references: bool,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// The image.
    pub reference: ImageReference,
    /// The disk file in it; the only regular file in `/disk/` where not given.
    pub path: Option<ImagePath>,
    /// When to ask the source again.
    pub policy: PullPolicy,
    /// Image pull secrets.
    pub auth: PullAuth,
}

impl ImageRequest {
    /// The only disk of an image, pulled when it is missing, without secrets.
    pub fn new(reference: ImageReference) -> Self {
        Self {
            reference,
            path: None,
            policy: PullPolicy::IfNotPresent,
            auth: PullAuth::none(),
        }
    }
}

/// A disk in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskImage {
    /// The reference as asked for.
    pub reference: String,
    /// Digest of the image's manifest for this machine.
    pub digest: Digest,
    /// Digest of the layer that holds the disk.
    pub layer: Digest,
    /// Digest of the disk file's bytes, as the worker computed it.
    pub sha256: Digest,
    /// Name of the disk in the cache, for [`ImageStore::gc`].
    pub id: String,
    /// The read-only file on the host: mode 0444, never changed after it got this name.
    pub path: PathBuf,
    /// Path in the image.
    pub path_in_image: String,
    /// Format to tell QEMU.
    pub format: Format,
    /// Size that the guest sees, bytes.
    pub virtual_size: u64,
    /// Size of the file, bytes; it may have holes.
    pub size: u64,
}

/// Kernel and initrd of a kernel boot container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelImage {
    /// Digest of the image's manifest for this machine.
    pub digest: Digest,
    /// Kernel: name in the cache and file on the host (mode 0444).
    pub kernel: Option<(String, PathBuf)>,
    /// Initrd: name in the cache and file on the host (mode 0444).
    pub initrd: Option<(String, PathBuf)>,
}

/// The cache of disk images. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

/// One file that is wanted from an image, and whether it is a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WantedFile {
    wanted: Wanted,
    inspect: bool,
}

type Pulled = (Digest, Vec<StoredFile>);
type SharedPull = Shared<BoxFuture<'static, Result<Pulled>>>;

struct Flight {
    pull: WeakShared<BoxFuture<'static, Result<Pulled>>>,
    listeners: WeakListeners,
}

struct Inner {
    folder: PathBuf,
    config: StoreConfig,
    index: Mutex<Index>,
    flights: Mutex<HashMap<String, Flight>>,
    layer_locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    _lock: File,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens (or makes) the store in `folder` and removes what a crash left behind.
    ///
    /// # Errors
    /// [`ImageError::Locked`] when another process has it open; [`ImageError::Io`] when the folder cannot be used.
    pub fn open(folder: &Path, config: StoreConfig) -> Result<Self> {
        // reqwest takes the process' default provider; a second installation is refused and harmless.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Disks are files of mode 0444 that root takes into sandboxes; other users have no way to them.
        for (name, mode) in [
            ("", 0o711),
            ("disks", 0o700),
            ("tmp", 0o700),
            ("empty", 0o555),
        ] {
            make_folder(&folder.join(name), mode)?;
        }
        let folder = folder
            .canonicalize()
            .map_err(ImageError::io("find", folder))?;
        let lock_path = folder.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(ImageError::io("open", &lock_path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| ImageError::Locked {
            path: folder.clone(),
        })?;
        remove_residue(&folder.join("tmp"))?;
        let index = Index::load(&folder)?;
        Ok(Self {
            inner: Arc::new(Inner {
                folder,
                config,
                index: Mutex::new(index),
                flights: Mutex::default(),
                layer_locks: Mutex::default(),
                _lock: lock,
            }),
        })
    }

    /// Gives the disk of an image, pulling it where the policy says so. Equal requests at the same time share one pull; dropping the future
    /// ends the pull when nobody else waits for it.
    ///
    /// # Errors
    /// Any [`ImageError`]; nothing but complete, checked files is left in the cache.
    pub async fn resolve(
        &self,
        request: ImageRequest,
        progress: Option<ProgressSender>,
    ) -> Result<DiskImage> {
        let shown = request.reference.to_string();
        let wanted = vec![WantedFile {
            wanted: Wanted::new(request.path.as_ref()),
            inspect: true,
        }];
        let (digest, files) = self
            .files(
                request.reference,
                wanted,
                request.policy,
                request.auth,
                progress,
            )
            .await?;
        let disk = files
            .into_iter()
            .next()
            .and_then(|file| Some((file.inspection?, file)));
        let Some((inspection, file)) = disk else {
            return Err(ImageError::unsupported(
                &shown,
                "its disk was not inspected",
            ));
        };
        Ok(DiskImage {
            reference: shown,
            digest,
            path: self.inner.file_path(&file.id),
            layer: file.layer,
            sha256: file.sha256,
            id: file.id,
            path_in_image: file.path,
            format: inspection.format,
            virtual_size: inspection.virtual_size,
            size: file.size,
        })
    }

    /// Gives kernel and initrd of an image; at least one path must be given.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`].
    pub async fn resolve_kernel(
        &self,
        image: (ImageReference, PullPolicy, PullAuth),
        kernel: Option<ImagePath>,
        initrd: Option<ImagePath>,
        progress: Option<ProgressSender>,
    ) -> Result<KernelImage> {
        let (reference, policy, auth) = image;
        let wanted: Vec<_> = [&kernel, &initrd]
            .into_iter()
            .flatten()
            .map(|path| WantedFile {
                wanted: Wanted::new(Some(path)),
                inspect: false,
            })
            .collect();
        if wanted.is_empty() {
            return Err(ImageError::unsupported(
                &reference.to_string(),
                "neither a kernel nor an initrd is asked for",
            ));
        }
        let (digest, files) = self
            .files(reference, wanted, policy, auth, progress)
            .await?;
        let mut files = files
            .into_iter()
            .map(|file| (file.id.clone(), self.inner.file_path(&file.id)));
        Ok(KernelImage {
            digest,
            kernel: kernel.and_then(|_| files.next()),
            initrd: initrd.and_then(|_| files.next()),
        })
    }

    async fn files(
        &self,
        reference: ImageReference,
        wanted: Vec<WantedFile>,
        policy: PullPolicy,
        auth: PullAuth,
        progress: Option<ProgressSender>,
    ) -> Result<Pulled> {
        // Callers with other secrets must prove their own right to the image, so they do not join.
        let key = format!("{reference}|{wanted:?}|{policy:?}|{}", auth.fingerprint());
        let (pull, listeners) = {
            let mut flights = self
                .inner
                .flights
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.pull.upgrade().is_some());
            let running = flights
                .get(&key)
                .and_then(|f| Some((f.pull.upgrade()?, f.listeners.upgrade()?)));
            running.unwrap_or_else(|| {
                let listeners = Listeners::default();
                let pull: SharedPull = self
                    .start(reference, wanted, policy, auth, listeners.clone())
                    .shared();
                if let Some(weak) = pull.downgrade() {
                    let listeners = listeners.downgrade();
                    flights.insert(
                        key,
                        Flight {
                            pull: weak,
                            listeners,
                        },
                    );
                }
                (pull, listeners)
            })
        };
        if let Some(sender) = progress {
            listeners.add(sender);
        }
        let outcome = pull.await;
        listeners.finish(outcome.is_ok());
        outcome
    }

    fn start(
        &self,
        reference: ImageReference,
        wanted: Vec<WantedFile>,
        policy: PullPolicy,
        auth: PullAuth,
        listeners: Listeners,
    ) -> BoxFuture<'static, Result<Pulled>> {
        let inner = Arc::clone(&self.inner);
        async move {
            let limit = inner.config.limits.pull_time;
            let shown = reference.to_string();
            let work = pull::pull(&inner, reference, wanted, policy, auth, listeners);
            match tokio::time::timeout(limit, work).await {
                Ok(outcome) => outcome,
                Err(_) => Err(ImageError::limit(
                    &shown,
                    format!("pulling it took longer than {} s", limit.as_secs()),
                )),
            }
        }
        .boxed()
    }
}

impl Inner {
    fn file_path(&self, id: &str) -> PathBuf {
        self.folder.join("disks").join(format!("{id}.img"))
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    async fn work(
        &self,
        task: Task,
        input: File,
        output: Option<File>,
        progress: impl FnMut(u64, u64) -> bool,
    ) -> std::result::Result<Answer, WorkerError> {
        let root = self.folder.join("empty");
        worker::run(
            &self.config.worker,
            &self.config.limits,
            &root,
            task,
            input,
            output,
            progress,
        )
        .await
    }

    fn worker_error(&self, reference: &str, error: WorkerError) -> ImageError {
        let worker = |reason: String| ImageError::Worker {
            what: reference.to_owned(),
            reason,
        };
        match error {
            WorkerError::Failed(Failure::Refused(reason)) => ImageError::Disk {
                reference: reference.to_owned(),
                reason,
            },
            WorkerError::Failed(Failure::Format { path, reason }) => ImageError::Format {
                path: format!("{path} of {reference}"),
                reason,
            },
            WorkerError::Failed(Failure::Limit(reason)) => ImageError::limit(reference, reason),
            WorkerError::Failed(Failure::NoSpace) => {
                self.no_space(&format!("the disk of {reference}"), None)
            }
            WorkerError::Failed(Failure::Io(reason) | Failure::Confine(reason))
            | WorkerError::Broken(reason) => worker(reason),
        }
    }

    fn no_space(&self, what: &str, needed: Option<u64>) -> ImageError {
        use crate::limits::human;
        let free = human(self.free());
        let keep = human(self.config.limits.keep_free);
        ImageError::NoSpace {
            path: self.folder.clone(),
            what: what.to_owned(),
            detail: match needed {
                Some(needed) => format!(
                    "{} needed, {free} free, {keep} of it must stay free",
                    human(needed)
                ),
                None => format!("{free} free, {keep} of it must stay free"),
            },
        }
    }

    /// Bytes that may still be written to the store's file system.
    fn free(&self) -> u64 {
        // A file system that cannot be asked is told by ENOSPC soon enough.
        rustix::fs::statvfs(&self.folder)
            .map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize))
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.free() >= bytes.saturating_add(self.config.limits.keep_free)
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path).map_err(ImageError::io("create", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(ImageError::io("set the mode of", path))
}

fn remove_residue(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(ImageError::io("read", folder))? {
        let entry = entry.map_err(ImageError::io("read", folder))?;
        let path = entry.path();
        tracing::info!(path = %path.display(), "removing what an interrupted pull left behind");
        let folder = entry.file_type().is_ok_and(|t| t.is_dir());
        let removed = if folder {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.map_err(ImageError::io("remove", &path))?;
    }
    Ok(())
}
