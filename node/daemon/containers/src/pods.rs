//! The Pods of this node: brings what runs to what is wanted, one worker per Pod, and never touches what is right.
//!
//! [`Pods::reconcile`] looks, starts a worker when there is something to do, and answers at once with the status; pulls
//! and grace periods happen in the worker. Nothing is kept in memory that the runtime does not know too, except
//! back-offs of failed pulls and what probes say, so that a new process goes on where the last one stopped.

mod execute;
mod observe;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, Stream};
use k8s_cri::v1 as cri;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::decide::{Action, decide};
use crate::images::ImageSources;
use crate::logs::{self, LogLine, LogOptions};
use crate::observed::{Fault, Observed, RunState};
use crate::pod::{PodKey, PodSpec, hex};
use crate::probes::{Board, Patient, Prober};
use crate::requests::{self, NodeDns};
use crate::status::{PodStatusSummary, summarize};
use crate::{Error, Objects, Runtime, volumes};

/// How often the runtime's lists are compared with the last ones.
const RELIST: Duration = Duration::from_secs(1);
/// How often logs are measured, in relists.
const ROTATE_EVERY: u32 = 10;
/// How often files of ConfigMaps and Secrets are compared with their objects.
const REFRESH: Duration = Duration::from_secs(5);
/// Rounds of a worker without rest; more would mean that its actions have no effect.
const MAX_ROUNDS: u32 = 64;

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
    refreshed: Option<Instant>,
}

impl Pods {
    /// The Pods in `options.folder` and in the runtime; those that run already are adopted as they are.
    ///
    /// # Errors
    /// [`Error::File`] when the folder cannot be made.
    pub fn new(runtime: Runtime, options: PodsOptions, objects: Arc<dyn Objects>) -> Result<Self, Error> {
        // Private: it holds the files of Secrets.
        volumes::make_folder(&options.folder, 0o700)?;
        let folder = std::fs::canonicalize(&options.folder).map_err(Error::file("find", &options.folder))?;
        let instance = hex(&Sha256::digest(folder.as_os_str().as_encoded_bytes()))[..12].to_owned();
        let options = PodsOptions { folder, ..options };
        let (changes, _) = watch::channel(0);
        let shared = Shared { runtime, options, objects, instance, memory: memory(), pods: Mutex::default(), board: Board::default(), changes };
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn(relist(shared.clone()));
        Ok(Self { shared, tasks: Mutex::new(tasks) })
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
        let observed = shared.with_memory(&pod.key, observed);
        let now = Timestamp::now();
        shared.refresh_volumes(pod, &observed);
        if !decide(pod, &observed, now).actions.is_empty() {
            let turn = shared.entry(&pod.key, |entry| (entry.turn.clone(), entry.cancel.clone()));
            if let Ok(guard) = turn.0.try_lock_owned() {
                self.spawn(work(shared.clone(), pod.key.clone(), turn.1, guard));
            }
        }
        Ok(summarize(pod, &observed, shared.runtime.name(), &shared.options.host_ips, now))
    }

    /// How the Pod is now, without a change to it.
    ///
    /// # Errors
    /// [`Error::Cri`] when the runtime does not answer.
    pub async fn status(&self, pod: &PodSpec) -> Result<PodStatusSummary, Error> {
        let observed = self.shared.observe(&pod.key).await?;
        let observed = self.shared.with_memory(&pod.key, observed);
        Ok(summarize(pod, &observed, self.shared.runtime.name(), &self.shared.options.host_ips, Timestamp::now()))
    }

