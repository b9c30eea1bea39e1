//! Conditions of objects. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Sets a condition. The time of its last change stays when its status does.
pub(crate) fn set(
    all: &mut Vec<Condition>,
    generation: Option<i64>,
    type_: &str,
    holds: Option<bool>,
    reason: &str,
    message: &str,
    now: &Time,
) {
    let status = match holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let old = all.iter().position(|one| one.type_ == type_);
    let since = old.map(|at| &all[at]).filter(|one| one.status == status);
    let condition = Condition {
        last_transition_time: since
            .map_or_else(|| now.clone(), |one| one.last_transition_time.clone()),
        message: message.to_owned(),
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: type_.to_owned(),
    };
    match old {
        Some(at) => all[at] = condition,
        None => all.push(condition),
    }
}
