//! A hypervisor without a machine, for tests, demos and measurements of everything around it.
//!
//! Its guest boots at once, powers off when asked (unless told to be deaf), and has a guest agent that knows three
//! commands. [`FakeHypervisor::happen`] makes things happen to it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use catamaran_plan::hotplug::Device;
use catamaran_wire::{ErrorKind, MemoryStats, Statistics, Unplugged};
use tokio::sync::mpsc;

use super::{DomainState, Event, Found, Hypervisor, HypervisorError, Press, Start};

/// A hypervisor that only pretends.
#[derive(Debug)]
pub struct FakeHypervisor {
    inner: Mutex<Inner>,
    events: mpsc::UnboundedSender<Event>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Option<DomainState>,
    deaf: bool,
    refuses: Option<String>,
    pressed: Vec<Press>,
    plugged: BTreeSet<String>,
    hangs: Option<std::sync::mpsc::Receiver<()>>,
}

impl FakeHypervisor {
    /// One that has nothing running yet.
    #[must_use]
    pub fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            inner: Mutex::default(),
            events,
        }
    }

    /// Whether its guest ignores the power button from now on.
    pub fn set_deaf(&self, deaf: bool) {
        self.inner().deaf = deaf;
    }

    /// The next read of its counters hangs until the other end is gone.
    pub fn hang(&self, until: std::sync::mpsc::Receiver<()>) {
        self.inner().hangs = Some(until);
    }

    /// Refuses the next starts with this message.
    pub fn refuse_starts(&self, message: Option<String>) {
        self.inner().refuses = message;
    }

    /// Makes something happen to the guest.
    pub fn happen(&self, event: Event) {
        let mut inner = self.inner();
        match &event {
            Event::Resumed => inner.state = Some(DomainState::Running),
            Event::Suspended { io_error } => {
                inner.state = Some(DomainState::Paused {
                    io_error: *io_error,
                });
            }
            Event::Stopped { .. } => inner.state = None,
            Event::Panicked => inner.state = Some(DomainState::Crashed),
            Event::ShuttingDown
            | Event::Rebooted
            | Event::DiskFailed { .. }
            | Event::Agent { .. } => {}
        }
        drop(inner);
        self.tell(event);
    }

    /// Every button pressed so far.
    #[must_use]
    pub fn pressed(&self) -> Vec<Press> {
        self.inner().pressed.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more at the end of a test.
        let _ = self.events.send(event);
    }
}

impl Hypervisor for FakeHypervisor {
    fn start(&self, start: Start<'_>) -> Result<Found, HypervisorError> {
        let mut inner = self.inner();
        if let Some(message) = &inner.refuses {
            return Err(HypervisorError {
                kind: ErrorKind::Failed,
                message: message.clone(),
            });
        }
        let state = if start.paused {
            DomainState::Paused { io_error: false }
        } else {
            DomainState::Running
        };
        inner.state = Some(state);
        drop(inner);
        self.tell(Event::Agent { connected: true });
        Ok(Found { pid: None, state })
    }

    fn adopt(&self, _domain: &str) -> Result<Option<Found>, HypervisorError> {
        Ok(self.inner().state.map(|state| Found { pid: None, state }))
    }

    fn state(&self) -> Result<DomainState, HypervisorError> {
        self.inner().state.ok_or_else(off)
    }

    fn press(&self, button: Press) -> Result<(), HypervisorError> {
        let mut inner = self.inner();
        if inner.state.is_none() {
            return Err(off());
        }
        inner.pressed.push(button);
        let deaf = inner.deaf;
        drop(inner);
        match button {
            Press::Power if deaf => {}
            Press::Power => {
                self.happen(Event::ShuttingDown);
                self.happen(Event::Stopped {
                    orderly: true,
                    reason: "shutdown".into(),
                });
            }
            Press::Destroy => self.happen(Event::Stopped {
                orderly: false,
                reason: "destroyed".into(),
            }),
            Press::Pause => self.happen(Event::Suspended { io_error: false }),
            Press::Resume => self.happen(Event::Resumed),
            Press::Reset | Press::Reboot | Press::AgentReboot => self.happen(Event::Rebooted),
        }
        Ok(())
    }

    fn save(&self, file: &Path) -> Result<(), HypervisorError> {
        std::fs::write(file, b"fake").map_err(|error| HypervisorError {
            kind: ErrorKind::Failed,
            message: error.to_string(),
        })?;
        self.happen(Event::Stopped {
            orderly: false,
            reason: "saved".into(),
        });
        Ok(())
    }

    fn screenshot(&self) -> Result<Vec<u8>, HypervisorError> {
        self.state()?;
        Ok(b"\x89PNG\r\n\x1a\n".to_vec())
    }

    fn agent(&self, command: &str, _timeout_seconds: u16) -> Result<String, HypervisorError> {
        self.state()?;
        let answer = if command.contains("guest-info") {
            r#"{"return":{"version":"0.0"}}"#
        } else if command.contains("guest-get-host-name") {
            r#"{"return":{"host-name":"fake"}}"#
        } else if command.contains("guest-ping") {
            r#"{"return":{}}"#
        } else {
            return Err(HypervisorError {
                kind: ErrorKind::Unavailable,
                message: "the fake guest does not know this command".into(),
            });
        };
        Ok(answer.into())
    }

    fn statistics(&self) -> Result<Statistics, HypervisorError> {
        let hangs = self.inner().hangs.take();
        if let Some(until) = hangs {
            let _ = until.recv();
        }
        self.state()?;
        let memory = MemoryStats {
            actual: Some(64 << 20),
            ..MemoryStats::default()
        };
        Ok(Statistics {
            cpu_seconds: 1.0,
            memory,
            ..Statistics::default()
        })
    }

    fn plug(&self, device: &Device) -> Result<(), HypervisorError> {
        self.state()?;
        self.inner().plugged.insert(device.alias.clone());
        Ok(())
    }

    /// A deaf guest lets nothing go.
    fn unplug(&self, alias: &str, ask: bool) -> Result<Unplugged, HypervisorError> {
        self.state()?;
        let mut inner = self.inner();
        if ask && !inner.deaf {
            inner.plugged.remove(alias);
        }
        Ok(if inner.plugged.contains(alias) {
            Unplugged::Leaving
        } else {
            Unplugged::Gone
        })
    }
}

fn off() -> HypervisorError {
    HypervisorError {
        kind: ErrorKind::Denied,
        message: "the machine is off".into(),
    }
}
