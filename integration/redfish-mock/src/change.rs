//! What can be changed: sessions, actions, settings.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bmc::Bmc;
use crate::machine::State;
use crate::personality::{EtagStyle, SessionService};
use crate::power::Order;
use crate::reply::Reply;
use crate::request::Asked;
use crate::tasks::{MONITORS, TASKS, Task};
use crate::tree::{self, ROOT};

mod media;

/// Answers a change.
pub(crate) fn change(bmc: &Arc<Bmc>, asked: &Asked) -> Reply {
    let (path, ids) = (asked.path.as_str(), &bmc.personality.ids);
    let rest = path.strip_prefix(ROOT).unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let empty = Value::Null;
    let body = asked.body.as_ref().unwrap_or(&empty);
    if asked.method == "PATCH" && !etag_fits(bmc, asked) {
        return Reply::error(
            412,
            "Base.1.8.PreconditionFailed",
            "The ETag supplied did not match the ETag required to change this resource.",
        );
    }
    match (asked.method.as_str(), parts.as_slice()) {
        ("POST", ["SessionService", "Sessions"]) => login(bmc, path, body),
        ("DELETE", ["SessionService", "Sessions", id]) => {
            if bmc.state().sessions.close(id) {
                Reply::done()
            } else {
                Reply::missing(path)
            }
        }
        ("POST", ["Systems", id, "Actions", "ComputerSystem.Reset"]) if *id == ids.system => {
            reset(bmc, body)
        }
        ("PATCH", ["Systems", id]) if *id == ids.system && !bmc.personality.boot.by_settings => {
            boot(bmc, body)
        }
        ("PATCH", ["Systems", id, "Settings"])
            if *id == ids.system && bmc.personality.boot.by_settings =>
        {
            boot(bmc, body)
        }
        ("PATCH", ["Systems", id, "Bios", "Settings"]) if *id == ids.system => bios(bmc, body),
        ("POST", ["Systems", id, "Bios", "Actions", "Bios.ResetBios"]) if *id == ids.system => {
            bmc.state().bios_pending = bmc.personality.bios.clone();
            Reply::done()
        }
        ("PATCH", ["Systems", id, "SecureBoot"]) if *id == ids.system => {
            match body["SecureBootEnable"].as_bool() {
                Some(on) => {
                    bmc.state().secure_boot_pending = on;
                    Reply::done()
                }
                None => unknown_property(body),
            }
        }
        (
            "POST",
            [
                "Systems",
                id,
                "SecureBoot",
                "Actions",
                "SecureBoot.ResetKeys",
            ],
        ) if *id == ids.system => Reply::done(),
        (_, ["Systems", id, "VirtualMedia", slot, rest @ ..])
            if *id == ids.system && bmc.personality.media.at_system =>
        {
            media::change(bmc, asked, slot, rest, body)
        }
        (_, ["Managers", id, "VirtualMedia", slot, rest @ ..])
            if *id == ids.manager && !bmc.personality.media.at_system =>
        {
            media::change(bmc, asked, slot, rest, body)
        }
        _ if tree::resource(bmc, path).is_some() => Reply::error(
            405,
            "Base.1.8.OperationNotAllowed",
            "The HTTP method is not allowed on this resource.",
        ),
        _ => Reply::missing(path),
    }
}

fn etag_fits(bmc: &Bmc, asked: &Asked) -> bool {
    let Some(given) = asked.if_match.as_deref().filter(|given| *given != "*") else {
        return true;
    };
    let Some(body) = tree::resource(bmc, &asked.path) else {
        return true;
    };
    let strong = tree::strong_etag(&body);
    match bmc.personality.etag {
        EtagStyle::None => true,
        EtagStyle::Broken => false,
        EtagStyle::Strong | EtagStyle::WeakWantsStrong => given == strong,
        EtagStyle::Weak => given.trim_start_matches("W/") == strong,
    }
}

fn login(bmc: &Bmc, path: &str, body: &Value) -> Reply {
    let rules = &bmc.personality.sessions;
    match rules.service {
        SessionService::Absent => return Reply::missing(path),
        SessionService::Refused => {
            return Reply::error(
                405,
                "Base.1.8.OperationNotAllowed",
                "The HTTP method is not allowed on this resource.",
            );
        }
        SessionService::Present => {}
    }
    let mut state = bmc.state();
    if body["UserName"] != state.username.as_str() || body["Password"] != state.password.as_str() {
        // Some BMCs repeat what they were sent.
        let text = format!(
            "The login of '{}' failed.",
            body["UserName"].as_str().unwrap_or_default()
        );
        return Reply::error(401, "Base.1.8.ResourceAtUriUnauthorized", &text);
    }
    match state.sessions.open(rules.limit) {
        None => Reply::error(
            503,
            &rules.full,
            "The maximum number of user sessions is reached.",
        ),
        Some((id, token)) => {
            let at = format!("{path}/{id}");
            let body = json!({"@odata.id": at, "@odata.type": "#Session.v1_3_0.Session", "Id": id.to_string(), "Name": "Session",
                "UserName": state.username});
            Reply {
                status: 201,
                ..Reply::ok(body)
                    .with("location", at)
                    .with("x-auth-token", token)
            }
        }
    }
}

