//! What can be read: the tree of resources, made anew from the state at each request.

mod hardware;
mod log;
mod measured;
mod settings;
pub(crate) use settings::allows;
mod system;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use crate::bmc::Bmc;
use crate::personality::{EtagStyle, Expand, SessionService};
use crate::reply::Reply;
use crate::tasks::{MONITORS, TASKS};

/// The root.
pub(crate) const ROOT: &str = "/redfish/v1";

/// Answers a read.
pub(crate) fn get(bmc: &Bmc, path: &str, query: &str) -> Reply {
    if let Some(id) = path
        .strip_prefix(MONITORS)
        .and_then(|id| id.strip_prefix('/'))
    {
        return monitor(bmc, path, id);
    }
    if path.contains("/Storage") && bmc.personality.storage_fails && !path.contains("SimpleStorage")
    {
        return Reply::error(
            500,
            "Base.1.13.0.InternalError",
            "The request failed due to an internal service error.",
        );
    }
    let Some(mut body) = part(bmc, path, query) else {
        return Reply::missing(path);
    };
    let reply = match etag(bmc.personality.etag, &body) {
        Some(etag) => {
            body["@odata.etag"] = json!(etag);
            Reply::ok(body).with("etag", etag)
        }
        None => Reply::ok(body),
    };
    // Clients look here for whether a slot without actions can be changed.
    let allow = if is_changeable(bmc, path) {
        "GET, HEAD, PATCH"
    } else {
        "GET, HEAD"
    };
    reply.with("allow", allow)
}

fn is_changeable(bmc: &Bmc, path: &str) -> bool {
    let slot_by_patch = || {
        let id = path.rsplit('/').next();
        let mut slots = bmc.personality.media.slots.iter();
        slots.any(|slot| slot.by_patch && Some(slot.id.as_str()) == id)
    };
    let system = format!("{ROOT}/Systems/{}", bmc.personality.ids.system);
    path == system
        || path.ends_with("/Settings")
        || path.ends_with("/SecureBoot")
        || (path.contains("/VirtualMedia/") && slot_by_patch())
}

/// The ETag of a body as this BMC gives it out.
pub(crate) fn etag(style: EtagStyle, body: &Value) -> Option<String> {
    let strong = strong_etag(body);
    match style {
        EtagStyle::None => None,
        EtagStyle::Strong | EtagStyle::Broken => Some(strong),
        EtagStyle::Weak | EtagStyle::WeakWantsStrong => Some(format!("W/{strong}")),
    }
}