    /// Every Pod of this node that has a sandbox or a folder.
    ///
    /// # Errors
    /// [`Error::Cri`] when the runtime does not answer; [`Error::File`] for the folder.
    pub async fn list(&self) -> Result<Vec<PodKey>, Error> {
        let mut keys: Vec<_> = self.shared.sandboxes().await?.into_iter().filter_map(|sandbox| sandbox.metadata).map(|meta| PodKey::new(meta.namespace, meta.name)).collect();
        let folder = &self.shared.options.folder;
        for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))?.flatten() {
            let name = entry.file_name();
            keys.extend(name.to_str().and_then(|name| name.split_once('_')).map(|(namespace, name)| PodKey::new(namespace, name)));
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// Ends the Pod's containers within `grace` and removes them and the sandbox; volumes and logs stay. Returns when
    /// it is done; until the next [`reconcile`](Self::reconcile) the Pod stays stopped.
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
        let running: Vec<_> = observed.runs.iter().filter(|run| run.exit().is_none()).map(|run| run.id.clone()).collect();
        if !running.is_empty() {
            shared.execute_stop(&running, grace).await?;
        }
        for sandbox in &observed.sandboxes {
            shared.runtime.cri().stop_sandbox(&sandbox.id).await?;
            shared.runtime.cri().remove_sandbox(&sandbox.id).await?;
        }
        shared.forget_health(&observed);
        if !observed.sandboxes.is_empty() {
            info!(pod.namespace = key.namespace, pod.name = key.name, "stopped");
        }
        shared.changed();
        Ok(())
    }

    /// [Stops](Self::stop) the Pod and removes everything of it: volumes, logs, cgroups.
    ///
    /// # Errors
    /// [`Error::Cri`], or [`Error::File`] for what cannot be removed.
    pub async fn remove(&self, key: &PodKey, grace: Duration) -> Result<(), Error> {
        self.stop(key, grace).await?;
        let shared = &self.shared;
        volumes::remove(&shared.pod_folder(key))?;
        shared.remove_cgroups(key);
        shared.lock().remove(key);
        shared.changed();
        Ok(())
    }

    /// Lines of a container's log, oldest first. `container` may be left out for a Pod with one container.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container or it has no log.
    pub fn logs(&self, pod: &PodSpec, container: Option<&str>, options: LogOptions) -> Result<impl Stream<Item = Result<LogLine, Error>> + Send + use<>, Error> {
        let name = match (container, pod.containers.as_slice()) {
            (Some(name), _) if pod.container(name).is_some() => name.to_owned(),
            (None, [only]) => only.name.clone(),
            (other, _) => {
                let names: Vec<_> = pod.init_containers.iter().chain(&pod.containers).map(|container| container.name.as_str()).collect();
                let other = other.map_or_else(|| "a container must be named:".to_owned(), |name| format!("container \"{name}\" in"));
                return Err(Error::NotFound(format!("{other} Pod {} has {}, which is", pod.key, names.join(", "))));
            }
        };
        let path = logs::find(&self.shared.pod_folder(&pod.key).join("logs"), &name, options.previous)?;
        let (shared, key, previous) = (self.shared.clone(), pod.key.clone(), options.previous);
        let attempt = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
        let ended = Box::new(move || {
            let (shared, key, name) = (shared.clone(), key.clone(), name.clone());
            async move {
                let observed = shared.observe(&key).await;
                let runs = |run: &crate::observed::Run| run.name == name && Some(run.attempt) == attempt && run.exit().is_none();
                previous || observed.is_ok_and(|observed| !observed.runs.iter().any(runs))
            }
            .boxed()
        });
        Ok(logs::read(path, options, ended))
    }

    /// Runs a command in a running container and gives exit code, standard output and standard error.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container does not run; [`Error::Cri`] when the command cannot be run or takes
    /// longer than `limit`.
    pub async fn exec(&self, key: &PodKey, container: &str, command: &[String], limit: Duration) -> Result<(i32, Vec<u8>, Vec<u8>), Error> {
        let observed = self.shared.observe(key).await?;
        let run = observed.run(container).filter(|run| matches!(run.state, RunState::Running { .. }));
        let run = run.ok_or_else(|| Error::NotFound(format!("running container {container} in Pod {key}")))?;
        let answer = self.shared.runtime.cri().exec_sync(&run.id, command, limit).await?;
        Ok((answer.exit_code, answer.stdout, answer.stderr))
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
            let same = entry.desired.as_ref().is_some_and(|old| old.digest == pod.digest && old.uid == pod.uid);
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
        observed.probes = observed.runs.iter().filter_map(|run| Some((run.id.clone(), board.get(&run.id)?.clone()))).collect();
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
                let Some(container) = pod.container(&run.name) else { continue };
                entry.probers.entry(id.clone()).or_insert_with(|| {
                    Prober::begin(Patient {
                        cri: self.runtime.cri().clone(),
                        id: id.clone(),
                        pod_ip: observed.sandbox().and_then(|sandbox| sandbox.ips.first().cloned()),
                        container: container.clone(),
                        started_at: *since,
                        board: self.board.clone(),
                        changes: self.changes.clone(),
                    })
                });
            }
            let gone: Vec<_> = entry.probers.keys().filter(|id| !running.contains_key(*id)).cloned().collect();
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
        let due = self.entry(&pod.key, |entry| {
            let due = entry.refreshed.is_none_or(|then| then.elapsed() > REFRESH);
            if due {
                entry.refreshed = Some(Instant::now());
            }
            due
        });
        if due && let Err(why) = volumes::refresh(&self.pod_folder(&pod.key), pod, self.objects.as_ref()) {
            warn!(pod.namespace = pod.key.namespace, pod.name = pod.key.name, why, "cannot update volumes");
        }
    }

    /// Puts logs aside that have grown too large.
    async fn rotate_logs(&self) {
        let keys: Vec<_> = self.lock().keys().cloned().collect();
        for key in keys {
            let folder = self.pod_folder(&key).join("logs");
            let Ok(observed) = self.observe(&key).await else { return };
            for run in observed.runs.iter().filter(|run| matches!(run.state, RunState::Running { .. })) {
                let path = folder.join(&run.name).join(format!("{}.log", run.attempt));
                if std::fs::metadata(&path).is_ok_and(|data| data.len() > logs::MAX_SIZE)
                    && std::fs::rename(&path, logs::older(&path)).is_ok()
                    && let Err(error) = self.runtime.cri().reopen_log(&run.id).await
                {
                    warn!(container = run.name, %error, "cannot begin a new log file");
                }
            }
        }
    }

    fn cgroup_parent(&self, key: Option<&PodKey>) -> String {
        let all = format!("/catamaran/pods-{}", self.instance);
        key.map_or_else(|| all.clone(), |key| format!("{all}/{}", key.folder_name()))
    }

    /// The runtime makes the Pod's parent cgroups and leaves them.
    fn remove_cgroups(&self, key: &PodKey) {
        if !self.runtime.is_private() {
            return;
        }
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
        for mount in mounts.map(Path::new) {
            for group in [self.cgroup_parent(Some(key)), self.cgroup_parent(None), "/catamaran".to_owned()] {
                let path = mount.join(group.trim_start_matches('/'));
                // Those that others still use are not empty, and stay.
                if std::fs::remove_dir(&path).is_err() {
                    break;
                }
            }
        }
    }
}

