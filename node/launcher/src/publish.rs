//! The one writer of [`VmReport`]s. Everyone else holds a receiver.

use catamaran_wire::{AgentInfo, VmReport};
use tokio::sync::watch;

use crate::machine::Machine;

/// Publishes reports, with a sequence number that grows with each change.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<VmReport>,
}

impl Publisher {
    /// A publisher whose first report is of `machine`.
    #[must_use]
    pub fn new(machine: &Machine) -> (Self, watch::Receiver<VmReport>) {
        let (sender, receiver) = watch::channel(report(machine, None, 0, &[]));
        (Self { sender }, receiver)
    }

    /// Publishes what is so now, if it differs from the last report.
    pub fn publish(
        &self,
        machine: &Machine,
        agent: Option<&AgentInfo>,
        viewers: u32,
        warnings: &[String],
    ) {
        let next = report(machine, agent, viewers, warnings);
        self.sender.send_if_modified(|last| {
            let next = VmReport { sequence: last.sequence, ..next };
            if *last == next {
                return false;
            }
            let state_changed = last.state != next.state;
            *last = VmReport { sequence: last.sequence + 1, ..next };
            if state_changed {
                tracing::info!(state = ?last.state, message = last.message, "the machine's state has changed");
            }
            true
        });
    }
}

fn report(
    machine: &Machine,
    agent: Option<&AgentInfo>,
    viewers: u32,
    warnings: &[String],
) -> VmReport {
    VmReport {
        generation: machine.generation.clone(),
        sequence: 0,
        state: machine.state.clone(),
        since_ms: machine.since_ms,
        message: machine.message.clone(),
        qemu_pid: machine.pid,
        agent: agent.cloned(),
        reboots: machine.reboots,
        viewers,
        warnings: warnings.to_vec(),
    }
}