fn reset(bmc: &Arc<Bmc>, body: &Value) -> Reply {
    let rules = &bmc.personality.reset;
    let wanted = body["ResetType"].as_str().unwrap_or_default();
    let Some(order) =
        Order::of(wanted).filter(|_| rules.values.iter().any(|value| value == wanted))
    else {
        let text = format!(
            "The value '{wanted}' for the parameter ResetType is not in the list of acceptable values."
        );
        return Reply::error(400, "Base.1.8.ActionParameterNotSupported", &text);
    };
    {
        let state = bmc.state();
        let useless = match order {
            Order::On => state.on,
            Order::Off | Order::SoftOff | Order::Nmi => !state.on,
            Order::Cycle => false,
        };
        if let (true, Some((status, id))) = (useless, &rules.already) {
            return Reply::error(*status, id, "The system is in that power state already.");
        }
        let conflict = Duration::from_millis(rules.conflict_ms);
        if order == Order::On && state.turned_off.is_some_and(|at| at.elapsed() < conflict) {
            return Reply::error(
                409,
                "Base.1.12.ActionParameterValueConflict",
                "The power state is changing.",
            );
        }
    }
    bmc.order(order);
    done(bmc, "reset", true)
}

fn boot(bmc: &Bmc, body: &Value) -> Reply {
    let rules = &bmc.personality.boot;
    let Some(boot) = body["Boot"].as_object() else {
        return unknown_property(body);
    };
    let text = |name: &str| boot.get(name).and_then(Value::as_str);
    let (target, enabled, mode) = (
        text("BootSourceOverrideTarget"),
        text("BootSourceOverrideEnabled"),
        text("BootSourceOverrideMode"),
    );
    let mut state = bmc.state();
    let self_test = Duration::from_millis(rules.post_ms);
    if state.turned_on.is_some_and(|at| at.elapsed() < self_test) {
        return Reply::error(
            400,
            "iLO.2.14.UnableToModifyDuringSystemPOST",
            "The settings can't be changed while the system is in POST.",
        );
    }
    if target.is_some_and(|target| !rules.targets.iter().any(|known| known == target))
        || (target == Some("None") && rules.refuses_none)
    {
        return value_refused("BootSourceOverrideTarget", target);
    }
    if mode.is_some() && !rules.mode {
        return unknown_property(&json!({"BootSourceOverrideMode": mode}));
    }
    if enabled.is_some_and(|enabled| !["Disabled", "Once", "Continuous"].contains(&enabled))
        || (rules.refuses_same && enabled == Some(state.boot_enabled.as_str()))
    {
        return value_refused("BootSourceOverrideEnabled", enabled);
    }
    if rules.needs_enabled && target.is_some() && enabled.is_none() {
        return Reply::done();
    }
    if let Some(target) = target {
        target.clone_into(&mut state.boot_target);
    }
    if let Some(enabled) = enabled {
        enabled.clone_into(&mut state.boot_enabled);
        if enabled == "Disabled" {
            "None".clone_into(&mut state.boot_target);
        }
    }
    if let Some(mode) = mode {
        mode.clone_into(&mut state.boot_mode);
    }
    Reply::done()
}

fn bios(bmc: &Bmc, body: &Value) -> Reply {
    let Some(wanted) = body["Attributes"].as_object() else {
        return unknown_property(body);
    };
    for (name, value) in wanted {
        if !tree::allows(bmc, name, value) {
            return value_refused(name, value.as_str());
        }
    }
    let changes = wanted
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    bmc.state().bios_pending.extend(changes);
    done(bmc, "bios", false)
}

fn value_refused(name: &str, value: Option<&str>) -> Reply {
    let text = format!(
        "The value '{}' for the property {name} is not in the list of acceptable values.",
        value.unwrap_or_default()
    );
    Reply::error(400, "Base.1.8.PropertyValueNotInList", &text)
}

fn unknown_property(body: &Value) -> Reply {
    let names: Vec<&str> = body
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    let text = format!(
        "The property {} is not in the list of valid properties for the resource.",
        names.join(", ")
    );
    Reply::error(400, "Base.1.8.PropertyUnknown", &text)
}

/// The answer to an order that was taken: done, or a task where this BMC makes one of it. `by_itself`: it ends without a restart.
fn done(bmc: &Bmc, what: &str, by_itself: bool) -> Reply {
    if !bmc.personality.tasks.iter().any(|kind| kind == what) {
        return Reply::done();
    }
    let mut state = bmc.state();
    let State {
        tasks_made,
        tasks,
        task_ms,
        task_fails,
        ..
    } = &mut *state;
    *tasks_made += 1;
    let time = by_itself.then(|| Duration::from_millis(*task_ms));
    let task = Task::after(*tasks_made, time, task_fails.clone());
    let at = if bmc.personality.task_is_monitor {
        TASKS
    } else {
        MONITORS
    };
    let location = format!("{at}/{}", task.id);
    let body = task.body();
    tasks.push(task);
    Reply {
        status: 202,
        ..Reply::ok(body).with("location", location)
    }
}
