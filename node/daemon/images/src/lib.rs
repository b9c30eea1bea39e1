//! Container disks and local disk files for the node daemon.
//!
//! The daemon gives a reference (`registry/repo:tag`, `oci:PATH:ref`, `oci-archive:PATH:ref`) to [`ImageStore::resolve`] and gets back the
//! host path of a read-only disk file, its format and its virtual size. The files live in a cache keyed by what they were made from, so that
//! all VMs (and all tags) that use one layer share one base file.
//!
//! ```text
//! reference ── source: registry | OCI layout | OCI archive ── manifest, config, layers (digests checked)
//!                                                                │ layer blob (unlinked temporary file)
//!                                                                ▼
//!   index.json ◄── rename ◄── tmp/… ◄── worker process (uid 107, no capabilities, no network, chroot, seccomp):
//!   disks/<id>.img                      decompress, walk the tar, write the one file, inspect its header
//! ```
//!
//! Architecture invariant: bytes inside a layer or a disk are parsed by the worker only ([`worker_main`]), never by the daemon, which is root.
//! The daemon hashes and copies them, and parses manifests (bounded JSON) and the worker's report (bounded JSON).
//!
//! The cache key of a disk is made of the digest of the layer and the path in it, both verified before the worker sees anything: a worker
//! that was taken over by a hostile layer can spoil the file of that layer only, not that of another image.

mod auth;
mod digest;
mod error;
mod format;
mod layers;
mod layout;
mod limits;
mod local;
mod manifest;
mod progress;
mod reference;
mod registry;
mod source;
mod store;
mod worker;

pub use auth::{AuthFiles, PullAuth};
pub use digest::Digest;
pub use error::{ImageError, Result};
pub use format::{Format, Inspection};
pub use limits::Limits;
pub use local::{DiskFile, create_raw, ensure_raw, open_disk};
pub use progress::{Phase, Progress, ProgressSender};
pub use reference::{ImagePath, ImageReference, PullPolicy};
pub use registry::RegistryConfig;
pub use store::{DiskImage, GcReport, ImageRequest, ImageStore, KernelImage, StoreConfig};
pub use worker::{WorkerConfig, worker_main};
