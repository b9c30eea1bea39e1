//! What a launcher needs of a hypervisor: about a dozen verbs, and events.
//!
//! No type of libvirt shows here, so that a driver that speaks to QEMU directly can stand beside [`libvirt`]. Calls
//! block; the driver task makes them from one thread of its own ([`Control`]), except the guest agent's, which may take
//! many seconds, and those for counters, which nobody waits for in need: these have a thread each.

use std::path::Path;
use std::sync::Arc;

use catamaran_plan::hotplug::Device;
use catamaran_wire::{ErrorKind, Statistics, Unplugged, WireError};
use tokio::sync::{Mutex, oneshot};

pub mod fake;
pub mod libvirt;

/// A machine to start.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Its name.
    pub domain: &'a str,
    /// Its description.
    pub xml: &'a str,
    /// Hold it before its first instruction.
    pub paused: bool,
    /// A file with saved memory to go on from.
    pub from: Option<&'a Path>,
}

/// A machine that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its process; `None` when there is none (the fake).
    pub pid: Option<i32>,
    /// Its state now.
    pub state: DomainState,
}

/// The state of a machine as the hypervisor tells it when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// vCPUs run.
    Running,
    /// Held still.
    Paused {
        /// Because of a failing disk.
        io_error: bool,
    },
    /// On its way out.
    ShuttingDown,
    /// The guest's kernel has panicked.
    Crashed,
    /// Gone.
    Off,
}

/// What the hypervisor tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Running again after a pause.
    Resumed,
    /// Held still.
    Suspended {
        /// Because of a failing disk.
        io_error: bool,
    },
    /// The guest is powering off.
    ShuttingDown,
    /// The process is gone or about to be.
    Stopped {
        /// The guest was off before.
        orderly: bool,
        /// Why.
        reason: String,
    },
    /// The guest's kernel has panicked; it is kept as it is.
    Panicked,
    /// The guest has rebooted.
    Rebooted,
    /// A disk request failed and the machine was held still.
    DiskFailed {
        /// The disk's file.
        file: String,
        /// The disk's alias.
        alias: String,
        /// There was no space.
        no_space: bool,
    },
    /// The guest agent came or went.
    Agent {
        /// It is there.
        connected: bool,
    },
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HypervisorError {
    /// The kind, in the wire's words.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

impl From<HypervisorError> for WireError {
    fn from(error: HypervisorError) -> Self {
        Self::new(error.kind, error.message)
    }
}

/// What the reset and power buttons and their software cousins do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// The ACPI power button.
    Power,
    /// The reset button.
    Reset,
    /// Reboot, asked for by ACPI.
    Reboot,
    /// Reboot, asked for by the guest agent.
    AgentReboot,
    /// Hold still.
    Pause,
    /// Go on.
    Resume,
    /// Pull the plug.
    Destroy,
}

/// A hypervisor that runs one machine.
pub trait Hypervisor: Send + Sync + std::fmt::Debug + 'static {
    /// Starts the machine.
    ///
    /// # Errors
    /// In the hypervisor's words.
    fn start(&self, start: Start<'_>) -> Result<Found, HypervisorError>;

    /// Finds a machine that runs already; `None` when it does not.
    ///
    /// # Errors
    /// When the hypervisor cannot tell.
    fn adopt(&self, domain: &str) -> Result<Option<Found>, HypervisorError>;

    /// Its state now.
    ///
    /// # Errors
    /// When it is gone.
    fn state(&self) -> Result<DomainState, HypervisorError>;

    /// Presses a button.
    ///
    /// # Errors
    /// When the machine's state does not allow it.
    fn press(&self, button: Press) -> Result<(), HypervisorError>;

    /// Saves the machine's memory to a file and ends it.
    ///
    /// # Errors
    /// When a device cannot be saved; the machine then goes on.
    fn save(&self, file: &Path) -> Result<(), HypervisorError>;

    /// PNG of the first screen.
    ///
    /// # Errors
    /// When it has none.
    fn screenshot(&self) -> Result<Vec<u8>, HypervisorError>;

    /// A guest agent command in JSON, and its answer.
    ///
    /// # Errors
    /// When the agent does not answer in time, or with an error.
    fn agent(&self, command: &str, timeout_seconds: u16) -> Result<String, HypervisorError>;

    /// Counters.
    ///
    /// # Errors
    /// When the machine is gone.
    fn statistics(&self) -> Result<Statistics, HypervisorError>;

    /// Plugs a device in, unless it is there.
    ///
    /// # Errors
    /// When there is no slot, or its file can't be used.
    fn plug(&self, device: &Device) -> Result<(), HypervisorError>;

    /// Says whether a device is gone; with `ask`, the guest is asked to let one go that is there. That takes the guest's time.
    ///
    /// # Errors
    /// When it can't be asked.
    fn unplug(&self, alias: &str, ask: bool) -> Result<Unplugged, HypervisorError>;
}

