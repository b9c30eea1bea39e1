//! The task of one instance: follows its object and its launcher, and does what follows from both.
//!
//! ```text
//!   object (watch) ──┐
//!                    ├──> decide() ──> start, publish, stop, finish
//!   launcher reports ┘
//! ```
//!
//! Level-triggered: each step looks at everything anew, so that a daemon that was killed at any line goes on where it was. The guest never
//! depends on this task: it runs in its pod, under its own init.

pub mod aside;
mod hotplug;
mod publish;
mod thaw;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use catamaran_lifecycle::Phase;
use catamaran_wire::{Verb, VmReport, VmState};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use self::aside::Aside;
use crate::kubernetes::decide::{Act, decide};
use crate::kubernetes::events::{self, Kind, Said};
use crate::kubernetes::hotplug::pace::Paces;
use crate::kubernetes::inside::Inside;
use crate::kubernetes::instance::Instance;
use crate::kubernetes::session::Session;
use crate::kubernetes::world::{Entry, World};
use crate::kubernetes::{start, status, vanished};
use crate::machine::error::StartError;
use crate::machine::launcher::{self, Launcher};
use crate::machine::record::ignore_missing;
use crate::machine::status::seconds;
use crate::serve::store::Key;

/// Pause after a failed step; doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause between tries.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Pause before a launcher is dialled again; doubles up to [`LONGEST_REDIAL`].
const FIRST_REDIAL: Duration = Duration::from_millis(50);
/// Longest pause between dials.
const LONGEST_REDIAL: Duration = Duration::from_secs(5);
/// Dials of a launcher whose run is over, before it counts as gone.
const LAST_DIALS: u32 = 10;
/// Dials in vain, some six seconds, before a guest counts as over whose pod has vanished: the controller, which may have seen how it ended, comes first.
const PATIENT_DIALS: u32 = 7;
/// Time beyond the grace period after which the guest is destroyed.
const OVERDUE: Duration = Duration::from_secs(20);

/// The newest object; `None` once it is gone.
pub type Object = Option<Arc<Instance>>;

/// A task's memory; all of it can be had again.
#[derive(Debug)]
struct Task {
    world: Arc<World>,
    key: Key,
    latest: Object,
    said: Said,
    connection: Option<Connection>,
    session: Option<Session>,
    /// Grace period that the launcher was asked to stop with, and when its guest is destroyed.
    stop: Option<(u32, Instant)>,
    /// When each volume that comes or goes is looked at.
    paces: Paces,
    /// Attachment pod that is known to hold what the guest uses, by volume.
    bound: HashMap<String, String>,
    aside: Aside,
    tries: u32,
    dials: u32,
}

#[derive(Debug)]
struct Connection {
    launcher: Launcher,
    reports: watch::Receiver<Option<VmReport>>,
    inside: Arc<Inside>,
    task: AbortHandle,
    /// The sockets of the guest's DHCP servers were handed over.
    served: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// When to look again without being woken.
enum Next {
    At(Option<Instant>),
    Done,
}

/// Follows an instance until its object is gone.
pub async fn run(world: Arc<World>, key: Key, mut objects: watch::Receiver<Object>) -> Key {
    let mut task = Task {
        world,
        key: key.clone(),
        latest: None,
        said: Said::default(),
        connection: None,
        session: None,
        stop: None,
        paces: Paces::default(),
        bound: HashMap::new(),
        aside: Aside::default(),
        tries: 0,
        dials: 0,
    };
    let mut ended = task.world.frozen.ended();
    loop {
        let object = objects.borrow_and_update().clone();
        task.take(object);
        let at = match task.step().await {
            Ok(Next::Done) => break,
            Ok(Next::At(at)) => at,
            Err(error) => Some(task.failed(&error).await),
        };
        tokio::select! {
            changed = objects.changed() => if changed.is_err() { break },
            () = task.changed() => {}
            _ = ended.changed() => {}
            () = catamaran_client::until(at) => {}
        }
    }
    key
}

impl Task {
    /// Takes the watch's object, unless our own write has brought a newer one.
    fn take(&mut self, object: Object) {
        let Some(new) = object else {
            self.latest = None;
            return;
        };
        match &self.latest {
            Some(old) if old.uid == new.uid && !new.supersedes(old) => {}
            old => {
                if let Some(old) = old.as_ref().filter(|old| old.uid != new.uid) {
                    self.world.frozen.forget(old.uid);
                    // Another run of the same name.
                    self.connection = None;
                    self.session = None;
                    self.stop = None;
                    self.paces.clear();
                    self.bound.clear();
                    self.aside = Aside::default();
                    self.tries = 0;
                }
                self.latest = Some(new);
            }
        }
    }

