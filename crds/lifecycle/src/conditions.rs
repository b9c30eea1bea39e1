//! Conditions: one of each type; the transition time moves only when the status does.

use catamaran_api::{
    VirtualMachineCondition, VirtualMachineInstance, VirtualMachineInstanceCondition,
};

use crate::phase::Phase;
use crate::time::{Seconds, to_time};

/// Message of `RestartRequired`.
pub const RESTART_REQUIRED_MESSAGE: &str =
    "a non-live-updatable field was changed in the template spec";

/// Conditions of a machine that are its own, never copied from the instance.
const OWN: [&str; 3] = ["Ready", "Failure", "RestartRequired"];

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// True or False.
    #[must_use]
    pub fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition of an instance, its transition time yet unknown. Empty texts are left out.
#[must_use]
fn instance(
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
) -> VirtualMachineInstanceCondition {
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    VirtualMachineInstanceCondition {
        status: status.as_str().to_owned(),
        type_: type_.to_owned(),
        last_probe_time: None,
        last_transition_time: None,
        message: text(message),
        reason: text(reason),
    }
}

/// Sets one condition of an instance.
pub fn set_instance_condition(
    conditions: &mut Vec<VirtualMachineInstanceCondition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: Seconds,
) {
    let mut new = instance(type_, status, reason, message);
    new.last_transition_time = Some(to_time(now));
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        None => conditions.push(new),
        Some(old) => {
            if old.status == new.status && old.last_transition_time.is_some() {
                new.last_transition_time
                    .clone_from(&old.last_transition_time);
            }
            *old = new;
        }
    }
}

/// Sets one condition of a machine.
pub fn set_machine_condition(
    conditions: &mut Vec<VirtualMachineCondition>,
    type_: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    now: Seconds,
) {
    let condition = machine(&instance(type_, status, reason, message));
    put(conditions, condition, now);
}

fn machine(condition: &VirtualMachineInstanceCondition) -> VirtualMachineCondition {
    VirtualMachineCondition {
        status: condition.status.clone(),
        type_: condition.type_.clone(),
        last_probe_time: condition.last_probe_time.clone(),
        last_transition_time: condition.last_transition_time.clone(),
        message: condition.message.clone(),
        reason: condition.reason.clone(),
    }
}

fn put(
    conditions: &mut Vec<VirtualMachineCondition>,
    mut new: VirtualMachineCondition,
    now: Seconds,
) {
    let old = conditions.iter_mut().find(|c| c.type_ == new.type_);
    let unchanged = old
        .as_ref()
        .filter(|old| old.status == new.status)
        .and_then(|old| old.last_transition_time.clone());
    new.last_transition_time = unchanged
        .or(new.last_transition_time)
        .or_else(|| Some(to_time(now)));
    match old {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

/// `Ready` of an instance: (status, reason, message). `probe`: what the readiness probe says, `None` without one.
#[must_use]
pub fn instance_ready(
    phase: Phase,
    paused: bool,
    probe: Option<bool>,
) -> (ConditionStatus, &'static str, &'static str) {
    match (phase, probe) {
        (Phase::Running, _) if paused => (
            ConditionStatus::False,
            "GuestNotRunning",
            "Guest VM is paused",
        ),
        (Phase::Running, Some(false)) => (
            ConditionStatus::False,
            "ContainersNotReady",
            "The readiness probe fails",
        ),
        (Phase::Running, _) => (ConditionStatus::True, "", ""),
        _ => (
            ConditionStatus::False,
            "GuestNotRunning",
            "Guest VM is not reported as running",
        ),
    }
}

/// Conditions of a machine: its own, and every one of its instance copied.
///
/// `failure`: (reason, message) of the error that keeps the machine from what its spec asks. Copied conditions stay as they were while there is
/// no instance, and go when the instance drops them.
#[must_use]
pub fn machine_conditions(
    previous: &[VirtualMachineCondition],
    vmi: Option<&VirtualMachineInstance>,
    failure: Option<(&str, &str)>,
    now: Seconds,
) -> Vec<VirtualMachineCondition> {
    let mut conditions = previous.to_vec();
    let empty = Vec::new();
    let theirs = vmi.map(|v| v.status.as_ref().map_or(&empty, |s| &s.conditions));
    match theirs.map(|list| list.iter().find(|c| c.type_ == "Ready")) {
        None => set_machine_condition(
            &mut conditions,
            "Ready",
            ConditionStatus::False,
            "VMINotExists",
            "VMI does not exist",
            now,
        ),
        Some(None) => set_machine_condition(
            &mut conditions,
            "Ready",
            ConditionStatus::False,
            "VMIConditionMissing",
            "VMI is missing the Ready condition",
            now,
        ),
        Some(Some(ready)) => put(&mut conditions, machine(ready), now),
    }
    match failure {
        None => conditions.retain(|c| c.type_ != "Failure"),
        Some((reason, message)) => set_machine_condition(
            &mut conditions,
            "Failure",
            ConditionStatus::True,
            reason,
            message,
            now,
        ),
    }
    if let Some(theirs) = theirs {
        conditions.retain(|c| {
            OWN.contains(&c.type_.as_str()) || theirs.iter().any(|t| t.type_ == c.type_)
        });
        for condition in theirs.iter().filter(|c| !OWN.contains(&c.type_.as_str())) {
            put(&mut conditions, machine(condition), now);
        }
    }
    conditions
}

/// Sets or drops `RestartRequired`. It holds while an instance runs with a template that is not the machine's any more.
pub fn restart_required(
    conditions: &mut Vec<VirtualMachineCondition>,
    required: bool,
    now: Seconds,
) {
    if required {
        set_machine_condition(
            conditions,
            "RestartRequired",
            ConditionStatus::True,
            "RestartRequired",
            RESTART_REQUIRED_MESSAGE,
            now,
        );
    } else {
        conditions.retain(|c| c.type_ != "RestartRequired");
    }
}
