//! Inserting and ejecting virtual media, in the ways vendors have it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{done, unknown_property};
use crate::bmc::Bmc;
use crate::reply::Reply;
use crate::request::Asked;

/// A change of a slot; `rest` is what follows it in the path.
pub(crate) fn change(bmc: &Bmc, asked: &Asked, slot: &str, rest: &[&str], body: &Value) -> Reply {
    let slots = &bmc.personality.media.slots;
    let Some(at) = slots.iter().position(|known| known.id == slot) else {
        return Reply::missing(&asked.path);
    };
    let by_patch = slots[at].by_patch;
    match (asked.method.as_str(), rest) {
        ("PATCH", []) if by_patch => by_property(bmc, at, body),
        ("POST", ["Actions", "VirtualMedia.InsertMedia"]) if !by_patch => insert(bmc, at, body),
        ("POST", ["Actions", "VirtualMedia.EjectMedia"]) if !by_patch => {
            if bmc.personality.media.eject_needs_body && asked.body.is_none() {
                return Reply::error(400, "Base.1.8.MalformedJSON", "The request has no body.");
            }
            eject(bmc, at)
        }
        _ => Reply::error(
            405,
            "Base.1.8.OperationNotAllowed",
            "The HTTP method is not allowed on this resource.",
        ),
    }
}

fn by_property(bmc: &Bmc, at: usize, body: &Value) -> Reply {
    match (body["Image"].as_str(), body["Inserted"].as_bool()) {
        (Some(image), Some(true)) => {
            bmc.state().slots[at].image = Some(image.to_owned());
            Reply::done()
        }
        (None, Some(false)) => {
            bmc.state().slots[at].image = None;
            Reply::done()
        }
        _ => unknown_property(body),
    }
}

fn insert(bmc: &Bmc, at: usize, body: &Value) -> Reply {
    let rules = &bmc.personality.media;
    if rules.slots[at].dead {
        return Reply::error(
            405,
            "Base.1.13.0.OperationNotAllowed",
            "The HTTP method is not allowed on this resource.",
        );
    }
    let missing = |name: &str| {
        let text = format!(
            "The action VirtualMedia.InsertMedia requires the parameter {name} to be present in the request body."
        );
        Reply::error(400, "Base.1.8.ActionParameterMissing", &text)
    };
    let Some(image) = body["Image"].as_str() else {
        return missing("Image");
    };
    if let Some(needed) = rules
        .needs
        .as_deref()
        .filter(|needed| body[*needed].is_null())
    {
        return missing(needed);
    }
    if rules.refuses_flags && (!body["Inserted"].is_null() || !body["WriteProtected"].is_null()) {
        return unknown_property(body);
    }
    {
        let mut state = bmc.state();
        let slot = &mut state.slots[at];
        let late = Duration::from_millis(rules.eject_ms);
        let busy = slot.ejected.is_some_and(|ejected| ejected.elapsed() < late);
        if busy || (rules.refuses_occupied && slot.image.is_some()) {
            return Reply::error(500, "IDRAC.2.8.VRM0012", "The virtual media are in use.");
        }
        slot.image = Some(image.to_owned());
    }
    done(bmc, "insert", true)
}

fn eject(bmc: &Bmc, at: usize) -> Reply {
    let mut state = bmc.state();
    let slot = &mut state.slots[at];
    if slot.image.take().is_some() {
        slot.ejected = Some(Instant::now());
    } else if bmc.personality.media.refuses_occupied {
        // Dell and HPE say so; others do not mind.
        return Reply::error(500, "IDRAC.2.8.VRM0009", "No virtual media are connected.");
    }
    Reply::done()
}
