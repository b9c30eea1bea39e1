//! Status of a machine and its instance, on disk, in the peer's words. Called by the machine's task only.

pub mod restarts;

use std::net::IpAddr;

use catamaran_api::{
    VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceNetworkInterface,
    VirtualMachineInstancePhaseTransitionTimestamp, VirtualMachineInstanceStatus,
};
use catamaran_lifecycle::{
    ConditionStatus, Decision, Phase, Seconds, StatusInput, VmView, instance_generation,
    instance_ready, machine_status, outdated, set_instance_condition, to_time,
};
use catamaran_plan::{Accelerator, Plan};
use catamaran_wire::{PauseReason, VmReport, VmState};
use serde_json::Value;

use crate::machine::actor::{store_error, word};
use crate::machine::error::StartError;
use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Store};
use crate::serve::time;

/// What the status of a machine is made of.
#[derive(Debug)]
pub struct VmStatus<'a> {
    /// The object.
    pub vm: &'a VirtualMachine,
    /// Its view.
    pub view: &'a VmView,
    /// Its instance.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// What was decided.
    pub decision: &'a Decision,
}

/// Writes the status of a machine, and its run strategy where the decision rewrites it. Returns whether the run strategy was rewritten.
///
/// # Errors
/// When the store can't be written.
pub fn write_vm(
    store: &Store,
    key: &Key,
    input: &VmStatus<'_>,
    now: Seconds,
) -> Result<bool, StartError> {
    let failure = input
        .vmi
        .and_then(|vmi| vmi.status.as_ref())
        .and_then(|status| {
            status
                .conditions
                .iter()
                .find(|c| c.type_ == "Synchronized" && c.status == "False")
        });
    let failure = failure.map(|condition| {
        (
            condition.reason.clone().unwrap_or_default(),
            condition.message.clone().unwrap_or_default(),
        )
    });
    let made_from = input.vmi.and_then(instance_generation);
    let status = machine_status(
        &StatusInput {
            vm: input.vm,
            view: input.view,
            vmi: input.vmi,
            decision: input.decision,
            failure: failure
                .as_ref()
                .map(|(reason, message)| (reason.as_str(), message.as_str())),
            volumes: None,
            restart_required: input.vmi.is_some_and(|vmi| outdated(input.vm, vmi)),
            observed_generation: made_from,
        },
        now,
    );
    let mut status =
        serde_json::to_value(status).map_err(|error| StartError::Plan(error.to_string()))?;
    let mut rewritten = false;
    store
        .edit(key, |object| {
            restarts::keep(&object["status"], &mut status);
            object["status"] = status;
            if let Some(strategy) = input.decision.rewrite {
                let mut spec = input.vm.spec.clone();
                strategy.write(&mut spec);
                set_strategy(object, &spec);
                rewritten = true;
            }
        })
        .map_err(store_error)?;
    Ok(rewritten)
}

/// Writes `spec.runStrategy` and `spec.running` and nothing else.
pub fn set_strategy(object: &mut Value, spec: &catamaran_api::VirtualMachineSpec) {
    let Some(map) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    for (field, value) in [
        ("runStrategy", spec.run_strategy.clone().map(Value::from)),
        ("running", spec.running.map(Value::from)),
    ] {
        match value {
            Some(value) => map.insert(field.to_owned(), value),
            None => map.remove(field),
        };
    }
}

/// The instance enters a phase.
///
/// # Errors
/// When the store can't be written.
pub fn phase(store: &Store, key: &Key, phase: Phase) -> Result<(), StartError> {
    edit(store, key, |status| enter(status, phase, None))
}

/// The run is over.
///
/// # Errors
/// When the store can't be written.
pub fn ended(store: &Store, key: &Key, phase: Phase, words: &str) -> Result<(), StartError> {
    edit(store, key, |status| {
        enter(status, phase, None);
        status.reason = Some(words.to_owned());
        status.interfaces.clear();
        status
            .conditions
            .retain(|condition| !["Paused", "AgentConnected"].contains(&condition.type_.as_str()));
    })
}

/// Whether the instance is what its spec asks for: `None` = it is, else (reason, message).
///
/// # Errors
/// When the store can't be written.
pub fn synchronized(
    store: &Store,
    key: &Key,
    failure: Option<(&str, &str)>,
) -> Result<(), StartError> {
    edit(store, key, |status| match failure {
        None => set_instance_condition(
            &mut status.conditions,
            "Synchronized",
            ConditionStatus::True,
            "",
            "",
            seconds(),
        ),
        Some((reason, message)) => set_instance_condition(
            &mut status.conditions,
            "Synchronized",
            ConditionStatus::False,
            reason,
            message,
            seconds(),
        ),
    })
}