/// Memory of this machine in bytes.
fn memory() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(1 << 20).saturating_mul(1024)
}

/// Works on one Pod until there is nothing more to do, or something failed and has to wait.
async fn work(shared: Arc<Shared>, key: PodKey, cancel: CancellationToken, _turn: tokio::sync::OwnedMutexGuard<()>) {
    for _ in 0..MAX_ROUNDS {
        let Some(pod) = shared.entry(&key, |entry| entry.desired.clone()) else { break };
        let observed = match shared.observe(&key).await {
            Ok(observed) => shared.with_memory(&key, observed),
            Err(error) => {
                warn!(pod.namespace = key.namespace, pod.name = key.name, %error, "cannot look");
                break;
            }
        };
        let decision = decide(&pod, &observed, Timestamp::now());
        if decision.actions.is_empty() || cancel.is_cancelled() {
            break;
        }
        for action in decision.actions {
            if cancel.is_cancelled() {
                break;
            }
            debug!(pod.namespace = key.namespace, pod.name = key.name, ?action);
            if !shared.execute(&pod, action, &cancel).await {
                break;
            }
        }
        shared.changed();
    }
    drop(_turn);
    shared.changed();
}

/// Notices what happens in the runtime, starts a private runtime again when it has ended, and keeps logs small.
async fn relist(shared: Arc<Shared>) {
    let mut ticks = interval(RELIST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    let mut round = 0_u32;
    loop {
        ticks.tick().await;
        round = round.wrapping_add(1);
        match timeout(Duration::from_secs(30), shared.summary()).await {
            Ok(Ok(now)) => {
                if last.as_ref() != Some(&now) {
                    last = Some(now);
                    shared.changed();
                }
            }
            Ok(Err(error)) if error.is_unreachable() => {
                warn!(%error, "the container runtime does not answer");
                if let Err(error) = shared.runtime.ensure().await {
                    warn!(error = error.chain(), "the container runtime cannot be reached");
                }
            }
            Ok(Err(error)) => warn!(%error, "cannot list Pods"),
            Err(_) => warn!("the container runtime takes more than 30 s to list Pods"),
        }
        if round.is_multiple_of(ROTATE_EVERY) {
            shared.rotate_logs().await;
            shared.runtime.trim_log().await;
        }
    }
}

/// State of a sandbox or container in the runtime's lists: id and state.
type Listed = Vec<(String, i32)>;

impl Shared {
    async fn sandboxes(&self) -> Result<Vec<cri::PodSandbox>, Error> {
        let label_selector = HashMap::from([(requests::INSTANCE.to_owned(), self.instance.clone())]);
        self.runtime.cri().list_sandboxes(cri::PodSandboxFilter { label_selector, ..cri::PodSandboxFilter::default() }).await
    }

    async fn summary(&self) -> Result<(Listed, Listed), Error> {
        let mut sandboxes: Listed = self.sandboxes().await?.into_iter().map(|sandbox| (sandbox.id, sandbox.state)).collect();
        let label_selector = HashMap::from([(requests::INSTANCE.to_owned(), self.instance.clone())]);
        let containers = self.runtime.cri().list_containers(cri::ContainerFilter { label_selector, ..cri::ContainerFilter::default() }).await?;
        let mut containers: Listed = containers.into_iter().map(|container| (container.id, container.state)).collect();
        sandboxes.sort();
        containers.sort();
        Ok((sandboxes, containers))
    }
}

impl Action {
    /// The container it is for, if it is for one.
    fn container(&self) -> Option<&str> {
        match self {
            Self::Start { container, .. } => Some(container),
            _ => None,
        }
    }
}
