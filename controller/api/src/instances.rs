//! Verbs and questions about running instances: checked here in the peer's words, carried out by the node daemon.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use catamaran_api::{PauseOptions, VirtualMachineInstance};
use catamaran_lifecycle::{Phase, Verdict, VmiView};
use hyper::Method;
use kube::ResourceExt as _;
use serde_json::Value;

use crate::answer::Refusal;
use crate::node::Nodes;
use crate::objects::{INSTANCE, is_dry_run, read_body};
use crate::route::Action;

/// Path of the node daemon below its address.
pub(crate) fn path(vmi: &VirtualMachineInstance, word: &str, query: Option<&str>) -> String {
    let (namespace, name) = (vmi.namespace().unwrap_or_default(), vmi.name_any());
    let base = format!("/v1/namespaces/{namespace}/virtualmachineinstances/{name}/{word}");
    match query {
        Some(query) if !query.is_empty() => format!("{base}?{query}"),
        _ => base,
    }
}

/// The node that runs it.
pub(crate) fn node(vmi: &VirtualMachineInstance) -> Result<&str, Refusal> {
    vmi.status
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Refusal::conflict(INSTANCE, &vmi.name_any(), "VMI is not on a node"))
}

/// A verb: pause, unpause, softreboot, reset, freeze, unfreeze.
pub(crate) async fn verb(
    nodes: &Nodes,
    vmi: &VirtualMachineInstance,
    action: Action,
    body: &Bytes,
) -> Result<Response, Refusal> {
    let word = permitted(vmi, action)?;
    let dry_run = match action {
        // Both have the same body.
        Action::Pause | Action::Unpause => is_dry_run(&read_body::<PauseOptions>(body)?.dry_run),
        _ => false,
    };
    if !dry_run {
        let path = path(vmi, word, None);
        let body = match action {
            Action::Freeze => as_json(body)?,
            _ => Bytes::new(),
        };
        nodes.ask(node(vmi)?, Method::PUT, &path, body).await?;
    }
    Ok(StatusCode::OK.into_response())
}

/// A body, which may be YAML, in the daemon's language; nothing stays nothing.
fn as_json(body: &[u8]) -> Result<Bytes, Refusal> {
    Ok(match read_body::<Value>(body)? {
        Value::Null => Bytes::new(),
        value => value.to_string().into(),
    })
}

/// The daemon's word for a verb, if the instance's state allows it.
fn permitted(vmi: &VirtualMachineInstance, action: Action) -> Result<&'static str, Refusal> {
    let view = VmiView::of(vmi);
    let (word, verdict) = match action {
        Action::Pause => ("pause", catamaran_lifecycle::pause(&view)),
        Action::Unpause => ("unpause", catamaran_lifecycle::unpause(&view)),
        Action::SoftReboot => ("softreboot", catamaran_lifecycle::soft_reboot(&view)),
        Action::Reset => ("reset", catamaran_lifecycle::reset(&view)),
        Action::Freeze => ("freeze", catamaran_lifecycle::freeze(&view)),
        _ => ("unfreeze", catamaran_lifecycle::unfreeze(&view)),
    };
    let name = vmi.name_any();
    match verdict {
        Verdict::Accepted(_) => Ok(word),
        Verdict::Ignored(words) => Err(Refusal::conflict(INSTANCE, &name, &words)),
        Verdict::Denied { code, message } => Err(Refusal::verdict(code, INSTANCE, &name, &message)),
    }
}

/// Something is said of a viewer, whom the argument names, and the keyboard: he asks for it, or gets it.
pub(crate) async fn keyboard(
    nodes: &Nodes,
    vmi: &VirtualMachineInstance,
    arguments: &[String],
    body: &Bytes,
) -> Result<Response, Refusal> {
    let viewer = arguments.first().map(String::as_str).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !viewer.chars().all(plain) {
        let words = format!("viewer {viewer:?}: must be the id of one of viewers");
        return Err(Refusal::bad_request(words));
    }
    let path = path(vmi, &format!("viewers/{viewer}"), None);
    let body = as_json(body)?;
    nodes.ask(node(vmi)?, Method::PUT, &path, body).await
}

