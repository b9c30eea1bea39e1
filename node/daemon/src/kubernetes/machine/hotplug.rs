//! Volumes that come and go while the guest runs: every step idempotent, so that a daemon that was killed at any line goes on where it was.
//!
//! ```text
//! in:  attachment pod -> mount -> disk -> place (on disk) -> device -> Ready
//! out: device, until the guest has let it go -> mount -> UnMountedFromPod
//! ```

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use catamaran_plan::paths::UID;
use catamaran_plan::{Accelerator, GivenDisk, PlanError, hotplug as place, pod};
use catamaran_wire::{Inspected, Unplugged, Verb, VmReport, VmState};
use rustix::fs::{FileType, OFlags};
use tokio::net::UnixStream;

use super::{Connection, Task};
use crate::kubernetes::events::{self, Kind};
use crate::kubernetes::hotplug::{FAILED, Outcome, Work, told, work};
use crate::kubernetes::inside::Inside;
use crate::kubernetes::instance::{Instance, is_uid};
use crate::kubernetes::mounts::{self, Held};
use crate::kubernetes::{claims, start};
use crate::machine::beneath;
use crate::machine::error::StartError;

/// Pause before a volume that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Pause between looks at a guest that was asked to let a disk go.
const LOOK: Duration = Duration::from_secs(1);
/// Pause before the guest is asked again: it may have been booting.
const ASK_AGAIN: Duration = Duration::from_secs(15);

impl Task {
    /// Brings every volume a step further; when to look again.
    pub(super) async fn hotplug(
        &mut self,
        pod: &str,
        report: &VmReport,
    ) -> Result<Option<Instant>, StartError> {
        let on = matches!(report.state, VmState::Running | VmState::Paused { .. });
        let Some(instance) = self.latest.clone().filter(|_| on) else {
            return Ok(None);
        };
        let mut pause = None;
        for work in work(&instance) {
            let (volume, result) = match &work {
                Work::Plug { volume, attachment } => (
                    volume,
                    Box::pin(self.plug(&instance, pod, volume, attachment)).await,
                ),
                Work::Unplug { volume } => (volume, self.unplug(&instance, pod, volume).await),
            };
            let outcome = result.unwrap_or_else(|error| Outcome::Failed {
                words: catamaran_client::chain(&error),
            });
            let again = match &outcome {
                Outcome::Ready { .. } | Outcome::Left => None,
                Outcome::Detaching => Some(LOOK),
                Outcome::Failed { .. } => Some(RETRY),
            };
            pause = [pause, again].into_iter().flatten().min();
            if self
                .publish(|before| told(before, volume, &outcome))
                .await?
            {
                self.say(&instance, volume, &outcome);
            }
        }
        Ok(pause.map(|pause| Instant::now() + pause))
    }

    fn say(&self, instance: &std::sync::Arc<Instance>, volume: &str, outcome: &Outcome) {
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
            Outcome::Failed { words } => {
                (Kind::Warning, FAILED, format!("Volume {volume}: {words}"))
            }
            Outcome::Detaching => return,
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
        let world = &self.world;
        let spec = start::validated(instance)?;
        let hot = spec.hotplug.iter().find(|hot| hot.disk.name == volume);
        let hot = hot.ok_or_else(|| StartError::Volume {
            volume: volume.to_owned(),
            message: "is not hotpluggable".to_owned(),
        })?;
        let claim = start::read_claim(world, &spec.namespace, volume, &hot.claim).await?;
        let run = world.run_folder(pod);
        let holder = attachment_pod(attachment, &world.run_folder(attachment)).await?;
        let Held::Folder(folder) = mounts::held(&holder, &pod::held(volume))
            .map_err(StartError::io(format!("volume {volume} in its pod")))?
        else {
            return Err(StartError::Volume {
                volume: volume.to_owned(),
                message: "its claim is in block mode; only claims with a file system can be plugged into a running machine".to_owned(),
            });
        };
        mounts::bring(&holder, &folder, &connection.inside, &run, volume)
            .map_err(StartError::io(format!("mounting volume {volume}")))?;
        let mut look = pod::hot_look(volume);
        let writable = !hot.read_only;
        look.make = start::room(&claim).filter(|_| writable);
        claims::prepare(&connection.inside, &run, &mut look, writable)?;
        let found = inspect(connection, look, volume).await?;
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
        connection.launcher.ask(Verb::Plug { devices }).await?;
        let slot = session.plugged.disks.get(volume);
        Ok(Outcome::Ready {
            target: slot.map(|slot| slot.target.clone()).unwrap_or_default(),
            size,
            claim: Box::new(start::claim_info(&claim)),
        })
    }

    async fn unplug(
        &mut self,
        instance: &Instance,
        pod: &str,
        volume: &str,
    ) -> Result<Outcome, StartError> {
        let (Some(connection), Some(session)) = (&self.connection, &mut self.session) else {
            return Err(no_session());
        };
        let ask = self
            .asked
            .get(volume)
            .is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        if ask {
            self.asked.insert(volume.to_owned(), Instant::now());
        }
        let alias = place::alias_of(volume);
        let answer = connection.launcher.ask(Verb::Unplug { alias, ask }).await?;
        let unplugged: Unplugged = serde_json::from_value(answer)
            .map_err(|error| StartError::Plan(format!("the launcher's answer: {error}")))?;
        if unplugged == Unplugged::Leaving {
            return Ok(Outcome::Detaching);
        }
        mounts::leave(&connection.inside, &self.world.run_folder(pod), volume)
            .map_err(StartError::io(format!("unmounting volume {volume}")))?;
        self.asked.remove(volume);
        if session.plugged.disks.remove(volume).is_some() {
            session.save(&self.world, instance.uid)?;
        }
        Ok(Outcome::Left)
    }
}

fn no_session() -> StartError {
    StartError::Plan("this node has no record of the guest's start".to_owned())
}

/// The pod that holds a claim on this node, found by its run folder on the host.
async fn attachment_pod(uid: &str, run: &Path) -> Result<Inside, StartError> {
    let failed = || StartError::io(format!("attachment pod {uid}"));
    if !is_uid(uid) {
        return Err(failed()(io::ErrorKind::InvalidInput.into()));
    }
    let pid = holder(run).await.map_err(failed())?;
    Inside::of_launcher(pid, run).map_err(failed())
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

async fn inspect(
    connection: &Connection,
    look: pod::Look,
    volume: &str,
) -> Result<GivenDisk, StartError> {
    let verb = Verb::Inspect {
        disks: vec![look],
        files: Vec::new(),
        folders: Vec::new(),
    };
    let answer = connection.launcher.ask(verb).await?;
    let inspected: Inspected = serde_json::from_value(answer)
        .map_err(|error| StartError::Plan(format!("the launcher's answer: {error}")))?;
    let disk = inspected.disks.into_iter().next();
    let (found, error) = disk.map_or((None, None), |disk| (disk.found, disk.error));
    let found = found.ok_or_else(|| StartError::Volume {
        volume: volume.to_owned(),
        message: error.unwrap_or_default(),
    })?;
    Ok(GivenDisk {
        host_path: found.path,
        inside: true,
        block: found.block,
        format: found.format,
        virtual_size: found.virtual_size,
        direct_io: found.direct_io,
    })
}
