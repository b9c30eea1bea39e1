//! The status of a host after a step. Pure.

use catamaran_api::metal3::{
    BareMetalHost, BareMetalHostStatus, HardwareDetails, OperationHistory, OperationTime,
    RootDeviceHints,
};
use catamaran_redfish::PowerState;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::annotations::{self, FENCED};
use crate::conditions::set;
use crate::decide::failures;
use crate::facts::{Contact, Facts, Login, Seconds};
use crate::outcome::{ErrorType, Outcome};
use crate::state::State;
use crate::states;

/// What a step came to.
#[derive(Debug, Clone)]
pub(crate) struct Result<'a> {
    /// Its outcome: a failure where an action failed.
    pub(crate) outcome: &'a Outcome,
    /// Power as it was read last.
    pub(crate) power: Option<&'a PowerState>,
    /// Hardware that was found.
    pub(crate) hardware: Option<&'a HardwareDetails>,
    /// Disk that an image was written to.
    pub(crate) disk: Option<&'a str>,
}

pub(crate) fn time(seconds: Seconds) -> Time {
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The status to store.
pub(crate) fn next(
    host: &BareMetalHost,
    facts: &Facts,
    result: &Result<'_>,
) -> BareMetalHostStatus {
    let old = host.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let now = time(facts.now);
    let state = State::of(host);
    "OK".clone_into(&mut new.operational_status);
    if state == State::Unmanaged {
        "discovered".clone_into(&mut new.operational_status);
    }
    if let Some(power) = result.power {
        match power {
            PowerState::On | PowerState::PoweringOff => new.powered_on = true,
            PowerState::Off => new.powered_on = false,
            PowerState::PoweringOn | PowerState::Unknown(_) => {}
        }
    }
    if let Some(hardware) = result.hardware {
        new.hardware = Some(hardware.clone());
    }
    if let Login::Ready(version) = &facts.login
        && facts.contact != Contact::NotAsked
    {
        new.tried_credentials = Some(version.clone());
        if matches!(facts.contact, Contact::Answers(_)) {
            new.good_credentials = Some(version.clone());
        }
    }
    if let Contact::Answers(seen) = &facts.contact {
        new.provisioning.id = seen.uuid.clone().unwrap_or_default();
    }
    match result.outcome {
        Outcome::Failed(failure) => {
            "error".clone_into(&mut new.operational_status);
            new.error_type = Some(failure.error_type.as_str().to_owned());
            new.error_message.clone_from(&failure.message);
            // The BMC has answered since: it is not the same trouble still.
            let anew = matches!(facts.contact, Contact::Failed(_)) && old.error_type.is_none();
            new.error_count = if anew { 1 } else { failures(host) + 1 };
            if failure.error_type == ErrorType::Provisioning && state == State::Provisioning {
                new.provisioning_fail_count += 1;
            }
            // Also the time of the try, which the next one counts from.
            new.last_updated = Some(now.clone());
        }
        Outcome::Wait { .. } | Outcome::Done { .. } | Outcome::Transition { .. } => {
            new.error_type = None;
            new.error_message.clear();
            // That a job was begun once more is no success: what fails each time is tried with growing pauses, and a deletion gives it up.
            let at_work = facts.job.is_some() && state != State::Available;
            let goes_on = at_work && matches!(result.outcome, Outcome::Wait { .. });
            new.error_count = if goes_on { failures(host) } else { 0 };
        }
    }
    if let Outcome::Transition { to } = result.outcome {
        enter(host, state, *to, result.disk, &mut new, &now);
    }
    conditions(host, facts, result, &mut new, &now);
    if new != old {
        new.last_updated = Some(now);
    }
    new
}

fn enter(
    host: &BareMetalHost,
    from: State,
    to: State,
    disk: Option<&str>,
    new: &mut BareMetalHostStatus,
    now: &Time,
) {
    to.as_str().clone_into(&mut new.provisioning.state);
    new.provisioning.state_since = Some(now.clone());
    if to == State::Unmanaged {
        "discovered".clone_into(&mut new.operational_status);
    }
    let history = new
        .operation_history
        .get_or_insert_with(OperationHistory::default);
    // An image that was given up was never written: its disk is none of ours.
    let given_up = from == State::Provisioning && to != State::Provisioned;
    if let Some(ends) = operation(history, from)
        && let Some(ends) = ends.as_mut()
        && !given_up
    {
        ends.end = Some(now.clone());
    }
    if let Some(begins) = operation(history, to) {
        *begins = Some(OperationTime {
            end: None,
            start: Some(now.clone()),
        });
    }
    match to {
        State::Provisioning => {
            new.provisioning.image.clone_from(&host.spec.image);
            new.provisioning
                .root_device_hints
                .clone_from(&host.spec.root_device_hints);
            new.last_attempted_image.clone_from(&host.spec.image);
        }
        State::Provisioned if from == State::Provisioning => {
            new.provisioning_fail_count = 0;
            if let Some(disk) = disk {
                // By this it is cleaned, whatever disks are added meanwhile.
                new.provisioning.root_device_hints = Some(RootDeviceHints {
                    device_name: Some(disk.to_owned()),
                    ..RootDeviceHints::default()
                });
            }
        }
        State::Available => {
            new.provisioning.boot_mode = Some(states::wanted_boot_mode(host).to_owned());
        }
        _ => {}
    }
    if from == State::Deprovisioning {
        new.provisioning.image = None;
        new.provisioning.root_device_hints = None;
    }
}

fn operation(history: &mut OperationHistory, state: State) -> Option<&mut Option<OperationTime>> {
    match state {
        State::Registering => Some(&mut history.register),
        State::Inspecting => Some(&mut history.inspect),
        State::Provisioning => Some(&mut history.provision),
        State::Deprovisioning => Some(&mut history.deprovision),
        _ => None,
    }
}

/// How long the host has been too long in its state, if it has.
pub(crate) fn overdue(host: &BareMetalHost, now: Seconds) -> Option<Seconds> {
    let since = host.status.as_ref()?.provisioning.state_since.as_ref()?;
    let lasts = now - since.0.as_second();
    State::of(host)
        .deadline()
        .filter(|deadline| lasts > *deadline)
        .map(|_| lasts)
}

fn conditions(
    host: &BareMetalHost,
    facts: &Facts,
    result: &Result<'_>,
    new: &mut BareMetalHostStatus,
    now: &Time,
) {
    let state = match result.outcome {
        Outcome::Transition { to } => *to,
        _ => State::of(host),
    };
    let message = new.error_message.clone();
    let failure = match result.outcome {
        Outcome::Failed(failure) => Some(failure.error_type),
        _ => None,
    };
    let generation = host.metadata.generation;
    let all = &mut new.conditions;
    let mut put = |type_: &str, holds: Option<bool>, reason: &str, message: &str| {
        set(all, generation, type_, holds, reason, message, now);
    };
    match (&facts.contact, failure) {
        (Contact::Answers(_), _) => put("Manageable", Some(true), "BMCAnswers", ""),
        (_, Some(error)) => put("Manageable", Some(false), error.event(), &message),
        _ if state == State::Unmanaged => {
            put("Manageable", Some(false), "NoBMC", "spec.bmc is not given");
        }
        _ => put("Manageable", None, "NotAsked", "the BMC was not asked yet"),
    }
    let word = reason_of(state);
    put("Provisioned", Some(state.in_use()), word, "");
    put(
        "Ready",
        Some(failure.is_none() && (state.in_use() || state == State::Available)),
        word,
        &message,
    );
    let free =
        state == State::Available && host.spec.consumer_ref.is_none() && host.spec.image.is_none();
    put(
        "AvailableForProvisioning",
        Some(free && failure.is_none()),
        word,
        "",
    );
    match (overdue(host, facts.now), result.outcome) {
        (Some(lasts), Outcome::Failed(_) | Outcome::Wait { .. }) => {
            let text = format!(
                "{} for {lasts} s, longer than it may take; {message}",
                state.as_str()
            );
            put(
                "Progressing",
                Some(true),
                "Overdue",
                text.trim_end_matches("; "),
            );
        }
        (
            _,
            Outcome::Wait {
                reason, message, ..
            },
        ) => {
            put(
                "Progressing",
                Some(state.deadline().is_some()),
                reason,
                message,
            );
        }
        _ => put(
            "Progressing",
            Some(state.deadline().is_some()),
            word,
            &message,
        ),
    }
    if let Contact::Answers(seen) = &facts.contact {
        match seen.health.as_deref() {
            Some("OK") => put("Healthy", Some(true), "OK", ""),
            Some(health @ ("Warning" | "Critical")) => {
                put(
                    "Healthy",
                    Some(false),
                    health,
                    "the BMC reports a fault of the server's hardware",
                );
            }
            _ => put("Healthy", None, "Unknown", "the BMC does not say"),
        }
    }
    let was = all
        .iter()
        .any(|one| one.type_ == "Fenced" && one.status == "True");
    let on = matches!(result.power, Some(PowerState::On | PowerState::PoweringOn));
    match annotations::get(host, FENCED) {
        Some(proof) if !on => set(
            all,
            generation,
            "Fenced",
            Some(true),
            "ProvedOff",
            proof,
            now,
        ),
        _ if was => set(
            all,
            generation,
            "Fenced",
            Some(false),
            "NotFencedAnyMore",
            "",
            now,
        ),
        _ => {}
    }
}

/// The state as a reason: one word.
fn reason_of(state: State) -> &'static str {
    match state {
        State::New => "New",
        State::Unmanaged => "Unmanaged",
        State::Registering => "Registering",
        State::Inspecting => "Inspecting",
        State::Preparing => "Preparing",
        State::Available => "Available",
        State::Provisioning => "Provisioning",
        State::Provisioned => "Provisioned",
        State::ExternallyProvisioned => "ExternallyProvisioned",
        State::Deprovisioning => "Deprovisioning",
        State::PoweringOff => "PoweringOff",
        State::Deleting => "Deleting",
    }
}
