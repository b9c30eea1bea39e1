//! The daemon: what all its parts share.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catamaran_images::ImageStore;
use catamaran_network::HostNetwork;
use catamaran_wire::Stream;
use indicatif::MultiProgress;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::machine::Machines;
use crate::machine::claims::Claims;
use crate::serve::events::Events;
use crate::serve::host::Host;
use crate::serve::layout::Layout;
use crate::serve::manifest::Document;
use crate::serve::pods::Pods;
use crate::serve::store::{Key, Kind, Store, StoreError};
use crate::serve::time;
use crate::usage::History;
use crate::viewers::{self, Looking, Viewers};

/// What the operator set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Programs besides this one.
    pub libexec: PathBuf,
    /// DHCP lease; `None` = for ever.
    pub lease: Option<Duration>,
    /// Bytes that an overlay may grow to.
    pub overlay_limit: Option<u64>,
    /// Machines are started under KVM or not at all.
    pub require_kvm: bool,
    /// Show progress bars where a person looks on.
    pub bars: bool,
}

/// How to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Delete all objects too.
    pub delete: bool,
    /// The disks of claims too.
    pub volumes: bool,
}

/// What all parts of the daemon share.
#[derive(Debug)]
pub struct Daemon {
    /// Folders.
    pub layout: Layout,
    /// Settings.
    pub settings: Settings,
    /// Objects.
    pub store: Arc<Store>,
    /// Events.
    pub events: Arc<Events>,
    /// This machine.
    pub host: Host,
    /// Image cache.
    pub images: ImageStore,
    /// Bridge, addresses, names.
    pub network: HostNetwork,
    /// Pods; `None` where no container runtime is to be had, with the reason.
    pub pods: Result<Pods, String>,
    /// Who has which disk.
    pub claims: Claims,
    /// Running machines.
    pub machines: Machines,
    /// Versioned programs that machines run.
    pub code: PathBuf,
    /// Tasks of clients' streams.
    pub streams: Streams,
    /// Who looks at machines.
    pub viewers: Viewers,
    /// What machines used.
    pub usage: History,
    /// Progress bars.
    pub bars: MultiProgress,
    /// Tells daemons with different state folders apart.
    pub identity: String,
    images_in_use: Mutex<BTreeMap<Key, Vec<String>>>,
    shutdown: watch::Sender<Option<Shutdown>>,
    shutdown_words: Mutex<Option<mpsc::Sender<String>>>,
}

/// Tasks that nobody waits for; they end with the daemon.
#[derive(Debug, Default)]
pub struct Streams(Mutex<JoinSet<()>>);

impl Streams {
    /// Starts one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }
}

/// The parts of a daemon that are made by its start.
#[derive(Debug)]
pub struct Parts {
    /// As in [`Daemon`].
    pub layout: Layout,
    /// As in [`Daemon`].
    pub settings: Settings,
    /// As in [`Daemon`].
    pub store: Arc<Store>,
    /// As in [`Daemon`].
    pub host: Host,
    /// As in [`Daemon`].
    pub images: ImageStore,
    /// As in [`Daemon`].
    pub network: HostNetwork,
    /// As in [`Daemon`].
    pub pods: Result<Pods, String>,
    /// As in [`Daemon`].
    pub code: PathBuf,
    /// As in [`Daemon`].
    pub identity: String,
}

