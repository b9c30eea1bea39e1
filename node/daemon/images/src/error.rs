//! What can go wrong with an image, in words that name the image, the value and what is allowed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, ImageError>;

/// Why an image or a disk file cannot be used. It is `Clone` because one pull may be shared by several callers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The reference cannot be parsed.
    #[error("image reference {reference:?} is not valid: {reason}")]
    InvalidReference {
        /// As written.
        reference: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A path inside the image is not acceptable.
    #[error("path {path:?} in an image is not valid: {reason}")]
    InvalidPath {
        /// As written, cut at 200 characters.
        path: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// Pull policy Never and the image is not in the cache.
    #[error("image {reference} is not present and its pull policy is Never")]
    NotPresent {
        /// The image.
        reference: String,
    },
    /// The registry, layout or archive has no such image.
    #[error("image {reference} was not found in {place}")]
    NotFound {
        /// The image.
        reference: String,
        /// Registry host or path.
        place: String,
    },
    /// The registry wants other credentials.
    #[error("registry {registry} refused access to {reference}: {reason}")]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// The image.
        reference: String,
        /// Which credentials were tried and where others are looked for.
        reason: String,
    },
    /// The registry cannot be reached or answers with errors, after all retries.
    #[error("registry {registry} cannot be used: {reason} ({attempts} attempts)")]
    Registry {
        /// Host and port.
        registry: String,
        /// What happened last.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// Worth another try later: the registry was down, overloaded or slow.
        transient: bool,
    },
    /// Bytes are not what their digest says. Never retried, nothing is kept.
    #[error(
        "{what} of image {reference} does not match its digest: expected {expected}, got {actual}"
    )]
    DigestMismatch {
        /// Manifest, config or layer.
        what: String,
        /// The image.
        reference: String,
        /// Digest that was asked for.
        expected: String,
        /// Digest of the bytes.
        actual: String,
    },
    /// The manifest, index, config or layout is malformed or of a kind that is not supported.
    #[error("image {reference} cannot be used: {reason}")]
    Unsupported {
        /// The image.
        reference: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// A limit of [`crate::Limits`] was hit.
    #[error("image {reference} is refused: {reason}")]
    Limit {
        /// The image.
        reference: String,
        /// Which limit, the value and the allowed maximum.
        reason: String,
    },
    /// There is no disk file in the image, or several.
    #[error("image {reference} holds no usable disk: {reason}")]
    Disk {
        /// The image.
        reference: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// The disk's format is refused.
    #[error("disk {path} is refused: {reason}")]
    Format {
        /// Path in the image or on the host.
        path: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The file system of the store is full.
    #[error("no space left in {} for {what}: {detail}", path.display())]
    NoSpace {
        /// Folder on the full file system.
        path: PathBuf,
        /// What was to be written.
        what: String,
        /// Bytes needed and free, where known.
        detail: String,
    },
    /// A local disk file is not what it must be.
    #[error("disk file {} cannot be used: {reason}", path.display())]
    LocalDisk {
        /// The file.
        path: PathBuf,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// Another process has the store open.
    #[error("image store {} is in use by another process", path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// The unprivileged worker did not do its job.
    #[error("the image worker failed on {what}: {reason}")]
    Worker {
        /// What it worked on.
        what: String,
        /// How it ended.
        reason: String,
    },
    /// The host's file system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// Verb: read, write, rename…
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The client for registries cannot be set up (CA files, proxy).
    #[error("cannot set up the registry client: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
}

impl ImageError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| {
            if source.raw_os_error() == Some(libc::ENOSPC)
                || source.raw_os_error() == Some(libc::EDQUOT)
            {
                return Self::NoSpace {
                    path,
                    what: format!("({action})"),
                    detail: source.to_string(),
                };
            }
            Self::Io {
                action,
                path,
                source: Arc::new(source),
            }
        }
    }

    pub(crate) fn unsupported(reference: &str, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            reference: reference.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn limit(reference: &str, reason: impl Into<String>) -> Self {
        Self::Limit {
            reference: reference.to_owned(),
            reason: reason.into(),
        }
    }

    /// The reason a kubelet would give for the same failure: `InvalidImageName`, `ErrImageNeverPull` or `ErrImagePull`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidReference { .. } => "InvalidImageName",
            Self::NotPresent { .. } => "ErrImageNeverPull",
            _ => "ErrImagePull",
        }
    }

    /// Whether the same request may succeed later without anyone changing the manifest or the image: the registry was down, the disk was full.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Registry { transient, .. } => *transient,
            Self::NoSpace { .. } | Self::Io { .. } | Self::Worker { .. } => true,
            _ => false,
        }
    }
}