/// What was resolved by the plan.
///
/// # Errors
/// When the store can't be written.
pub fn hardware(daemon: &Daemon, key: &Key, plan: &Plan) -> Result<(), StartError> {
    let addresses: Vec<String> = pod_addresses(daemon, key)
        .iter()
        .map(ToString::to_string)
        .collect();
    edit(&daemon.store, key, |status| {
        status.runtime_user = Some(i64::from(catamaran_plan::paths::UID));
        status.node_name = Some(
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        );
        status.machine = Some(catamaran_api::Machine {
            type_: Some(plan.hardware.machine.clone()),
            ..Default::default()
        });
        if plan.accelerator == Accelerator::Tcg {
            set_instance_condition(
                &mut status.conditions,
                "SoftwareEmulation",
                ConditionStatus::True,
                "NoUsableKVM",
                "KVM does not work on this machine, so the guest is emulated",
                seconds(),
            );
        }
        status.interfaces = plan
            .nics
            .iter()
            .map(|nic| interface(&nic.name, &nic.mac, &addresses, "domain"))
            .collect();
    })
}

/// What the launcher says; `ready` is what the readiness probe says, `None` without one; `leaving`: the run is being ended.
///
/// # Errors
/// When the store can't be written.
pub fn report(
    daemon: &Daemon,
    key: &Key,
    report: &VmReport,
    ready: Option<bool>,
    leaving: bool,
) -> Result<(), StartError> {
    let (phase, paused) = match &report.state {
        VmState::Running | VmState::Stopping => (Some(Phase::Running), None),
        VmState::Paused { reason } => (Some(Phase::Running), Some(*reason)),
        VmState::Idle | VmState::Preparing | VmState::Starting | VmState::Ended { .. } => {
            (None, None)
        }
    };
    let (mut entered, mut newly_paused) = (false, false);
    edit(&daemon.store, key, |status| {
        if let Some(phase) = phase {
            entered = status.phase.as_deref() != Some(phase.as_str());
            enter(status, phase, ready);
        }
        let words = paused.map(pause_words);
        newly_paused = words.is_some_and(|(reason, _)| {
            !status.conditions.iter().any(|condition| {
                condition.type_ == "Paused" && condition.reason.as_deref() == Some(reason)
            })
        });
        match words {
            Some((reason, message)) => set_instance_condition(
                &mut status.conditions,
                "Paused",
                ConditionStatus::True,
                reason,
                message,
                seconds(),
            ),
            None => status
                .conditions
                .retain(|condition| condition.type_ != "Paused"),
        }
        match &report.agent {
            Some(agent) => {
                set_instance_condition(
                    &mut status.conditions,
                    "AgentConnected",
                    ConditionStatus::True,
                    "",
                    "",
                    seconds(),
                );
                for guest in &agent.interfaces {
                    if let Some(known) = status
                        .interfaces
                        .iter_mut()
                        .find(|known| known.mac.as_deref() == Some(guest.mac.as_str()))
                    {
                        known.interface_name = Some(guest.name.clone());
                        known.info_source = Some("domain, guest-agent".to_owned());
                    }
                }
            }
            None => status
                .conditions
                .retain(|condition| condition.type_ != "AgentConnected"),
        }
        let phase = Phase::parse(status.phase.as_deref());
        let (holds, reason, message) = readiness(phase, paused.is_some(), ready, leaving);
        set_instance_condition(
            &mut status.conditions,
            "Ready",
            holds,
            reason,
            message,
            seconds(),
        );
    })?;
    if entered {
        daemon
            .events
            .normal(key, "Started", "VirtualMachineInstance started.");
    }
    if !newly_paused {
        return Ok(());
    }
    if let Some(PauseReason::Panicked) = paused {
        daemon.events.warning(key, "GuestPanicked", report.message.clone().unwrap_or_else(|| "The guest's kernel has panicked; `catamaran dmesg --previous` shows its last words".to_owned()));
    } else if let (Some(_), Some(message)) = (paused, &report.message) {
        daemon.events.warning(key, "Paused", message.clone());
    }
    Ok(())
}

