//! The launcher's socket: who may connect, the verbs, and connections that become streams.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use catamaran_plan::paths;
use catamaran_wire::{
    Connection, DhcpServe, ErrorKind, FrameError, HOTPLUG, Hello, Incoming, PROTOCOL_MAX,
    PROTOCOL_MIN, Reply, Stream, Verb, VmReport, VmState, WireError,
};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::driver::Ask;
use crate::hypervisor::Control;
use crate::places::Places;
use crate::request_queue::Request;
use crate::serial::Hub;
use crate::{guest_log, inspect, plug, vnc};
use catamaran_sandbox::records;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 128;
/// Seconds that a guest agent command of a caller may take at most.
const AGENT_SECONDS_MAX: u32 = 120;

/// What a connection needs.
#[derive(Debug)]
pub struct Server {
    /// Where things are.
    pub places: Places,
    /// The hypervisor's thread.
    pub control: Control,
    /// Requests to the driver.
    pub asks: mpsc::Sender<Ask>,
    /// The driver's reports.
    pub reports: watch::Receiver<VmReport>,
    /// The serial console.
    pub serial: Hub,
    /// Sockets to serve the guest's network on.
    pub network: mpsc::Sender<Vec<(DhcpServe, Vec<OwnedFd>)>>,
    /// How many people look.
    pub viewers: watch::Sender<u32>,
}

/// How a frame's handling goes on.
enum Next {
    Reply(Result<Value, WireError>),
    Watch,
    Attach(Stream),
}

