//! Volumes that come and go while the guest runs: every step idempotent, so that a daemon that was killed at any line goes on where it was.
//!
//! ```text
//! in:  attachment pod -> mount or device node -> disk -> place (on disk) -> device -> Ready
//! in use: another attachment pod -> does it hold the same? -> Ready
//! out: device, until the guest has let it go -> mount or node -> UnMountedFromPod
//! ```

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use catamaran_lifecycle::HOTPLUG_FAILED;
use catamaran_plan::paths::UID;
use catamaran_plan::{Accelerator, PlanError, hotplug as place, pod};
use catamaran_wire::{HOTPLUG, Unplugged, Verb, VmReport, VmState};
use rustix::fs::{FileType, OFlags};
use serde_json::Value;
use tokio::net::UnixStream;

use super::Task;
use crate::kubernetes::events::{self, Kind};
use crate::kubernetes::hotplug::{NEEDS_RESTART, Outcome, Work, told, work};
use crate::kubernetes::inside::Inside;
use crate::kubernetes::instance::{Instance, is_uid};
use crate::kubernetes::look;
use crate::kubernetes::mounts::{self, Held};
use crate::kubernetes::world::World;
use crate::kubernetes::{claims, start};
use crate::machine::beneath;
use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;

impl Task {
    /// Brings one volume a step further; when to look again. One at a time, so that whatever else is asked of the machine comes in between.
    pub(super) async fn hotplug(
        &mut self,
        pod: &str,
        report: &VmReport,
    ) -> Result<Option<Instant>, StartError> {
        let on = matches!(report.state, VmState::Running | VmState::Paused { .. });
        let Some(instance) = self.latest.clone().filter(|_| on) else {
            return Ok(None);
        };
        let works = work(&instance, &self.bound);
        if let Some(work) = self.paces.due(&works, Instant::now()) {
            let volume = work.volume();
            let result = match &work {
                Work::Plug { attachment, .. } => {
                    Box::pin(self.plug(&instance, pod, volume, attachment)).await
                }
                Work::Check { attachment, .. } => self.check(volume, attachment).await,
                Work::Unplug { .. } => self.unplug(&instance, pod, &work).await,
            };
            let outcome =
                result.unwrap_or_else(|error| work.failed(&catamaran_client::chain(&error)));
            self.paces.took(&work, &outcome, Instant::now());
            if self
                .publish(|before| told(before, volume, &outcome))
                .await?
            {
                self.say(&instance, volume, &outcome);
            }
        }
        let Some(latest) = &self.latest else {
            return Ok(None);
        };
        Ok(self.paces.next(&work(latest, &self.bound), Instant::now()))
    }

    fn say(&self, instance: &Arc<Instance>, volume: &str, outcome: &Outcome) {
        tracing::info!(vm = %self.key, volume, ?outcome, "hotplug");
        let (kind, reason, words) = match outcome {
            Outcome::Ready { target, .. } => (
                Kind::Normal,
                "VolumeReady",
                format!("Volume {volume} is plugged into the guest as {target}"),
            ),
            Outcome::Left => (
                Kind::Normal,
                "VolumeUnMountedFromPod",
                format!("Volume {volume} is unplugged"),
            ),
            Outcome::NeedsRestart => {
                let words = format!("Volume {volume}: {NEEDS_RESTART}");
                (Kind::Warning, HOTPLUG_FAILED, words)
            }
            Outcome::Failed { words } => {
                let words = format!("Volume {volume}: {words}");
                (Kind::Warning, HOTPLUG_FAILED, words)
            }
            Outcome::Bound | Outcome::Detaching { .. } => return,
        };
        events::tell(&self.world, &self.said, instance, kind, reason, &words);
    }