/// A question: guestosinfo, userlist, filesystemlist, dmesg, usage, viewers, vnc/screenshot.
pub(crate) async fn question(
    nodes: &Nodes,
    vmi: &VirtualMachineInstance,
    action: Action,
    query: Option<&str>,
) -> Result<Response, Refusal> {
    let word = answerable(vmi, action)?;
    let path = path(vmi, word, query);
    nodes
        .ask(node(vmi)?, Method::GET, &path, Bytes::new())
        .await
}

/// The daemon's word for a question, if the instance can answer it.
fn answerable(vmi: &VirtualMachineInstance, action: Action) -> Result<&'static str, Refusal> {
    let view = VmiView::of(vmi);
    let word = match action {
        Action::GuestOsInfo => "guestosinfo",
        Action::UserList => "userlist",
        Action::FilesystemList => "filesystemlist",
        Action::Screenshot => "vnc/screenshot",
        Action::Usage => "usage",
        Action::Viewers => "viewers",
        _ => "dmesg",
    };
    if action == Action::Screenshot {
        has_screen(vmi)?;
    }
    if view.phase != Phase::Running {
        return Err(Refusal::conflict(
            INSTANCE,
            &vmi.name_any(),
            "VMI is not running",
        ));
    }
    let asks_agent = matches!(
        action,
        Action::GuestOsInfo | Action::UserList | Action::FilesystemList
    );
    if asks_agent && !view.agent_connected {
        return Err(Refusal::conflict(
            INSTANCE,
            &vmi.name_any(),
            "VMI does not have guest agent connected",
        ));
    }
    Ok(word)
}

/// There is a screen to look at.
pub(crate) fn has_screen(vmi: &VirtualMachineInstance) -> Result<(), Refusal> {
    match vmi.spec.domain.devices.autoattach_graphics_device {
        Some(false) => Err(Refusal::bad_request("No graphics devices are present.")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use catamaran_api::VirtualMachineInstance;
    use serde_json::json;

    use super::{answerable, as_json, path, permitted};
    use crate::route::Action;

    fn vmi(phase: &str, conditions: &[&str]) -> VirtualMachineInstance {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|c| json!({"type": c, "status": "True"}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "a", "namespace": "d"},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": phase, "nodeName": "n", "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn verbs_need_a_running_instance() {
        assert_eq!(permitted(&vmi("Running", &[]), Action::Pause), Ok("pause"));
        for action in [
            Action::Pause,
            Action::Reset,
            Action::Freeze,
            Action::SoftReboot,
        ] {
            let refusal = permitted(&vmi("Scheduled", &[]), action).unwrap_err();
            assert_eq!(refusal.0.code, 409);
            assert!(refusal.0.message.ends_with("VMI is not running"));
        }
        let refusal = permitted(&vmi("Running", &["Paused"]), Action::Pause).unwrap_err();
        assert_eq!(refusal.0.code, 409);
    }

    #[test]
    fn questions_to_the_agent_need_the_agent() {
        let refusal = answerable(&vmi("Running", &[]), Action::GuestOsInfo).unwrap_err();
        assert_eq!(refusal.0.code, 409);
        assert!(
            refusal
                .0
                .message
                .ends_with("VMI does not have guest agent connected")
        );
        let agent = vmi("Running", &["AgentConnected"]);
        assert_eq!(answerable(&agent, Action::UserList), Ok("userlist"));
        assert_eq!(answerable(&vmi("Running", &[]), Action::Dmesg), Ok("dmesg"));
    }

    #[test]
    fn daemons_are_sent_json() {
        assert_eq!(
            as_json(b"unfreezeTimeout: 5m").unwrap(),
            r#"{"unfreezeTimeout":"5m"}"#
        );
        assert_eq!(as_json(b"").unwrap(), "");
    }

    #[test]
    fn a_machine_without_screen_has_no_screenshot() {
        let mut blind = vmi("Running", &[]);
        blind.spec.domain.devices.autoattach_graphics_device = Some(false);
        assert_eq!(
            answerable(&blind, Action::Screenshot).unwrap_err().0.code,
            400
        );
    }

    #[test]
    fn the_daemons_paths_are_those_of_the_contract() {
        assert_eq!(
            path(
                &vmi("Running", &[]),
                "vnc/screenshot",
                Some("moveCursor=true")
            ),
            "/v1/namespaces/d/virtualmachineinstances/a/vnc/screenshot?moveCursor=true"
        );
    }
}
