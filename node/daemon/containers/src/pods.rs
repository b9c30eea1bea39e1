//! The Pods of this node: brings what runs to what is wanted, one worker per Pod, and never touches what is right.
//!
//! [`Pods::reconcile`] looks, starts a worker when there is something to do, and answers at once with the status; pulls
//! and grace periods happen in the worker. Nothing is kept in memory that the runtime does not know too, except
//! back-offs of failed pulls and what probes say, so that a new process goes on where the last one stopped.

mod cgroups;
mod execute;
mod observe;
mod streams;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::decide::decide;
use crate::images::ImageSources;
use crate::observed::{Fault, Observed, RunState};
use crate::pod::{PodKey, PodSpec};
use crate::probes::{Board, Patient, Prober};
use crate::requests::NodeDns;
use crate::status::{PodStatusSummary, summarize};
use crate::{Error, Objects, Runtime, volumes};

/// What Pods need to know of their node.
#[derive(Clone, Debug)]
pub struct PodsOptions {
    /// Folder of all Pods' files; it also tells our Pods from those of others in the same runtime.
    pub folder: PathBuf,
    /// Where images come from.
    pub images: ImageSources,
    /// This node's name server.
    pub dns: NodeDns,
    /// `spec.nodeName` for `fieldRef`.
    pub node_name: String,
    /// Addresses of this node, primary first.
    pub host_ips: Vec<IpAddr>,
    /// Hand host ports to CNI (its `portmap` plugin); otherwise the caller makes them, from [`PodSpec::host_ports`].
    pub port_mappings: bool,
}

/// The Pods of this node. Dropping it ends no container.
pub struct Pods {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    runtime: Runtime,
    options: PodsOptions,
    objects: Arc<dyn Objects>,
    /// Tells our Pods from those of others in the same runtime.
    instance: String,
    /// Memory of this machine in bytes.
    memory: i64,
    pods: Mutex<HashMap<PodKey, Entry>>,
    board: Board,
    changes: watch::Sender<u64>,
}

/// What is remembered of a Pod.
#[derive(Default)]
struct Entry {
    desired: Option<Arc<PodSpec>>,
    /// Held by whoever changes the Pod.
    turn: Arc<tokio::sync::Mutex<()>>,
    cancel: CancellationToken,
    faults: BTreeMap<String, Fault>,
    pod_fault: Option<Fault>,
    probers: HashMap<String, Prober>,
}

