//! The daemon's part of an instance's status: pure functions from what is there and what the launcher says to what is to be there.
//!
//! Everything that comes with the phase Running is in one status, so that it is one write. `Ready` is the controller's, which follows the pod;
//! only with a change of the phase it is written here too, since the two belong together.

use catamaran_api::{
    CpuTopology, Machine, MemoryStatus, Quantity, VirtualMachineInstanceGuestOsInfo,
    VirtualMachineInstanceNetworkInterface, VirtualMachineInstanceStatus,
};
use catamaran_lifecycle::{
    ConditionStatus, DomainEnd, Phase, Seconds, VmiView, set_instance_condition,
};
use catamaran_plan::{Accelerator, Plan};
use catamaran_wire::{AgentInfo, EndReason, GuestInterface, PauseReason, VmReport, VmState};
use serde_json::{Map, Value};

use crate::kubernetes::session::Session;
use crate::machine::status::{enter, interface, pause_words};

/// Interfaces that only the guest knows of, at most.
const FOREIGN_INTERFACES: usize = 16;

/// The status of an instance whose guest runs. `probed`: it has a readiness probe, so that the pod says whether it is ready.
#[must_use]
pub fn running(
    before: &VirtualMachineInstanceStatus,
    session: &Session,
    report: &VmReport,
    probed: bool,
    now: Seconds,
) -> VirtualMachineInstanceStatus {
    let mut status = before.clone();
    let paused = match &report.state {
        VmState::Paused { reason } => Some(*reason),
        _ => None,
    };
    match paused.map(pause_words) {
        Some((reason, message)) => set_instance_condition(
            &mut status.conditions,
            "Paused",
            ConditionStatus::True,
            reason,
            message,
            now,
        ),
        None => drop_condition(&mut status, "Paused"),
    }
    drop_condition(&mut status, "Synchronized");
    if session.plan.accelerator == Accelerator::Tcg {
        set_instance_condition(
            &mut status.conditions,
            "SoftwareEmulation",
            ConditionStatus::True,
            "NoUsableKVM",
            "KVM does not work on this node or is not asked for, so the guest is emulated",
            now,
        );
    }
    agent(&mut status, report.agent.as_ref(), now);
    hardware(&mut status, session);
    interfaces(&mut status, session, report.agent.as_ref());
    enter(&mut status, Phase::Running, probed.then_some(false));
    status
}

fn agent(status: &mut VirtualMachineInstanceStatus, agent: Option<&AgentInfo>, now: Seconds) {
    let Some(agent) = agent else {
        drop_condition(status, "AgentConnected");
        return;
    };
    set_instance_condition(
        &mut status.conditions,
        "AgentConnected",
        ConditionStatus::True,
        "",
        "",
        now,
    );
    status.guest_os_info = Some(guest_os(&agent.os));
}

/// What `guest-get-osinfo` says, in the peer's names.
#[must_use]
pub fn guest_os(said: &Value) -> VirtualMachineInstanceGuestOsInfo {
    let text = |name: &str| said[name].as_str().map(str::to_owned);
    VirtualMachineInstanceGuestOsInfo {
        id: text("id"),
        kernel_release: text("kernel-release"),
        kernel_version: text("kernel-version"),
        machine: text("machine"),
        name: text("name"),
        pretty_name: text("pretty-name"),
        version: text("version"),
        version_id: text("version-id"),
    }
}

fn hardware(status: &mut VirtualMachineInstanceStatus, session: &Session) {
    let plan = &session.plan;
    let bytes = |bytes: u64| Some(Quantity(kibibytes(bytes)));
    status.runtime_user = Some(i64::from(catamaran_plan::paths::UID));
    status.machine = Some(Machine {
        type_: Some(plan.hardware.machine.clone()),
        ..Default::default()
    });
    status.resolved_hardware = serde_json::to_string(&plan.hardware).ok();
    status.memory = Some(MemoryStatus {
        guest_at_boot: bytes(plan.guest_memory),
        guest_current: bytes(plan.guest_memory),
        guest_requested: bytes(plan.guest_memory),
        memory_overhead: bytes(plan.overhead),
    });
    status.current_cpu_topology = Some(CpuTopology {
        cores: Some(session.sizes.cores),
        sockets: Some(session.sizes.sockets),
        threads: Some(session.sizes.threads),
    });
    // Of volumes that come and go, what is known stays.
    let hot = std::mem::take(&mut status.volume_status).into_iter();
    let hot = hot.filter(|volume| volume.hotplug_volume.is_some());
    status.volume_status = session.volumes.iter().cloned().chain(hot).collect();
}