    /// Until the launcher says something, or goes.
    async fn changed(&mut self) {
        match &mut self.connection {
            // The channel closes with the connection; the next step sees it.
            Some(connection) if connection.launcher.connected() => {
                let _ = connection.reports.changed().await;
            }
            _ => std::future::pending().await,
        }
    }

    async fn step(&mut self) -> Result<Next, StartError> {
        let Some(instance) = self.latest.clone() else {
            self.forget();
            return Ok(Next::Done);
        };
        let Some(pod) = instance.pod.clone() else {
            self.register(&instance, None);
            return Ok(Next::At(None));
        };
        if !self.connect(&instance, &pod).await? {
            self.register(&instance, Some(&pod));
            if self.has_vanished(&instance, &pod)? {
                self.publish_vanished(&instance).await?;
                return Ok(Next::At(None));
            }
            return Ok(Next::At(self.redial(&instance, &pod)));
        }
        self.register(&instance, Some(&pod));
        let report = self
            .connection
            .as_mut()
            .and_then(|connection| connection.reports.borrow_and_update().clone());
        let Some(report) = report else {
            return Ok(Next::At(None));
        };
        self.act(&instance, &pod, &report).await
    }

    async fn act(
        &mut self,
        instance: &Arc<Instance>,
        pod: &str,
        report: &VmReport,
    ) -> Result<Next, StartError> {
        let view = instance.view();
        let asked = self.stop.map(|(grace, _)| grace);
        let act = decide(&view, &report.state, asked);
        if matches!(act, Act::Publish | Act::Stop(_)) {
            self.serve(instance, pod).await?;
        }
        let mut again = None;
        let mut thaw = None;
        if matches!(act, Act::Publish | Act::Stop(_)) {
            let stopping = matches!(act, Act::Stop(_));
            thaw = self.thaw(instance, stopping).await;
        }
        match act {
            Act::Wait => {}
            Act::Start => {
                let Some(connection) = self.connection.as_mut() else {
                    return Ok(Next::At(None));
                };
                let session = start::run(
                    &self.world,
                    instance,
                    pod,
                    &connection.launcher,
                    &connection.inside,
                    &mut self.aside,
                )
                .await?;
                connection.served = true;
                events::left_out(&self.world, &self.said, instance, &session.plan.notes);
                self.session = Some(session);
            }
            Act::Publish => {
                self.publish_running(instance, report).await?;
                again = Box::pin(self.hotplug(pod, report)).await?;
            }
            Act::Stop(grace) => {
                if !view.phase.is_final()
                    && matches!(report.state, VmState::Running | VmState::Paused { .. })
                {
                    self.publish_running(instance, report).await?;
                }
                self.ask(Verb::Stop {
                    grace_period_seconds: Some(grace),
                })
                .await?;
                let overdue = Instant::now() + Duration::from_secs(u64::from(grace)) + OVERDUE;
                self.stop = Some((grace, overdue));
            }
            Act::End => {
                self.publish_end(instance, report).await?;
                self.finish().await;
            }
            Act::Finish => self.finish().await,
        }
        self.tries = 0;
        if let Some((_, overdue)) = self.stop {
            if Instant::now() >= overdue {
                self.ask(Verb::Destroy).await?;
                return Ok(Next::At(Some(Instant::now() + OVERDUE)));
            }
            return Ok(Next::At(
                [again, thaw, Some(overdue)].into_iter().flatten().min(),
            ));
        }
        Ok(Next::At([again, thaw].into_iter().flatten().min()))
    }