/// `Ready` of an instance. One whose guest is asked to end still runs, but nobody is to count on it; the reason is the peer's word.
fn readiness(
    phase: Phase,
    paused: bool,
    probe: Option<bool>,
    leaving: bool,
) -> (ConditionStatus, &'static str, &'static str) {
    if leaving {
        return (
            ConditionStatus::False,
            "PodTerminating",
            "The guest is asked to end",
        );
    }
    instance_ready(phase, paused, probe)
}

pub(crate) fn pause_words(reason: PauseReason) -> (&'static str, &'static str) {
    match reason {
        PauseReason::User => ("PausedByUser", "VMI was paused by user"),
        PauseReason::NoSpace => (
            "PausedIOError",
            "VMI was paused: a disk of the host is full; it goes on when there is space",
        ),
        PauseReason::IoError => (
            "PausedIOError",
            "VMI was paused, low-level IO error detected",
        ),
        PauseReason::Panicked => (
            "PausedByPanic",
            "VMI was paused: the guest's kernel has panicked",
        ),
        PauseReason::Other => ("Paused", "VMI is paused"),
    }
}

pub(crate) fn enter(status: &mut VirtualMachineInstanceStatus, phase: Phase, ready: Option<bool>) {
    if status.phase.as_deref() == Some(phase.as_str()) {
        return;
    }
    status.phase = Some(phase.as_str().to_owned());
    let now = Some(to_time(seconds()));
    status
        .phase_transition_timestamps
        .push(VirtualMachineInstancePhaseTransitionTimestamp {
            phase: Some(phase.as_str().to_owned()),
            phase_transition_timestamp: now,
        });
    let paused = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Paused");
    let (holds, reason, message) = instance_ready(phase, paused, ready);
    set_instance_condition(
        &mut status.conditions,
        "Ready",
        holds,
        reason,
        message,
        seconds(),
    );
}

pub(crate) fn interface(
    name: &str,
    mac: &str,
    addresses: &[String],
    source: &str,
) -> VirtualMachineInstanceNetworkInterface {
    VirtualMachineInstanceNetworkInterface {
        name: Some(name.to_owned()),
        mac: Some(mac.to_owned()),
        ip_address: addresses.first().cloned(),
        ip_addresses: addresses.to_vec(),
        pod_interface_name: Some("eth0".to_owned()),
        info_source: Some(source.to_owned()),
        ..Default::default()
    }
}

/// Addresses of the machine on the bridge.
#[must_use]
pub fn pod_addresses(daemon: &Daemon, key: &Key) -> Vec<IpAddr> {
    let leases = daemon.network.leases().unwrap_or_default();
    let lease = leases
        .into_iter()
        .find(|lease| lease.key.namespace() == key.namespace && lease.key.name() == key.name);
    lease.map(|lease| lease.addresses()).unwrap_or_default()
}

fn edit(
    store: &Store,
    key: &Key,
    change: impl FnOnce(&mut VirtualMachineInstanceStatus),
) -> Result<(), StartError> {
    let mut problem = None;
    let edited = store.edit(key, |object| {
        let status = object.get("status").cloned().unwrap_or_default();
        let parsed = if status.is_null() {
            Ok(VirtualMachineInstanceStatus::default())
        } else {
            serde_json::from_value(status)
        };
        match parsed {
            Ok(mut status) => {
                change(&mut status);
                match serde_json::to_value(status) {
                    Ok(status) => object["status"] = status,
                    Err(error) => problem = Some(error),
                }
            }
            Err(error) => problem = Some(error),
        }
    });
    if let Some(error) = problem {
        return Err(StartError::Plan(format!(
            "the stored status of {} is not readable: {error}",
            word_of(key)
        )));
    }
    match edited {
        // The instance went away meanwhile: there is no status to keep.
        Ok(_) | Err(crate::serve::store::StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(store_error(error)),
    }
}

fn word_of(key: &Key) -> String {
    key.to_string()
}

pub(crate) fn seconds() -> Seconds {
    i64::try_from(time::seconds()).unwrap_or(i64::MAX)
}

/// Phase of a stored instance.
#[must_use]
pub fn phase_of(object: &Value) -> Phase {
    Phase::parse(Some(word(object, "/status/phase")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_being_stopped_is_not_ready_whatever_its_probe_says() {
        for probe in [None, Some(true), Some(false)] {
            let (runs, ..) = readiness(Phase::Running, false, probe, false);
            assert_eq!(runs == ConditionStatus::True, probe != Some(false));
            let (holds, reason, _) = readiness(Phase::Running, false, probe, true);
            assert_eq!((holds, reason), (ConditionStatus::False, "PodTerminating"));
        }
    }
}
