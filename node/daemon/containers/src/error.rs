//! What can fail, outside of a Pod's own manifest.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Something between this crate and the container runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs of the private runtime are not installed.
    #[error(
        "cannot run containers: {} not found in PATH or {}; install the Debian packages containerd, runc and containernetworking-plugins, \
         or name the socket of a running container runtime",
        missing.join(", "), cni_bin_dir.display()
    )]
    NotInstalled {
        /// What was looked for and not found.
        missing: Vec<String>,
        /// Where CNI plugins were looked for.
        cni_bin_dir: PathBuf,
    },
    /// The socket that was named does not answer.
    #[error("no container runtime answers at {}: {message}", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        message: String,
    },
    /// The private containerd ended or did not answer in time.
    #[error("the private containerd did not start within {} s: {message}; its log is {}", limit.as_secs(), log.display())]
    NotStarted {
        /// How long it was waited for.
        limit: Duration,
        /// Last lines of its log, or how it ended.
        message: String,
        /// Its log.
        log: PathBuf,
    },
    /// A path of the private containerd is too long for a unix socket.
    #[error("the state folder's path is too long for a unix socket: {} has {length} bytes, at most {MAX_SOCKET_PATH} are possible", socket.display())]
    SocketPath {
        /// The socket.
        socket: PathBuf,
        /// Length of its path in bytes.
        length: usize,
    },
    /// A call to the runtime failed.
    #[error("{call} failed: {message}")]
    Cri {
        /// Name of the call.
        call: &'static str,
        /// gRPC code.
        code: tonic::Code,
        /// The runtime's words.
        message: String,
    },
    /// A file or folder could not be read, made or removed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An image could not be read from a local OCI layout or handed to the runtime.
    #[error("image {image}: {message}")]
    Image {
        /// Reference of the image.
        image: String,
        /// What is wrong.
        message: String,
    },
    /// There is no such Pod or container.
    #[error("{0} not found")]
    NotFound(String),
}

/// Bytes of a unix socket's path, less the suffix that containerd adds for its second socket.
pub(crate) const MAX_SOCKET_PATH: usize = 107 - ".ttrpc".len();

impl Error {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// The runtime does not know what was asked for.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Cri {
                code: tonic::Code::NotFound,
                ..
            }
        )
    }

    /// The runtime cannot be reached, so that nothing is known about it.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Cri {
                code: tonic::Code::Unavailable,
                ..
            } | Self::NoAnswer { .. }
        )
    }
}
