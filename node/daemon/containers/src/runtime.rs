//! The container runtime of this host: the one that was named, one that runs already, or a private containerd.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1::{ContainerFilter, PodSandboxFilter};
use tokio::sync::Mutex;
use tracing::{debug, info};

use crate::Error;
use crate::containerd::{Private, PrivateOptions};
use crate::cri::Cri;

/// Sockets of runtimes that a host may run.
pub const KNOWN_SOCKETS: &[&str] = &["/run/containerd/containerd.sock", "/run/crio/crio.sock"];

/// Age of a shim without container: no start takes so long.
const LOST: Duration = Duration::from_secs(300);

/// How the runtime is found.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The runtime's socket; when given, no other is tried.
    pub socket: Option<PathBuf>,
    /// Sockets that are tried otherwise.
    pub known: Vec<PathBuf>,
    /// The private containerd that is started when none answers.
    pub private: PrivateOptions,
}

impl RuntimeOptions {
    /// The known sockets, then a private containerd.
    pub fn new(private: PrivateOptions) -> Self {
        Self {
            socket: None,
            known: KNOWN_SOCKETS.iter().map(PathBuf::from).collect(),
            private,
        }
    }
}

/// A container runtime that answers. Clones share it; dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct Runtime {
    cri: Cri,
    name: String,
    version: String,
    private: Option<Arc<Mutex<Private>>>,
}

impl Runtime {
    /// Finds a runtime, or starts or adopts a private one.
    ///
    /// # Errors
    /// [`Error::NoAnswer`] for a given socket; [`Error::NotInstalled`] and [`Error::NotStarted`] for a private containerd.
    pub async fn connect(options: RuntimeOptions) -> Result<Self, Error> {
        if let Some(socket) = options.socket {
            return Self::foreign(&socket).await;
        }
        for socket in options.known.iter().filter(|socket| socket.exists()) {
            match Self::foreign(socket).await {
                Ok(runtime) => return Ok(runtime),
                Err(error) => debug!(%error, "not used"),
            }
        }
        let private = Private::find(options.private)?;
        let cri = private.ensure().await?;
        Self::new(cri, Some(Arc::new(Mutex::new(private)))).await
    }

    async fn foreign(socket: &Path) -> Result<Self, Error> {
        let runtime = Self::new(Cri::new(socket), None).await;
        runtime.map_err(|error| Error::NoAnswer {
            socket: socket.to_owned(),
            message: error.to_string(),
        })
    }

    async fn new(cri: Cri, private: Option<Arc<Mutex<Private>>>) -> Result<Self, Error> {
        let answer = cri.version().await?;
        info!(runtime = answer.runtime_name, version = answer.runtime_version, socket = %cri.socket().display(), "container runtime");
        Ok(Self {
            cri,
            name: answer.runtime_name,
            version: answer.runtime_version,
            private,
        })
    }

    /// `containerd` or `cri-o`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The runtime's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The runtime's socket.
    pub fn socket(&self) -> &Path {
        self.cri.socket()
    }

    /// Whether it is our private containerd.
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    pub(crate) fn cri(&self) -> &Cri {
        &self.cri
    }

    /// Starts the private containerd again if it has ended; its containers were kept by their shims.
    ///
    /// # Errors
    /// [`Error::NotStarted`], or [`Error::NoAnswer`] when a foreign runtime does not answer.
    pub async fn ensure(&self) -> Result<(), Error> {
        match &self.private {
            Some(private) => private.lock().await.ensure().await.map(|_| ()),
            None => {
                let failed = |error: Error| Error::NoAnswer {
                    socket: self.socket().to_owned(),
                    message: error.to_string(),
                };
                self.cri.version().await.map(|_| ()).map_err(failed)
            }
        }
    }

    /// Keeps a private containerd's log small, and ends what it has lost track of.
    pub(crate) async fn tidy(&self) {
        if let Some(private) = &self.private {
            private.lock().await.trim_log();
        }
        self.sweep(LOST).await;
    }

    /// Ends shims of a private containerd that hold nothing and are older than `age`.
    async fn sweep(&self, age: Duration) {
        let Some(private) = &self.private else { return };
        let sandboxes = self.cri.list_sandboxes(PodSandboxFilter::default()).await;
        let containers = self.cri.list_containers(ContainerFilter::default()).await;
        if let (Ok(sandboxes), Ok(containers)) = (sandboxes, containers) {
            let sandboxes = sandboxes.into_iter().map(|sandbox| sandbox.id);
            let known = sandboxes.chain(containers.into_iter().map(|container| container.id));
            private.lock().await.sweep(&known.collect(), age);
        }
    }

    /// Ends a private containerd (a foreign runtime is left alone). Remove the Pods first: containers that still
    /// run keep running.
    pub async fn shutdown(&self) {
        self.sweep(Duration::ZERO).await;
        if let Some(private) = &self.private {
            private.lock().await.stop().await;
        }
    }
}
