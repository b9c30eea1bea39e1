//! Machines: one task for each name owns its `VirtualMachine`, its `VirtualMachineInstance` and its run, and is the only writer of their status.
//!
//! Whoever wants something of a machine edits its stored object or asks its launcher; the task looks again at every change (level-triggered).

pub mod actor;
pub mod adopt;
pub mod beneath;
pub mod capabilities;
pub mod cgroup;
pub mod claims;
pub mod config;
pub mod error;
pub mod launcher;
pub mod network;
pub mod probes;
pub mod progress;
pub mod record;
pub mod start;
pub mod status;
pub mod verbs;
pub mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use catamaran_guest_memory::dmesg::escape;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::machine::launcher::Launcher;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

/// Launchers of running machines, for verbs.
#[derive(Debug, Default)]
pub struct Machines(Mutex<BTreeMap<Key, Launcher>>);

impl Machines {
    /// The launcher of a machine that runs.
    #[must_use]
    pub fn launcher(&self, machine: &Key) -> Option<Launcher> {
        self.lock()
            .get(machine)
            .filter(|launcher| launcher.connected())
            .cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<(Key, Launcher)> {
        self.lock()
            .iter()
            .map(|(key, launcher)| (key.clone(), launcher.clone()))
            .collect()
    }

    fn set(&self, machine: &Key, launcher: Option<&Launcher>) {
        match launcher {
            Some(launcher) => self.lock().insert(machine.clone(), launcher.clone()),
            None => self.lock().remove(machine),
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Launcher>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Has a task for every name that has a machine, an instance, or files of one. Ends when all are down and the daemon is to stop.
pub async fn supervise(daemon: Arc<Daemon>) {
    let (mut changes, mut stopping) = (daemon.store.subscribe(), daemon.stopping());
    let mut tasks: JoinSet<Key> = JoinSet::new();
    let mut running = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let down = stopping.borrow_and_update().is_some();
        for key in names(&daemon) {
            let has_work = !down
                || daemon.layout.machine(&key).root().exists()
                || daemon.store.get(&key).is_some();
            if has_work && running.insert(key.clone()) {
                tasks.spawn(actor::run(daemon.clone(), key));
            }
        }
        if down && tasks.is_empty() {
            return;
        }
        tokio::select! {
            ended = tasks.join_next(), if !tasks.is_empty() => match ended {
                // In a shutdown a machine that is down stays down.
                Some(Ok(key)) if !down => { running.remove(&key); }
                Some(Err(error)) => tracing::error!(error = %error, "the task of a machine failed; the machine itself goes on"),
                _ => {}
            },
            _ = changes.changed() => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Every name, as the key of its instance.
fn names(daemon: &Daemon) -> BTreeSet<Key> {
    let stored = [Kind::VirtualMachine, Kind::VirtualMachineInstance]
        .into_iter()
        .flat_map(|kind| daemon.store.list(kind));
    let mut names: BTreeSet<Key> = stored
        .map(|(key, _)| key.with_kind(Kind::VirtualMachineInstance))
        .collect();
    // Files of a machine whose objects are gone are its teardown that was cut off.
    names.extend(daemon.layout.machines());
    names
}

/// The stored tail of a machine's last panic, in its state folder. Written in the sandbox, so it is read without following links and is no safer
/// to print than what the guest wrote.
#[must_use]
pub fn crash_log(state: &Path) -> Option<String> {
    const LONGEST: u64 = 1 << 20;
    let text = beneath::text(state, "crash.log", LONGEST).ok()?;
    Some(escape(text.as_bytes()))
}

/// The kernel log in a launcher's answer, safe to print whoever speaks for the launcher.
#[must_use]
pub fn kernel_log(answer: &Value) -> String {
    escape(answer.as_str().unwrap_or_default().as_bytes())
}