pub(crate) fn strong_etag(body: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// A resource, if there is one at this path.
pub(crate) fn resource(bmc: &Bmc, path: &str) -> Option<Value> {
    part(bmc, path, "")
}

/// The same, or the part of it that a query asks for.
fn part(bmc: &Bmc, path: &str, query: &str) -> Option<Value> {
    let ids = &bmc.personality.ids;
    if path == "/redfish" {
        return Some(json!({"v1": "/redfish/v1/"}));
    }
    let rest = path.strip_prefix(ROOT)?;
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    let body = match parts.as_slice() {
        [] => root(bmc),
        ["SessionService"] if has_sessions(bmc) => json!({
            "@odata.type": "#SessionService.v1_1_6.SessionService", "Id": "SessionService", "Name": "Session Service",
            "ServiceEnabled": true, "SessionTimeout": 1800, "Sessions": {"@odata.id": format!("{path}/Sessions")},
        }),
        ["SessionService", "Sessions"] if has_sessions(bmc) => {
            let ids = bmc.state().sessions.ids();
            collection(path, "Sessions", ids.iter().map(u64::to_string))
        }
        ["SessionService", "Sessions", id] if has_sessions(bmc) => {
            let open = bmc
                .state()
                .sessions
                .ids()
                .iter()
                .any(|known| known.to_string() == *id);
            open.then(
                || json!({"@odata.type": "#Session.v1_3_0.Session", "Id": id, "Name": "Session"}),
            )?
        }
        ["Systems"] => collection(path, "Systems", [ids.system.clone()]),
        ["Systems", id, "LogServices", rest @ ..] if *id == ids.system && log::at_system(bmc) => {
            log::get(bmc, path, query, rest)?
        }
        ["Systems", id, rest @ ..] if *id == ids.system => system::get(bmc, path, rest)?,
        ["Managers"] => collection(path, "Managers", [ids.manager.clone()]),
        ["Managers", id] if *id == ids.manager => manager(bmc, path),
        ["Managers", id, "VirtualMedia", rest @ ..]
            if *id == ids.manager && !bmc.personality.media.at_system =>
        {
            system::media(bmc, path, rest)?
        }
        ["Managers", id, "LogServices", rest @ ..]
            if *id == ids.manager && !log::at_system(bmc) =>
        {
            log::get(bmc, path, query, rest)?
        }
        ["Chassis"] => collection(path, "Chassis", [ids.chassis.clone()]),
        ["Chassis", id] if *id == ids.chassis => chassis(bmc, path),
        ["Chassis", id, rest @ ..] if *id == ids.chassis => measured::get(bmc, path, query, rest)?,
        ["TaskService"] => json!({
            "@odata.type": "#TaskService.v1_1_5.TaskService", "Id": "TaskService", "Name": "Tasks", "ServiceEnabled": true,
            "Tasks": {"@odata.id": TASKS},
        }),
        ["TaskService", "Tasks"] => {
            let ids: Vec<String> = bmc
                .state()
                .tasks
                .iter()
                .map(|task| task.id.to_string())
                .collect();
            collection(path, "Tasks", ids)
        }
        ["TaskService", "Tasks", id] => {
            let state = bmc.state();
            state
                .tasks
                .iter()
                .find(|task| task.id.to_string() == *id)?
                .body()
        }
        ["Registries", rest @ ..] => settings::registries(bmc, path, rest)?,
        _ => return None,
    };
    Some(with_id(body, path))
}

/// A task monitor: 202 while the task runs, then how it ended.
fn monitor(bmc: &Bmc, path: &str, id: &str) -> Reply {
    let state = bmc.state();
    let Some(task) = state.tasks.iter().find(|task| task.id.to_string() == id) else {
        return Reply::missing(path);
    };
    let body = task.body();
    match (task.is_over(), &task.fails) {
        _ if bmc.personality.task_is_monitor => Reply::ok(body),
        (false, _) => Reply {
            status: 202,
            ..Reply::ok(body)
                .with("location", path)
                .with("retry-after", "0")
        },
        (true, None) => Reply::done(),
        (true, Some(text)) => Reply::error(500, "", text),
    }
}

fn has_sessions(bmc: &Bmc) -> bool {
    bmc.personality.sessions.service != SessionService::Absent
}

fn root(bmc: &Bmc) -> Value {
    let link = |name: &str| json!({"@odata.id": format!("{ROOT}/{name}")});
    let mut body = json!({
        "@odata.type": "#ServiceRoot.v1_9_0.ServiceRoot", "Id": "RootService", "Name": "Root Service",
        "RedfishVersion": "1.11.0", "UUID": bmc.options.uuid.to_string(),
        "Systems": link("Systems"), "Managers": link("Managers"), "Chassis": link("Chassis"), "Tasks": link("TaskService"),
        "Registries": link("Registries"),
        "ProtocolFeaturesSupported": {
            "ExpandQuery": {"NoLinks": bmc.personality.expand == Expand::NoLinks, "ExpandAll": bmc.personality.expand == Expand::All},
            "TopSkipQuery": bmc.personality.top_skip,
        },
    });
    if let Some(vendor) = &bmc.personality.vendor {
        body["Vendor"] = json!(vendor);
        body["Oem"] = json!({vendor: {}});
    }
    if has_sessions(bmc) {
        body["SessionService"] = link("SessionService");
        body["Links"] = json!({"Sessions": link("SessionService/Sessions")});
    }
    body
}

fn manager(bmc: &Bmc, path: &str) -> Value {
    let personality = &bmc.personality;
    let ids = &personality.ids;
    let mut body = json!({
        "@odata.type": "#Manager.v1_11_0.Manager", "Id": ids.manager, "Name": "Manager", "ManagerType": "BMC",
        "Model": personality.bmc_model, "FirmwareVersion": personality.bmc_firmware, "UUID": bmc.options.uuid.to_string(),
        "PowerState": "On", "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {
            "ManagerForServers": [{"@odata.id": format!("{ROOT}/Systems/{}", ids.system)}],
            "ManagerForChassis": [{"@odata.id": format!("{ROOT}/Chassis/{}", ids.chassis)}],
        },
    });
    if !personality.media.at_system {
        body["VirtualMedia"] = json!({"@odata.id": format!("{path}/VirtualMedia")});
    }
    if !log::at_system(bmc) {
        body["LogServices"] = json!({"@odata.id": format!("{path}/LogServices")});
    }
    body
}

fn chassis(bmc: &Bmc, path: &str) -> Value {
    let ids = &bmc.personality.ids;
    let mut body = json!({
        "@odata.type": "#Chassis.v1_14_0.Chassis", "Id": ids.chassis, "Name": "Chassis", "ChassisType": "RackMount",
        "Manufacturer": bmc.personality.manufacturer, "Model": bmc.personality.model, "SerialNumber": bmc.options.serial,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Links": {
            "ComputerSystems": [{"@odata.id": format!("{ROOT}/Systems/{}", ids.system)}],
            "ManagedBy": [{"@odata.id": format!("{ROOT}/Managers/{}", ids.manager)}],
        },
    });
    measured::links(bmc, path, &mut body);
    body
}

/// A collection of resources below `path`.
pub(crate) fn collection(path: &str, name: &str, ids: impl IntoIterator<Item = String>) -> Value {
    let members: Vec<Value> = ids
        .into_iter()
        .map(|id| json!({"@odata.id": format!("{path}/{id}")}))
        .collect();
    let kind = name.replace(' ', "");
    json!({"@odata.type": format!("#{kind}Collection.{kind}Collection"), "Name": name, "Members@odata.count": members.len(), "Members": members})
}

fn with_id(mut body: Value, path: &str) -> Value {
    body["@odata.id"] = json!(if path == ROOT { "/redfish/v1/" } else { path });
    body
}