/// A quantity as people write it.
fn kibibytes(bytes: u64) -> String {
    for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn interfaces(
    status: &mut VirtualMachineInstanceStatus,
    session: &Session,
    agent: Option<&AgentInfo>,
) {
    let addresses: Vec<String> = session.addresses.iter().map(ToString::to_string).collect();
    let nics = &session.plan.nics;
    let seen = agent
        .map(|agent| agent.interfaces.as_slice())
        .unwrap_or_default();
    let mut list: Vec<_> = nics
        .iter()
        .map(|nic| {
            let other = session.interfaces.get(&nic.name);
            let addresses = if other.is_some() {
                &[]
            } else {
                addresses.as_slice()
            };
            let mut known = interface(&nic.name, &nic.mac, addresses, "domain");
            if let Some(other) = other {
                known.pod_interface_name = Some(other.clone());
                known.info_source = Some("domain, multus-status".to_owned());
            }
            known.link_state = Some("up".to_owned());
            known.queue_count = Some(queues(&session.plan, nic.multi_queue));
            if let Some(guest) = seen.iter().find(|guest| guest.mac == nic.mac) {
                known.interface_name = Some(guest.name.clone());
                let source = known.info_source.unwrap_or_default();
                known.info_source = Some(source.replacen("domain", "domain, guest-agent", 1));
                if other.is_some() {
                    // Nobody but the guest knows its addresses there.
                    let addresses: Vec<_> =
                        guest.addresses.iter().map(ToString::to_string).collect();
                    known.ip_address = addresses.first().cloned();
                    known.ip_addresses = addresses;
                }
            }
            known
        })
        .collect();
    let foreign = seen
        .iter()
        .filter(|guest| !guest.mac.is_empty() && nics.iter().all(|nic| nic.mac != guest.mac));
    // Whoever looks for the address of an instance takes the first.
    list.sort_by_key(|one| {
        let name = one.name.as_ref();
        name.is_some_and(|name| session.interfaces.contains_key(name))
    });
    list.extend(foreign.take(FOREIGN_INTERFACES).map(of_guest));
    status.interfaces = list;
}

fn queues(plan: &Plan, several: bool) -> i32 {
    let said = || {
        let (_, rest) = plan.domain_xml.split_once("queues='")?;
        rest.split_once('\'')?.0.parse().ok()
    };
    if several { said().unwrap_or(1) } else { 1 }
}

fn of_guest(guest: &GuestInterface) -> VirtualMachineInstanceNetworkInterface {
    let addresses: Vec<String> = guest.addresses.iter().map(ToString::to_string).collect();
    VirtualMachineInstanceNetworkInterface {
        interface_name: Some(guest.name.clone()),
        mac: Some(guest.mac.clone()),
        ip_address: addresses.first().cloned(),
        ip_addresses: addresses,
        info_source: Some("guest-agent".to_owned()),
        ..Default::default()
    }
}

/// The status of an instance whose guest has ended.
#[must_use]
pub fn ended(
    before: &VirtualMachineInstanceStatus,
    phase: Phase,
    words: &str,
) -> VirtualMachineInstanceStatus {
    let mut status = before.clone();
    if Phase::parse(status.phase.as_deref()).is_final() {
        return status;
    }
    for kind in ["Paused", "AgentConnected"] {
        drop_condition(&mut status, kind);
    }
    status.reason = Some(words.to_owned());
    enter(&mut status, phase, None);
    status
}

/// The status of an instance that can't be started: the words, for people.
#[must_use]
pub fn unsynchronized(
    before: &VirtualMachineInstanceStatus,
    reason: &str,
    message: &str,
    now: Seconds,
) -> VirtualMachineInstanceStatus {
    let mut status = before.clone();
    set_instance_condition(
        &mut status.conditions,
        "Synchronized",
        ConditionStatus::False,
        reason,
        message,
        now,
    );
    status
}

fn drop_condition(status: &mut VirtualMachineInstanceStatus, kind: &str) {
    status
        .conditions
        .retain(|condition| condition.type_ != kind);
}

/// How a domain came to its end. `asked`: seconds that it was given when it was asked to stop.
#[must_use]
pub fn domain_end(reason: EndReason, view: &VmiView, asked: Option<u32>) -> DomainEnd {
    match reason {
        EndReason::Shutdown => DomainEnd::Shutdown,
        EndReason::Saved => DomainEnd::Saved,
        EndReason::Destroyed => DomainEnd::Destroyed {
            acpi: view.acpi,
            grace_seconds: asked.unwrap_or(view.grace_seconds),
        },
        EndReason::Panicked => DomainEnd::Panicked,
        EndReason::FailedToStart => DomainEnd::NeverStarted,
        EndReason::Crashed | EndReason::Other => DomainEnd::Crashed,
    }
}

/// Why a guest that has just been paused was paused, as an event: (reason, message); `None` when somebody asked for it.
#[must_use]
pub fn pause_event(
    before: &VirtualMachineInstanceStatus,
    report: &VmReport,
) -> Option<(&'static str, String)> {
    let VmState::Paused { reason } = &report.state else {
        return None;
    };
    let (word, _) = pause_words(*reason);
    let known = before
        .conditions
        .iter()
        .any(|condition| condition.type_ == "Paused" && condition.reason.as_deref() == Some(word));
    let message = report.message.clone();
    match reason {
        _ if known => None,
        PauseReason::User => None,
        PauseReason::Panicked => Some((
            "GuestPanicked",
            message.unwrap_or_else(|| "The guest's kernel has panicked".to_owned()),
        )),
        _ => Some(("Paused", message?)),
    }
}

/// Top-level fields of the status that change, for a merge patch.
#[must_use]
pub fn difference(
    before: &VirtualMachineInstanceStatus,
    after: &VirtualMachineInstanceStatus,
) -> Map<String, Value> {
    let object = |status: &VirtualMachineInstanceStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (before, after) = (object(before), object(after));
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in after {
        if before.get(&key) == Some(&value) {
            continue;
        }
        // A merge keeps what it is not told to remove.
        let value = match (value, before.get(&key)) {
            (Value::Object(mut new), Some(Value::Object(old))) => {
                for field in old
                    .keys()
                    .filter(|field| !new.contains_key(*field))
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    new.insert(field, Value::Null);
                }
                Value::Object(new)
            }
            (value, _) => value,
        };
        patch.insert(key, value);
    }
    patch
}

#[cfg(test)]
mod tests;