    /// Connects to the launcher; whether it is there.
    async fn connect(&mut self, instance: &Instance, pod: &str) -> Result<bool, StartError> {
        let connected = |connection: &Connection| connection.launcher.connected();
        if self.connection.as_ref().is_some_and(connected) {
            return Ok(true);
        }
        self.connection = None;
        let folder = self.world.run_folder(pod);
        let (launcher, task) = match launcher::connect(&folder).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!(
                    vm = %instance.key, error = catamaran_client::chain(&error),
                    "the launcher is not there"
                );
                return Ok(false);
            }
        };
        let task = self.world.streams.spawn(task);
        let Some(inside) = launcher
            .peer()
            .and_then(|pid| Inside::of_launcher(pid, &folder).ok())
        else {
            task.abort();
            return Ok(false);
        };
        self.dials = 0;
        // What another launcher has mounted says nothing about this one.
        self.bound.clear();
        self.connection = Some(Connection {
            reports: launcher.reports(),
            launcher,
            inside: Arc::new(inside),
            task,
            served: false,
        });
        Ok(true)
    }

    /// Whether a guest that should run here is over, since nothing of its pod is left.
    fn has_vanished(&self, instance: &Instance, pod: &str) -> Result<bool, StartError> {
        let soon = self.dials < PATIENT_DIALS;
        if soon || instance.phase().is_final() || self.world.run_folder(pod).exists() {
            return Ok(false);
        }
        vanished::is_gone(&self.world.pods(), pod).map_err(|source| StartError::Io {
            what: format!("looking for what is left of pod {pod}"),
            source,
        })
    }

    /// When to dial again; never for a run that is over and whose launcher has gone.
    fn redial(&mut self, instance: &Instance, pod: &str) -> Option<Instant> {
        let gone = self.dials > LAST_DIALS || !self.world.run_folder(pod).exists();
        let over = instance.phase().is_final() && gone;
        let pause = (FIRST_REDIAL * 2_u32.pow(self.dials.min(10))).min(LONGEST_REDIAL);
        self.dials = self.dials.saturating_add(1);
        (!over).then(|| Instant::now() + pause)
    }

    /// The guest's network needs this daemon's sockets in each new launcher.
    async fn serve(&mut self, instance: &Arc<Instance>, pod: &str) -> Result<(), StartError> {
        if self.session.is_none() {
            self.session = Session::load(&self.world, instance.uid, pod)?;
        }
        let Some(connection) = self
            .connection
            .as_mut()
            .filter(|connection| !connection.served)
        else {
            return Ok(());
        };
        if let Some(session) = &self.session {
            start::connect(
                &self.world,
                instance,
                session,
                &connection.launcher,
                &connection.inside,
            )
            .await?;
        } else {
            events::tell(
                &self.world,
                &self.said,
                instance,
                Kind::Warning,
                "RecordLost",
                "The guest runs and this node has no record of its start: its addresses are not served anew",
            );
        }
        connection.served = true;
        Ok(())
    }

    async fn ask(&self, verb: Verb) -> Result<(), StartError> {
        if let Some(connection) = &self.connection {
            connection.launcher.ask(verb).await?;
        }
        Ok(())
    }

    /// The launcher may go; it is asked again as long as it is there.
    async fn finish(&mut self) {
        if let Err(error) = self.ask(Verb::Finish).await {
            tracing::debug!(vm = %self.key, error = catamaran_client::chain(&error), "the launcher goes by itself");
        }
    }

    fn register(&self, instance: &Arc<Instance>, pod: Option<&str>) {
        let entry = Entry {
            instance: instance.clone(),
            launcher: self
                .connection
                .as_ref()
                .map(|connection| connection.launcher.clone()),
            run: pod.map(|pod| self.world.run_folder(pod)),
        };
        self.world.machines.set(&self.key, Some(entry));
    }

    /// The object is gone, which the controller lets happen only after the pod has gone.
    fn forget(&mut self) {
        if let Some(entry) = self.world.machines.get(&self.key) {
            self.world.frozen.forget(entry.instance.uid);
        }
        self.world.machines.set(&self.key, None);
        self.connection = None;
    }

    /// Says what failed, and when to try again.
    async fn failed(&mut self, error: &StartError) -> Instant {
        let words = catamaran_client::chain(error);
        tracing::warn!(vm = %self.key, error = words, "a step failed");
        if let Some(instance) = self.latest.clone() {
            let reason = error.reason();
            if instance.phase() == Phase::Scheduled && (self.tries > 0 || is_final(error)) {
                events::tell(
                    &self.world,
                    &self.said,
                    &instance,
                    Kind::Warning,
                    reason,
                    &words,
                );
                let told = self
                    .publish(|before| status::unsynchronized(before, reason, &words, seconds()))
                    .await;
                if let Err(error) = told {
                    tracing::warn!(vm = %self.key, error = catamaran_client::chain(&error), "not told");
                }
            }
        }
        let pause = (FIRST_RETRY * 2_u32.pow(self.tries.min(10))).min(LONGEST_RETRY);
        self.tries = self.tries.saturating_add(1);
        Instant::now() + pause
    }
}

/// Whether the next try can only fail for the same reason; others are told from the second time on.
fn is_final(error: &StartError) -> bool {
    matches!(
        error,
        StartError::Plan(_) | StartError::Volume { .. } | StartError::ClaimNotFound(_)
    )
}

/// Removes what is kept of runs that are not there any more.
pub fn clear(world: &World, there: &[uuid::Uuid]) {
    let Ok(entries) = std::fs::read_dir(world.folders()) else {
        return;
    };
    for entry in entries.flatten() {
        let uid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if uid.is_some_and(|uid| there.contains(&uid)) {
            continue;
        }
        if let Err(error) = ignore_missing(std::fs::remove_dir_all(entry.path())) {
            tracing::warn!(path = %entry.path().display(), error = %error, "not removed");
        }
    }
}