impl Daemon {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            layout,
            settings,
            store,
            host,
            images,
            network,
            pods,
            code,
            identity,
        } = parts;
        Self {
            layout,
            settings,
            store,
            events: Arc::default(),
            host,
            images,
            network,
            pods,
            claims: Claims::default(),
            machines: Machines::default(),
            code,
            streams: Streams::default(),
            viewers: Viewers::default(),
            usage: History::default(),
            bars: MultiProgress::new(),
            identity,
            images_in_use: Mutex::default(),
            shutdown: watch::Sender::new(None),
            shutdown_words: Mutex::default(),
        }
    }

    /// Somebody begins to look at a machine. Whoever reaches this daemon is root.
    #[must_use]
    pub fn looks(&self, machine: &Key, once: Option<&str>, stream: &Stream) -> Looking {
        let (word, read_only) = viewers::seen(stream);
        let machine = machine.to_string();
        self.viewers.enter(&machine, once, "root", word, read_only)
    }

    /// Applies checked objects.
    ///
    /// # Errors
    /// When one is being deleted or asks for less than its disk has: nothing is applied then. When one can't be written: those before it are applied.
    pub fn apply(&self, documents: &[Document]) -> Result<Vec<Value>, StoreError> {
        let now = time::now();
        let apply = |document: &Document| {
            let outcome = self.store.apply(
                &document.key,
                document.object.clone(),
                document.path.as_deref(),
                &now,
            )?;
            Ok(
                json!({"kind": document.key.kind, "namespace": document.key.namespace, "name": document.key.name, "outcome": outcome}),
            )
        };
        // What is on its way out is found before anything is written.
        if let Some(gone) = documents.iter().find(|document| {
            self.store
                .get(&document.key)
                .is_some_and(|stored| stored.deleting())
        }) {
            return Err(StoreError::Deleting(gone.key.clone()));
        }
        for Document { key, object, .. } in documents {
            let folder = self.layout.claim(&key.namespace, &key.name);
            if key.kind == Kind::PersistentVolumeClaim
                && let Some((asked, has)) = crate::machine::volumes::shrinks(object, &folder)
            {
                return Err(StoreError::Smaller {
                    key: key.clone(),
                    asked,
                    has,
                });
            }
        }
        documents.iter().map(apply).collect()
    }

    /// Asks for the deletion of an object, as [`Daemon::take_down`], unless its file would bring it back.
    ///
    /// # Errors
    /// When there is none, or its file is still watched.
    pub fn delete(&self, key: &Key, volumes: bool) -> Result<(), StoreError> {
        let stored = self
            .store
            .get(key)
            .ok_or_else(|| StoreError::NotFound(key.clone()))?;
        if let Some(file) = stored.source.filter(|file| file.exists()) {
            return Err(StoreError::Watched {
                key: key.clone(),
                file,
            });
        }
        self.take_down(key, volumes)
    }

    /// Asks for the deletion of an object whether or not a file has it. Objects that nobody runs go at once.
    ///
    /// # Errors
    /// When there is none, it is in use, or its file can't be removed.
    pub fn take_down(&self, key: &Key, volumes: bool) -> Result<(), StoreError> {
        match key.kind {
            Kind::VirtualMachine | Kind::VirtualMachineInstance | Kind::Pod => {
                self.store.mark_deleted(key, &time::now())
            }
            Kind::ConfigMap | Kind::Secret => self.store.remove(key),
            Kind::PersistentVolumeClaim => {
                let folder = self.layout.claim(&key.namespace, &key.name);
                if let Some(owner) = self
                    .claims
                    .owner(&folder.join(crate::machine::volumes::CLAIM_FILE))
                {
                    return Err(StoreError::InUse {
                        key: key.clone(),
                        owner,
                    });
                }
                if volumes {
                    crate::machine::record::ignore_missing(std::fs::remove_dir_all(&folder))
                        .map_err(|source| StoreError::Io {
                            path: folder,
                            source,
                        })?;
                }
                self.store.remove(key)
            }
        }
    }

    /// Remembers which images a machine uses, so that they are not collected.
    pub fn images_in_use(&self, machine: &Key, images: &[String]) {
        let mut in_use = self
            .images_in_use
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if images.is_empty() {
            in_use.remove(machine);
        } else {
            in_use.insert(machine.clone(), images.to_vec());
        }
    }

    /// Images that some machine uses.
    #[must_use]
    pub fn used_images(&self) -> Vec<String> {
        self.images_in_use
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .values()
            .flatten()
            .cloned()
            .collect()
    }

    /// libvirt's capabilities cache, made once for all machines.
    #[must_use]
    pub fn capabilities(&self) -> PathBuf {
        self.layout.host().join("capabilities")
    }

    /// Asks everything to stop; the words come line by line, and end with the daemon.
    pub fn shut_down(&self, how: Shutdown) -> mpsc::Receiver<String> {
        let (words, lines) = mpsc::channel(64);
        *self
            .shutdown_words
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(words);
        self.shutdown.send_replace(Some(how));
        lines
    }

    /// Whether everything is to stop.
    #[must_use]
    pub fn stopping(&self) -> watch::Receiver<Option<Shutdown>> {
        self.shutdown.subscribe()
    }

    /// A line for whoever asked for the shutdown.
    pub fn tell_shutdown(&self, line: String) {
        let words = self
            .shutdown_words
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(words) = words.as_ref() {
            // A reader that has gone or sleeps does not hold up the shutdown.
            let _ = words.try_send(line);
        }
    }

    /// Ends the answer of whoever asked for the shutdown.
    pub fn end_shutdown_words(&self) {
        self.shutdown_words
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
    }
}