impl Pods {
    /// The Pods in `options.folder` and in the runtime; those that run already are adopted as they are.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be made.
    pub fn new(
        runtime: Runtime,
        options: PodsOptions,
        objects: Arc<dyn Objects>,
    ) -> Result<Self, Error> {
        // Private: it holds the files of Secrets.
        volumes::make_folder(&options.folder, 0o700)?;
        let folder =
            std::fs::canonicalize(&options.folder).map_err(Error::file("find", &options.folder))?;
        let instance =
            hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()))[..12].to_owned();
        let options = PodsOptions { folder, ..options };
        let (changes, _) = watch::channel(0);
        let shared = Shared {
            runtime,
            options,
            objects,
            instance,
            memory: memory(),
            pods: Mutex::default(),
            board: Board::default(),
            changes,
        };
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(worker::relist(shared.clone()));
        Ok(Self {
            shared,
            tasks: Mutex::new(tasks),
        })
    }

    /// A counter that goes up whenever a Pod may have changed: reconcile then, and at [`PodStatusSummary::look_again`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// Brings the Pod to what `pod` says, and tells how it is now. Returns at once: work that takes time goes on in the
    /// background, and a [change](Self::changes) follows it. Call it again and again; when all is well, it only looks.
    ///
    /// # Errors
    /// [`Error::Cri`] when the runtime does not answer (a private one is started again first).
    pub async fn reconcile(&self, pod: &PodSpec) -> Result<PodStatusSummary, Error> {
        let shared = &self.shared;
        shared.want(pod);
        let observed = match shared.observe(&pod.key).await {
            Err(error) if error.is_unreachable() => {
                shared.runtime.ensure().await?;
                shared.observe(&pod.key).await?
            }
            other => other?,
        };
        shared.probe(pod, &observed);
        let mut observed = shared.with_memory(&pod.key, observed);
        let now = Timestamp::now();
        shared.refresh_volumes(pod, &observed);
        if decide(pod, &observed, now).actions.is_empty() {
            // What failed has its time behind it, and nothing is left to do about it.
            if observed
                .pod_fault
                .as_ref()
                .is_some_and(|fault| fault.retry_at <= now)
            {
                observed.pod_fault = None;
                shared.entry(&pod.key, |entry| entry.pod_fault = None);
            }
        } else {
            let turn = shared.entry(&pod.key, |entry| (entry.turn.clone(), entry.cancel.clone()));
            if let Ok(guard) = turn.0.try_lock_owned() {
                self.spawn(worker::work(shared.clone(), pod.key.clone(), turn.1, guard));
            }
        }
        Ok(summarize(
            pod,
            &observed,
            shared.runtime.name(),
            &shared.options.host_ips,
            now,
        ))
    }

    /// How the Pod is now, without a change to it.
    ///
    /// # Errors
    /// [`Error::Cri`] when the runtime does not answer.
    pub async fn status(&self, pod: &PodSpec) -> Result<PodStatusSummary, Error> {
        let observed = self.shared.observe(&pod.key).await?;
        let observed = self.shared.with_memory(&pod.key, observed);
        Ok(summarize(
            pod,
            &observed,
            self.shared.runtime.name(),
            &self.shared.options.host_ips,
            Timestamp::now(),
        ))
    }

    /// Every Pod of this node that has a sandbox or a folder.
    ///
    /// # Errors
    /// [`Error::Cri`] when the runtime does not answer; [`Error::File`] for the folder.
    pub async fn list(&self) -> Result<Vec<PodKey>, Error> {
        let mut keys: Vec<_> = self
            .shared
            .sandboxes()
            .await?
            .into_iter()
            .filter_map(|sandbox| sandbox.metadata)
            .map(|meta| PodKey::new(meta.namespace, meta.name))
            .collect();
        let folder = &self.shared.options.folder;
        for entry in std::fs::read_dir(folder)
            .map_err(Error::file("read", folder))?
            .flatten()
        {
            let name = entry.file_name();
            keys.extend(
                name.to_str()
                    .and_then(|name| name.split_once('_'))
                    .map(|(namespace, name)| PodKey::new(namespace, name)),
            );
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Ends the Pod's containers within `grace` and removes them and the sandbox; volumes (but not those in memory) and
    /// logs stay. Returns when it is done; until the next [`reconcile`](Self::reconcile) the Pod stays stopped.
    ///
    /// # Errors
    /// [`Error::Cri`].
    pub async fn stop(&self, key: &PodKey, grace: Duration) -> Result<(), Error> {
        let shared = &self.shared;
        let turn = shared.entry(key, |entry| {
            entry.desired = None;
            entry.probers.clear();
            entry.cancel.cancel();
            entry.cancel = CancellationToken::new();
            entry.turn.clone()
        });
        let _guard = turn.lock().await;
        let observed = shared.observe(key).await?;
        let running: Vec<_> = observed
            .runs
            .iter()
            .filter(|run| run.exit().is_none())
            .map(|run| run.id.clone())
            .collect();
        if !running.is_empty() {
            shared.execute_stop(&running, grace).await?;
        }
        for sandbox in &observed.sandboxes {
            shared.runtime.cri().stop_sandbox(&sandbox.id).await?;
            shared.runtime.cri().remove_sandbox(&sandbox.id).await?;
        }
        shared.forget_health(&observed);
        volumes::unmount_below(&shared.pod_folder(key))?;
        shared.remove_cgroups(key);
        // Nothing to do is no change, so that a caller may stop it at every change.
        if !observed.sandboxes.is_empty() {
            info!(
                pod.namespace = key.namespace,
                pod.name = key.name,
                "stopped"
            );
            shared.changed();
        }
        Ok(())
    }

    /// [Stops](Self::stop) the Pod and removes its volumes and logs.
    ///
    /// # Errors
    /// [`Error::Cri`], or [`Error::File`] for what cannot be removed.
    pub async fn remove(&self, key: &PodKey, grace: Duration) -> Result<(), Error> {
        self.stop(key, grace).await?;
        let shared = &self.shared;
        volumes::remove(&shared.pod_folder(key))?;
        shared.lock().remove(key);
        Ok(())
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                warn!(%error, "a worker ended badly");
            }
        }
        tasks.spawn(work);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<PodKey, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry<T>(&self, key: &PodKey, use_it: impl FnOnce(&mut Entry) -> T) -> T {
        use_it(self.lock().entry(key.clone()).or_default())
    }

    fn changed(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }

    fn pod_folder(&self, key: &PodKey) -> PathBuf {
        self.options.folder.join(key.folder_name())
    }

    /// Remembers what is wanted; a changed Pod starts with a clean slate, and a pull for the old one is given up.
    fn want(&self, pod: &PodSpec) {
        self.entry(&pod.key, |entry| {
            let same = entry
                .desired
                .as_ref()
                .is_some_and(|old| old.digest == pod.digest && old.uid == pod.uid);
            if !same {
                entry.faults.clear();
                entry.pod_fault = None;
                entry.cancel.cancel();
                entry.cancel = CancellationToken::new();
            }
            if entry.desired.as_deref() != Some(pod) {
                entry.desired = Some(Arc::new(pod.clone()));
            }
        });
    }

    /// Adds what this process remembers.
    fn with_memory(&self, key: &PodKey, mut observed: Observed) -> Observed {
        self.entry(key, |entry| {
            observed.faults = entry.faults.clone();
            observed.pod_fault = entry.pod_fault.clone();
        });
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        observed.probes = observed
            .runs
            .iter()
            .filter_map(|run| Some((run.id.clone(), board.get(&run.id)?.clone())))
            .collect();
        observed
    }

    /// Begins probes of containers that have come to run, and ends those of containers that are gone.
    fn probe(&self, pod: &PodSpec, observed: &Observed) {
        let current = observed.is_current(pod);
        let running: HashMap<_, _> = observed
            .runs
            .iter()
            .filter_map(|run| match &run.state {
                RunState::Running { since } if current => Some((run.id.clone(), (run, *since))),
                _ => None,
            })
            .collect();
        let gone = self.entry(&pod.key, |entry| {
            for (id, (run, since)) in &running {
                let Some(container) = pod.container(&run.name) else {
                    continue;
                };
                entry.probers.entry(id.clone()).or_insert_with(|| {
                    Prober::begin(Patient {
                        cri: self.runtime.cri().clone(),
                        id: id.clone(),
                        pod_ip: observed
                            .sandbox()
                            .and_then(|sandbox| sandbox.ips.first().cloned()),
                        container: container.clone(),
                        started_at: *since,
                        board: self.board.clone(),
                        changes: self.changes.clone(),
                    })
                });
            }
            let gone: Vec<_> = entry
                .probers
                .keys()
                .filter(|id| !running.contains_key(*id))
                .cloned()
                .collect();
            entry.probers.retain(|id, _| running.contains_key(id));
            gone
        });
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        for id in gone {
            board.remove(&id);
        }
    }

    fn forget_health(&self, observed: &Observed) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        for run in &observed.runs {
            board.remove(&run.id);
        }
    }

    /// Updates files of ConfigMaps and Secrets in a Pod that runs.
    fn refresh_volumes(&self, pod: &PodSpec, observed: &Observed) {
        if !observed.is_current(pod) || observed.runs.is_empty() {
            return;
        }
        if let Err(why) = volumes::refresh(&self.pod_folder(&pod.key), pod, self.objects.as_ref()) {
            warn!(
                pod.namespace = pod.key.namespace,
                pod.name = pod.key.name,
                why,
                "cannot update volumes"
            );
        }
    }
}

/// Memory of this machine in bytes.
fn memory() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<i64>()
            .ok()
    });
    kib.unwrap_or(1 << 20).saturating_mul(1024)
}