/// The thread that all calls but the agent's and those for counters are made from, one after another.
#[derive(Debug, Clone)]
pub struct Control {
    jobs: std::sync::mpsc::Sender<Job>,
    hypervisor: Arc<dyn Hypervisor>,
    counting: Arc<Mutex<()>>,
}

type Job = Box<dyn FnOnce(&dyn Hypervisor) + Send>;

impl Control {
    /// Starts the thread. It ends with the last handle.
    ///
    /// # Errors
    /// When there is no memory for a thread.
    pub fn new(hypervisor: Arc<dyn Hypervisor>) -> std::io::Result<Self> {
        let (jobs, queue) = std::sync::mpsc::channel::<Job>();
        let mine = Arc::clone(&hypervisor);
        // libvirt parses XML on this stack.
        std::thread::Builder::new()
            .name("hypervisor".into())
            .stack_size(512 * 1024)
            .spawn(move || {
                while let Ok(job) = queue.recv() {
                    job(&*mine);
                }
            })?;
        Ok(Self {
            jobs,
            hypervisor,
            counting: Arc::default(),
        })
    }

    /// Makes a call on the thread.
    ///
    /// # Errors
    /// The call's own, or that the thread is gone.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Hypervisor) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let gone = || HypervisorError {
            kind: ErrorKind::Failed,
            message: "the hypervisor's thread is gone".into(),
        };
        let (answer, result) = oneshot::channel();
        self.jobs
            .send(Box::new(move |hypervisor| {
                // Nobody may be waiting any more.
                let _ = answer.send(job(hypervisor));
            }))
            .map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Reads the counters, on a thread of its own: a QEMU that hangs must still be destroyed.
    ///
    /// # Errors
    /// The call's own, or that the counters are being read.
    pub async fn statistics(&self) -> Result<Statistics, HypervisorError> {
        let Ok(counting) = self.counting.clone().try_lock_owned() else {
            return Err(HypervisorError {
                kind: ErrorKind::Denied,
                message: "the counters are being read".into(),
            });
        };
        let hypervisor = Arc::clone(&self.hypervisor);
        tokio::task::spawn_blocking(move || {
            let _counting = counting;
            hypervisor.statistics()
        })
        .await
        .map_err(|error| HypervisorError {
            kind: ErrorKind::Failed,
            message: error.to_string(),
        })?
    }

    /// Asks the guest agent, on a thread of its own.
    ///
    /// # Errors
    /// The agent's silence or error, or its answer is not JSON.
    pub async fn agent(
        &self,
        command: &serde_json::Value,
        timeout_seconds: u16,
    ) -> Result<serde_json::Value, HypervisorError> {
        let hypervisor = Arc::clone(&self.hypervisor);
        let command = command.to_string();
        let answer =
            tokio::task::spawn_blocking(move || hypervisor.agent(&command, timeout_seconds))
                .await
                .map_err(|error| HypervisorError {
                    kind: ErrorKind::Failed,
                    message: error.to_string(),
                })??;
        let mut answer: serde_json::Value =
            serde_json::from_str(&answer).map_err(|error| HypervisorError {
                kind: ErrorKind::Failed,
                message: format!("the guest agent's answer is not JSON: {error}"),
            })?;
        Ok(answer
            .get_mut("return")
            .map(serde_json::Value::take)
            .unwrap_or(answer))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::fake::FakeHypervisor;
    use super::*;

    #[tokio::test]
    async fn a_machine_whose_counters_hang_is_still_destroyed() {
        let (events, _happened) = unbounded_channel();
        let fake = Arc::new(FakeHypervisor::new(events));
        let control = Control::new(fake.clone()).unwrap();
        let (free, until) = std::sync::mpsc::channel();
        fake.hang(until);
        let (hung, destroyed) = tokio::join!(control.statistics(), async {
            let second = control.statistics().await.unwrap_err();
            assert_eq!(second.message, "the counters are being read");
            let destroyed = control.call(|machine| machine.press(Press::Destroy)).await;
            drop(free);
            destroyed
        });
        // Nothing ran; what counts is that both were answered.
        assert!(hung.is_err());
        assert_eq!(destroyed.is_ok(), fake.press(Press::Destroy).is_ok());
        assert!(control.counting.try_lock().is_ok());
    }
}
