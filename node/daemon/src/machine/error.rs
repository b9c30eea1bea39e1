//! Why a machine could not be started, with the word that goes into its conditions.

use std::io;

use catamaran_images::ImageError;
use catamaran_network::Error as NetworkError;

use crate::machine::cgroup::CgroupError;
use crate::machine::claims::InUse;
use crate::machine::config::ConfigError;
use crate::machine::launcher::LauncherError;

/// Why a machine could not be started. All of them may pass: a start is tried again with growing pauses.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An image could not be had.
    #[error("image of volume {volume}")]
    Image {
        /// Volume (`kernelBoot` for a kernel).
        volume: String,
        /// Why.
        source: ImageError,
    },
    /// An image reference or a path in it is wrong.
    #[error("volume {volume}: {message}")]
    Volume {
        /// Volume.
        volume: String,
        /// Why.
        message: String,
    },
    /// A claim is not there.
    #[error("PersistentVolumeClaim {0} not found")]
    ClaimNotFound(String),
    /// A disk file could not be used.
    #[error("disk of volume {volume}")]
    Disk {
        /// Volume.
        volume: String,
        /// Why.
        source: ImageError,
    },
    /// A disk belongs to another machine.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// A Secret or ConfigMap could not be shown.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network could not be made.
    #[error("network")]
    Network(#[from] NetworkError),
    /// A port of the host can't be led to it.
    #[error(transparent)]
    HostPort(NetworkError),
    /// There is no plan for it on this host.
    #[error("{0}")]
    Plan(String),
    /// KVM is required and can't be had.
    #[error("--require-kvm: {0}")]
    NoKvm(String),
    /// The state folder could not be written.
    #[error("{what}")]
    Io {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The control group could not be made.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The sandbox did not start.
    #[error(transparent)]
    Sandbox(#[from] catamaran_sandbox::SandboxError),
    /// The launcher could not be asked.
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    /// A step took longer than anybody would wait.
    #[error("{0}")]
    Overdue(String),
}

impl StartError {
    /// An I/O error and what it was about.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Reason of the condition `Synchronized`, in the peer's words.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Image { .. } => "ErrImagePull",
            Self::ClaimNotFound(_) => "FailedPvcNotFound",
            // As for a Pod.
            Self::HostPort(
                NetworkError::HostPortTaken { .. } | NetworkError::HostPortInUse { .. },
            ) => "HostPortConflict",
            _ => "FailedCreate",
        }
    }
}