    async fn plug(
        &mut self,
        instance: &Instance,
        pod: &str,
        volume: &str,
        attachment: &str,
    ) -> Result<Outcome, StartError> {
        let (Some(connection), Some(session)) = (&self.connection, &mut self.session) else {
            return Err(no_session());
        };
        if !connection.launcher.knows(HOTPLUG) {
            return Ok(Outcome::NeedsRestart);
        }
        let world = &self.world;
        let spec = start::validated(instance)?;
        let hot = spec.hotplug.iter().find(|hot| hot.disk.name == volume);
        let hot = hot.ok_or_else(|| wrong(volume, "is not hotpluggable"))?;
        let claim = start::read_claim(world, &spec.namespace, volume, &hot.claim).await?;
        let writable = !hot.read_only;
        let mut look = pod::hot_look(volume);
        look.make = start::room(&claim).filter(|_| writable);
        let holder = Holder::of(world, attachment).await?;
        let (launcher, run) = (Arc::clone(&connection.inside), world.run_folder(pod));
        let mount = move || {
            let volume = look.volume.clone();
            let pod = holder.enter()?;
            let held = held(&pod, &volume)?;
            let allowed = mounts::bring(&pod, &held, &launcher, (&run, &volume), writable)
                .map_err(StartError::io("bringing it into the launcher's pod"))?;
            claims::prepare(&launcher, &run, &mut look, writable)?;
            Ok((look, allowed))
        };
        let (look, allowed) = self.aside.run(volume, mount).await?;
        let (files, folders) = (Vec::new(), Vec::new());
        let asked = connection.launcher.clone();
        let inspect = async move { look::inspect(&asked, vec![look], files, folders).await };
        let inspected = self.aside.ask(volume, inspect).await?;
        let found = inspected.disks.first();
        let found =
            look::given(found.ok_or_else(|| wrong(volume, "the launcher did not look for it"))?)?;
        let size = found.virtual_size;
        let facts = match session.plan.accelerator {
            Accelerator::Kvm => &world.host.facts,
            Accelerator::Tcg => &world.emulated,
        };
        let (plugged, devices) = place::plug(
            &spec,
            facts,
            &instance.identity(),
            (hot, &found),
            &session.plan,
            &session.plugged,
        )
        .map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(PlanError::to_string).collect();
            StartError::Plan(texts.join("; "))
        })?;
        session.plugged = plugged;
        session.save(world, instance.uid)?;
        self.aside
            .ask(volume, said(&connection.launcher, Verb::Plug { devices }))
            .await?;
        // It is open now.
        drop(allowed);
        self.bound.insert(volume.to_owned(), attachment.to_owned());
        let slot = session.plugged.disks.get(volume);
        Ok(Outcome::Ready {
            target: slot.map(|slot| slot.target.clone()).unwrap_or_default(),
            size,
            claim: Box::new(start::claim_info(&claim)),
        })
    }

    /// Whether the pod that holds a claim now holds what the guest uses. Nothing is taken from the guest when it does not.
    async fn check(&mut self, volume: &str, attachment: &str) -> Result<Outcome, StartError> {
        let Some(connection) = &self.connection else {
            return Err(no_session());
        };
        let holder = Holder::of(&self.world, attachment).await?;
        let (launcher, name) = (Arc::clone(&connection.inside), volume.to_owned());
        let compare = move || {
            let held = held(&holder.enter()?, &name)?;
            mounts::is_brought(&held, &launcher, &name)
                .map_err(StartError::io("looking for what the guest uses"))
        };
        if !self.aside.run(volume, compare).await? {
            return Err(StartError::Overdue(ANOTHER.to_owned()));
        }
        self.bound.insert(volume.to_owned(), attachment.to_owned());
        Ok(Outcome::Bound)
    }

    async fn unplug(
        &mut self,
        instance: &Instance,
        pod: &str,
        work: &Work,
    ) -> Result<Outcome, StartError> {
        let (Some(connection), Some(session)) = (&self.connection, &mut self.session) else {
            return Err(no_session());
        };
        let volume = work.volume();
        // A launcher that can't plug anything in has plugged nothing in.
        if connection.launcher.knows(HOTPLUG) {
            let now = Instant::now();
            let ask = self.paces.asks(work, now);
            let alias = place::alias_of(volume);
            let verb = Verb::Unplug { alias, ask };
            let answer = said(&connection.launcher, verb);
            let answer = self.aside.ask(volume, answer).await?;
            if ask {
                self.paces.asked(work, now);
            }
            let unplugged: Unplugged = serde_json::from_value(answer)
                .map_err(|error| StartError::Plan(format!("the launcher's answer: {error}")))?;
            if unplugged == Unplugged::Leaving {
                let again = self.paces.was_asked_again(work);
                return Ok(Outcome::Detaching { again });
            }
        }
        let (launcher, run) = (Arc::clone(&connection.inside), self.world.run_folder(pod));
        let name = volume.to_owned();
        let unmount = move || {
            mounts::leave(&launcher, &run, &name)
                .map_err(StartError::io("taking it out of the launcher's pod"))
        };
        self.aside.run(volume, unmount).await?;
        self.bound.remove(volume);
        if session.plugged.disks.remove(volume).is_some() {
            session.save(&self.world, instance.uid)?;
        }
        Ok(Outcome::Left)
    }
}

/// Words about an attachment pod that holds something else than the guest uses.
const ANOTHER: &str = "it holds another file system or device than the one that the guest uses, and goes on with; remove the volume and add it again, \
     or restart the machine";

/// A launcher's answer, for whoever waits for it elsewhere.
fn said(
    launcher: &Launcher,
    verb: Verb,
) -> impl Future<Output = Result<Value, StartError>> + Send + use<> {
    let launcher = launcher.clone();
    async move { Ok(launcher.ask(verb).await?) }
}

fn no_session() -> StartError {
    StartError::Plan("this node has no record of the guest's start".to_owned())
}

fn wrong(volume: &str, message: &str) -> StartError {
    StartError::Volume {
        volume: volume.to_owned(),
        message: message.to_owned(),
    }
}

/// The pod that holds a claim on this node, found by its run folder on the host.
struct Holder {
    pid: i32,
    run: PathBuf,
    uid: String,
}

impl Holder {
    async fn of(world: &World, uid: &str) -> Result<Self, StartError> {
        let failed = || StartError::io(format!("attachment pod {uid}"));
        if !is_uid(uid) {
            return Err(failed()(io::ErrorKind::InvalidInput.into()));
        }
        let run = world.run_folder(uid);
        Ok(Self {
            pid: holder(&run).await.map_err(failed())?,
            run,
            uid: uid.to_owned(),
        })
    }

    /// Its handles; blocks.
    fn enter(&self) -> Result<Inside, StartError> {
        let failed = StartError::io(format!("attachment pod {}", self.uid));
        Inside::of_launcher(self.pid, &self.run).map_err(failed)
    }
}

/// What of a claim is in the pod that holds it; blocks.
fn held(holder: &Inside, volume: &str) -> Result<Held, StartError> {
    mounts::held(holder, &pod::held(volume)).map_err(StartError::io("looking for it in its pod"))
}

/// The process behind the socket of an attachment pod.
async fn holder(run: &Path) -> io::Result<i32> {
    let socket = beneath::open(run, "hold.sock", OFlags::PATH, FileType::Socket)?;
    let stream = UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await?;
    let peer = stream.peer_cred()?;
    match peer.pid() {
        Some(pid) if peer.uid() == UID && pid > 0 => Ok(pid),
        _ => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("its socket is served by user {}, not by {UID}", peer.uid()),
        )),
    }
}
