//! What is to be done with a host: deletion, credentials and back-off, which are the same in every state, and then the state's own module.

use catamaran_api::metal3::BareMetalHost;

use crate::annotations::{self, Detached, FORCE_DELETE, PAUSED};
use crate::back_off;
use crate::boot_once;
use crate::deploy::Progress;
use crate::facts::{Contact, Facts, Login, Seconds};
use crate::outcome::{Action, ErrorType, Step};
use crate::state::State;
use crate::states;

/// Failures in a row after which a step of a deletion is given up.
const GIVE_UP_AFTER: i64 = 3;
/// Pause between two looks at a detached host.
const DETACHED_POLL: Seconds = 600;

/// Whether a host is to be looked at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is paused: nothing is read and nothing written.
    Paused,
    /// It is detached: its BMC is left alone. Look again after so many seconds.
    Detached(Seconds),
    /// The last step failed and is not tried again yet. Look again after so many seconds.
    Later(Seconds),
    /// Yes; with its BMC or without.
    Go {
        /// The BMC is asked.
        ask: bool,
    },
}

/// Whether a host is to be looked at now.
#[must_use]
pub fn gate(host: &BareMetalHost, login: &Login, now: Seconds) -> Gate {
    if annotations::get(host, PAUSED).is_some() {
        return Gate::Paused;
    }
    let state = State::of(host);
    let deleting = host.metadata.deletion_timestamp.is_some();
    let forced = deleting && annotations::get(host, FORCE_DELETE).is_some();
    match detached(host) {
        Some(Detached::Delete) if deleting => return Gate::Go { ask: false },
        Some(_) if !forced => return Gate::Detached(DETACHED_POLL),
        _ => {}
    }
    let ask = !forced && !matches!(state, State::New | State::Unmanaged | State::Deleting);
    if let Some(again) = pending(host, login, now).filter(|_| !forced) {
        return Gate::Later(again);
    }
    Gate::Go { ask }
}

/// Whether its BMC is left alone.
pub(crate) fn is_detached(host: &BareMetalHost) -> bool {
    detached(host).is_some()
}

fn detached(host: &BareMetalHost) -> Option<Detached> {
    let state = State::of(host);
    Detached::of(host, state.in_use() || state == State::Available)
}

/// Seconds until the step that failed is tried again. A changed spec (which deletion is, too) or other credentials are a reason to try at once.
fn pending(host: &BareMetalHost, login: &Login, now: Seconds) -> Option<Seconds> {
    let status = host.status.as_ref()?;
    // Failures are counted on while a job that failed is at work once more.
    status.error_type.as_ref()?;
    if is_changed(host) {
        return None;
    }
    if let Login::Ready(version) = login
        && status.tried_credentials.as_ref() != Some(version)
    {
        return None;
    }
    let since = status.last_updated.as_ref()?.0.as_second();
    let uid = host.metadata.uid.as_deref().unwrap_or_default();
    let left = since + back_off::pause(status.error_count, uid) - now;
    (left > 0).then_some(left)
}

/// Whether the spec has changed, or the deletion was asked for, since the host was looked at last.
fn is_changed(host: &BareMetalHost) -> bool {
    let conditions = host.status.iter().flat_map(|status| &status.conditions);
    let observed = conditions
        .filter(|one| one.type_ == "Manageable")
        .find_map(|one| one.observed_generation);
    observed != host.metadata.generation
}

/// Failures in a row of what is asked for now.
pub(crate) fn failures(host: &BareMetalHost) -> i64 {
    let counted = host.status.as_ref().map_or(0, |status| status.error_count);
    if is_changed(host) { 0 } else { counted }
}

/// What is to be done. Pure.
#[must_use]
pub fn decide(host: &BareMetalHost, facts: &Facts) -> Step {
    let state = State::of(host);
    if host.metadata.deletion_timestamp.is_some() {
        if let Some(step) = deletion(host, state, facts) {
            return step;
        }
    } else if let Some(step) = access(host, state, facts) {
        return step;
    }
    let mut step = states::handle(state, host, facts);
    if let Some(refusal) = boot_once::refusal(host) {
        step.actions.insert(0, Action::RefuseBootOnce(refusal));
    }
    step
}

/// Where a deletion leads from a state; none where the state itself knows.
fn deletion(host: &BareMetalHost, state: State, facts: &Facts) -> Option<Step> {
    let failures = failures(host);
    let forced = annotations::get(host, FORCE_DELETE).is_some() || detached(host).is_some();
    let to = match state {
        State::Deleting => return None,
        _ if forced => State::Deleting,
        State::New | State::Unmanaged | State::Registering => State::Deleting,
        State::Provisioning | State::Provisioned => State::Deprovisioning,
        // What is being wiped is not given up, whatever went wrong before.
        State::Deprovisioning if matches!(facts.progress, Progress::Working(_)) => return None,
        State::Deprovisioning if failures > GIVE_UP_AFTER => State::PoweringOff,
        State::PoweringOff if failures > GIVE_UP_AFTER => State::Deleting,
        State::Deprovisioning | State::PoweringOff => return None,
        State::Inspecting | State::Preparing | State::Available | State::ExternallyProvisioned => {
            State::PoweringOff
        }
    };
    Some(Step::to(to))
}

/// Credentials that are missing or refused are an error in every state that needs the BMC, whatever the state.
fn access(host: &BareMetalHost, state: State, facts: &Facts) -> Option<Step> {
    if matches!(state, State::New | State::Unmanaged) {
        return None;
    }
    let error_type = match state {
        _ if state.in_use() => ErrorType::ProvisionedRegistration,
        State::Deprovisioning => ErrorType::ProvisionedRegistration,
        _ => ErrorType::Registration,
    };
    let known = host
        .status
        .as_ref()
        .and_then(|status| status.good_credentials.as_ref());
    match (&facts.login, &facts.contact) {
        (Login::NoBmc, _) => Some(Step::failed(
            error_type,
            "spec.bmc is gone; give it back, or delete the host",
        )),
        (Login::Unusable(why), _) => Some(Step::failed(error_type, why)),
        (Login::Ready(tried), Contact::Failed(trouble)) => {
            let about_access = trouble.is_access() || known != Some(tried);
            let error_type = if about_access {
                error_type
            } else {
                state.error_type()
            };
            Some(Step::failed(error_type, &trouble.message))
        }
        (Login::Ready(_), Contact::Answers(_) | Contact::NotAsked) => None,
    }
}