impl Server {
    /// Accepts connections; never returns.
    pub async fn run(self, listener: UnixListener) {
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if connections.len() < CONNECTIONS_MAX && may_connect(&stream) => {
                        connections.spawn(Arc::clone(&server).serve(stream));
                    }
                    Ok(_) => tracing::warn!("a connection is refused"),
                    Err(error) => {
                        tracing::warn!(%error, "no connection can be accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        match self.talk(Connection::new(stream)).await {
            Ok(()) | Err(FrameError::Closed) => {}
            Err(error) => tracing::warn!(%error, "a connection has failed"),
        }
    }

    async fn talk(&self, mut connection: Connection) -> Result<(), FrameError> {
        let hello = Hello {
            min: PROTOCOL_MIN,
            max: PROTOCOL_MAX,
            version: env!("CARGO_PKG_VERSION").into(),
            features: vec!["replay".into(), "readOnly".into(), HOTPLUG.into()],
        };
        connection.send(&hello).await?;
        let (theirs, _) = connection.receive::<Hello>().await?;
        if theirs.min > PROTOCOL_MAX || theirs.max < PROTOCOL_MIN {
            tracing::warn!(
                theirs.min,
                theirs.max,
                "a daemon speaks no protocol that this launcher knows"
            );
            return Ok(());
        }
        let mut watched: Option<watch::Receiver<VmReport>> = None;
        loop {
            let received = tokio::select! {
                received = connection.receive::<Value>() => received,
                Ok(()) = changed(&mut watched) => {
                    self.report(&connection, &mut watched).await?;
                    continue;
                }
            };
            let (frame, fds) = received?;
            let id = frame["id"].as_u64().unwrap_or_default();
            match self.handle(frame, fds).await {
                Next::Reply(result) => connection.send(&reply(id, result)).await?,
                Next::Watch => {
                    connection.send(&reply(id, Ok(Value::Null))).await?;
                    watched = Some(self.reports.clone());
                    self.report(&connection, &mut watched).await?;
                }
                Next::Attach(stream) => return self.attach(connection, id, stream).await,
            }
        }
    }

    async fn report(
        &self,
        connection: &Connection,
        watched: &mut Option<watch::Receiver<VmReport>>,
    ) -> Result<(), FrameError> {
        let Some(receiver) = watched else {
            return Ok(());
        };
        let report = Box::new(receiver.borrow_and_update().clone());
        connection.send(&Incoming::Report { report }).await
    }

    async fn handle(&self, frame: Value, fds: Vec<OwnedFd>) -> Next {
        let name = frame["verb"].as_str().unwrap_or_default().to_owned();
        let request: catamaran_wire::Request = match serde_json::from_value(frame) {
            Ok(request) => request,
            Err(error) => {
                let message = format!(
                    "{name:?} is not understood by launcher {}: {error}",
                    env!("CARGO_PKG_VERSION")
                );
                return Next::Reply(Err(WireError::new(ErrorKind::Unsupported, message)));
            }
        };
        let nothing = |result: Result<(), WireError>| Next::Reply(result.map(|()| Value::Null));
        match request.verb {
            Verb::Start { plan } => {
                inspect::remember(&self.places, &plan.hardware);
                nothing(
                    self.ask(Request::Start(plan.generation.clone()), Some(plan))
                        .await,
                )
            }
            Verb::Stop {
                grace_period_seconds,
            } => nothing(self.ask(Request::Stop(grace_period_seconds), None).await),
            Verb::Destroy => nothing(self.ask(Request::Destroy, None).await),
            Verb::Pause => nothing(self.ask(Request::Pause, None).await),
            Verb::Unpause => nothing(self.ask(Request::Unpause, None).await),
            Verb::Reset => nothing(self.ask(Request::Reset, None).await),
            Verb::SoftReboot => nothing(self.ask(Request::SoftReboot, None).await),
            Verb::Save => nothing(self.ask(Request::Save, None).await),
            Verb::Finish => nothing(self.ask(Request::Finish, None).await),
            Verb::Screenshot => Next::Reply(self.screenshot().await),
            Verb::Statistics => Next::Reply(self.statistics().await),
            Verb::Dmesg { tail_bytes } => Next::Reply(self.dmesg(tail_bytes).await),
            Verb::Agent {
                command,
                timeout_seconds,
            } => {
                let seconds =
                    u16::try_from(timeout_seconds.clamp(1, AGENT_SECONDS_MAX)).unwrap_or(1);
                Next::Reply(
                    self.control
                        .agent(&command, seconds)
                        .await
                        .map_err(WireError::from),
                )
            }
            Verb::ServeNetwork { serve } => nothing(self.serve_network(serve, fds).await),
            Verb::Inspect {
                disks,
                files,
                folders,
            } => Next::Reply(self.inspect(disks, files, folders).await),
            Verb::Plug { devices } => {
                nothing(plug::plug(&self.control, &self.places, devices).await)
            }
            Verb::Unplug { alias, ask } => Next::Reply(self.unplug(alias, ask).await),
            Verb::Watch => Next::Watch,
            Verb::Attach { stream } => Next::Attach(stream),
        }
    }

    async fn ask(
        &self,
        request: Request,
        plan: Option<Box<catamaran_plan::Plan>>,
    ) -> Result<(), WireError> {
        let gone = || WireError::new(ErrorKind::Failed, "the launcher is ending");
        let (answer, result) = oneshot::channel();
        self.asks
            .send(Ask {
                request,
                plan,
                answer,
            })
            .await
            .map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    async fn screenshot(&self) -> Result<Value, WireError> {
        let picture = self
            .control
            .call(|hypervisor| hypervisor.screenshot())
            .await?;
        Ok(base64::engine::general_purpose::STANDARD
            .encode(picture)
            .into())
    }

    async fn statistics(&self) -> Result<Value, WireError> {
        let mut statistics = self.control.statistics().await?;
        let plan: Option<catamaran_plan::Plan> = records::load(&self.places.plan()).ok().flatten();
        if let Some(plan) = plan {
            for network in &mut statistics.networks {
                let nic = plan.nics.iter().find(|nic| nic.tap == network.device);
                network.name = nic.map(|nic| nic.name.clone()).unwrap_or_default();
            }
            let later = plug::known(&self.places);
            for disk in &mut statistics.disks {
                let name = disk_name(&plan.domain_xml, &disk.target);
                let later = || {
                    later
                        .iter()
                        .find_map(|new| disk_name(&new.xml, &disk.target))
                };
                disk.name = name.or_else(later).unwrap_or_default();
            }
        }
        serde_json::to_value(statistics)
            .map_err(|error| WireError::new(ErrorKind::Failed, error.to_string()))
    }

    async fn unplug(&self, alias: String, ask: bool) -> Result<Value, WireError> {
        let unplugged = plug::unplug(&self.control, &self.places, alias, ask).await?;
        serde_json::to_value(unplugged)
            .map_err(|error| WireError::new(ErrorKind::Failed, error.to_string()))
    }

    async fn dmesg(&self, tail_bytes: Option<u64>) -> Result<Value, WireError> {
        let pid = self.reports.borrow().qemu_pid;
        let pid =
            pid.ok_or_else(|| WireError::new(ErrorKind::Denied, "the machine is not running"))?;
        let plan: Option<catamaran_plan::Plan> = records::load(&self.places.plan()).ok().flatten();
        let machine = plan.map(|plan| plan.hardware.machine).unwrap_or_default();
        guest_log::dmesg(pid, machine, tail_bytes)
            .await
            .map(Value::from)
    }

    async fn serve_network(
        &self,
        serve: Vec<DhcpServe>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), WireError> {
        let wanted: usize = serve.iter().map(|serve| serve.sockets.len()).sum();
        if wanted != fds.len() {
            let message = format!("{wanted} sockets are named, but {} came", fds.len());
            return Err(WireError::new(ErrorKind::Failed, message));
        }
        let mut fds = fds.into_iter();
        let list = serve
            .into_iter()
            .map(|serve| {
                let own = fds.by_ref().take(serve.sockets.len()).collect();
                (serve, own)
            })
            .collect();
        let gone = |_| WireError::new(ErrorKind::Failed, "the launcher is ending");
        self.network.send(list).await.map_err(gone)
    }

    async fn inspect(
        &self,
        disks: Vec<catamaran_plan::pod::Look>,
        files: Vec<String>,
        folders: Vec<String>,
    ) -> Result<Value, WireError> {
        let failed = |error: String| WireError::new(ErrorKind::Failed, error);
        let places = self.places.clone();
        let looking = move || inspect::look(&places, &disks, &files, &folders);
        let found = tokio::task::spawn_blocking(looking)
            .await
            .map_err(|error| failed(error.to_string()))?;
        serde_json::to_value(found).map_err(|error| failed(error.to_string()))
    }

    async fn attach(
        &self,
        connection: Connection,
        id: u64,
        stream: Stream,
    ) -> Result<(), FrameError> {
        let ready = match &stream {
            Stream::Serial { .. } => Ok(None),
            Stream::Vnc { .. } => vnc::connect(&self.places.resolve(paths::VNC_SOCKET))
                .await
                .map(Some),
        };
        let idle = matches!(
            self.reports.borrow().state,
            VmState::Idle | VmState::Ended { .. }
        );
        let ready = match ready {
            Err(error) => Err(format!("the screen cannot be reached: {error}")),
            // What an ended machine said last can still be read.
            Ok(_) if idle && !matches!(stream, Stream::Serial { replay: true, .. }) => {
                Err("the machine is not running".into())
            }
            Ok(screen) => Ok(screen),
        };
        let screen = match ready {
            Ok(screen) => screen,
            Err(message) => {
                return connection
                    .send(&reply(
                        id,
                        Err(WireError::new(ErrorKind::Unavailable, message)),
                    ))
                    .await;
            }
        };
        connection.send(&reply(id, Ok(Value::Null))).await?;
        let (raw, early) = connection.into_stream();
        self.viewers.send_modify(|viewers| *viewers += 1);
        match (stream, screen) {
            (Stream::Vnc { read_only }, Some(screen)) => {
                vnc::serve(raw, early, screen, read_only).await;
            }
            (Stream::Serial { replay, read_only }, _) => {
                self.serial.serve(raw, early, replay, read_only).await;
            }
            (Stream::Vnc { .. }, None) => {}
        }
        self.viewers
            .send_modify(|viewers| *viewers = viewers.saturating_sub(1));
        Ok(())
    }
}

/// Opens the socket; the folder's owner and root may connect, and `may_connect` asks again.
///
/// # Errors
/// When the run folder is not writable.
pub fn listen(places: &Places) -> std::io::Result<UnixListener> {
    let path: PathBuf = places.resolve(paths::LAUNCHER_SOCKET);
    // Bound beside its place and renamed: whoever finds it can connect.
    let fresh = path.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Root (of the same user namespace) and this very user.
fn may_connect(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn changed(
    watched: &mut Option<watch::Receiver<VmReport>>,
) -> Result<(), watch::error::RecvError> {
    match watched {
        Some(receiver) => receiver.changed().await,
        None => std::future::pending().await,
    }
}

fn reply(id: u64, result: Result<Value, WireError>) -> Incoming {
    let (ok, error) = match result {
        Ok(value) => (value, None),
        Err(error) => (Value::Null, Some(error)),
    };
    Incoming::Reply(Reply { id, ok, error })
}

/// The manifest's name of the disk with that target: its alias in our own XML is `ua-NAME`.
fn disk_name(xml: &str, target: &str) -> Option<String> {
    let needle = [
        format!("<target dev='{target}'"),
        format!("<target dev=\"{target}\""),
    ];
    let disk = xml
        .split("<disk")
        .skip(1)
        .find(|disk| needle.iter().any(|needle| disk.contains(needle.as_str())))?;
    let disk = disk.split("</disk>").next()?;
    let (_, alias) = disk.split_once("<alias name=")?;
    let quote = alias.chars().next()?;
    Some(
        alias[1..]
            .split(quote)
            .next()?
            .trim_start_matches("ua-")
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_named_by_its_alias() {
        let xml = "<disk type='file'><target dev='vda' bus='virtio'/><alias name='ua-root'/></disk>\
                   <disk><target dev='vdb'/><alias name='ua-data'/></disk>";
        assert_eq!(disk_name(xml, "vdb").as_deref(), Some("data"));
        assert_eq!(disk_name(xml, "sda"), None);
    }
}
