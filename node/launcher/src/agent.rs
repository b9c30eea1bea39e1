//! The guest agent: what it says of the guest, capped, and what it is told once it answers.
//!
//! Everything it says is the guest's own making. It is parsed here, in the sandbox, into few, short fields.

use std::net::IpAddr;

use base64::Engine;
use catamaran_plan::AgentAccess;
use catamaran_wire::{AgentInfo, GuestInterface};
use serde_json::{Value, json};

use crate::hypervisor::{Control, HypervisorError};
use crate::places::Places;
use crate::prepare::read_folder;

/// Seconds that the agent may take for a question.
const PATIENCE: u16 = 5;
/// Interfaces that are reported.
const INTERFACES_MAX: usize = 64;
/// Addresses of an interface that are reported.
const ADDRESSES_MAX: usize = 32;
/// Longest text that is reported, characters.
const TEXT_MAX: usize = 256;

/// Asks the agent for everything that is reported. Questions that it does not know stay empty. While file systems are frozen it answers hardly any,
/// and what it said `before` stays.
///
/// # Errors
/// When it does not answer at all.
pub async fn look(
    control: &Control,
    before: Option<AgentInfo>,
) -> Result<AgentInfo, HypervisorError> {
    let ask = async |command: &str| {
        control
            .agent(&json!({ "execute": command }), PATIENCE)
            .await
    };
    let info = ask("guest-info").await?;
    let frozen = ask("guest-fsfreeze-status").await.unwrap_or_default();
    if let Some(before) = before.filter(|_| frozen == "frozen") {
        return Ok(before);
    }
    let hostname = ask("guest-get-host-name").await.unwrap_or_default();
    let os = ask("guest-get-osinfo").await.unwrap_or_default();
    let interfaces = ask("guest-network-get-interfaces")
        .await
        .unwrap_or_default();
    Ok(AgentInfo {
        version: text(&info["version"]),
        hostname: text(&hostname["host-name"]),
        os: short_object(&os),
        interfaces: read_interfaces(&interfaces),
    })
}

/// Tells the agent keys and passwords. Returns what went wrong, for people.
pub async fn grant(control: &Control, access: &[AgentAccess], places: &Places) -> Vec<String> {
    let mut warnings = Vec::new();
    for item in access {
        let commands = match commands(item, places) {
            Ok(commands) => commands,
            Err(error) => {
                warnings.push(error);
                continue;
            }
        };
        for (what, command) in commands {
            if let Err(error) = control.agent(&command, PATIENCE).await {
                // The command holds a secret; only what it was for is said.
                warnings.push(format!("the guest agent did not take {what}: {error}"));
            }
        }
    }
    warnings
}

fn commands(access: &AgentAccess, places: &Places) -> Result<Vec<(String, Value)>, String> {
    let read =
        |folder: &str| read_folder(&places.resolve(folder)).map_err(|error| error.to_string());
    Ok(match access {
        AgentAccess::SshKeys { folder, users } => {
            let files = read(folder)?;
            let keys: Vec<&str> = files
                .iter()
                .flat_map(|(_, text)| text.lines())
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .collect();
            users
                .iter()
                .map(|user| {
                    let arguments = json!({ "username": user, "keys": keys, "reset": true });
                    let command = json!({ "execute": "guest-ssh-add-authorized-keys", "arguments": arguments });
                    (format!("the SSH keys of {user}"), command)
                })
                .collect()
        }
        AgentAccess::Passwords { folder } => read(folder)?
            .into_iter()
            .map(|(user, password)| {
                let password = base64::engine::general_purpose::STANDARD
                    .encode(password.trim_end_matches('\n'));
                let arguments = json!({ "username": user, "password": password, "crypted": false });
                let command =
                    json!({ "execute": "guest-set-user-password", "arguments": arguments });
                (format!("the password of {user}"), command)
            })
            .collect(),
    })
}

fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.chars()
        .filter(|c| !c.is_control())
        .take(TEXT_MAX)
        .collect()
}

/// The short texts of an object; nothing nested.
fn short_object(value: &Value) -> Value {
    let fields = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.is_string())
        .take(32);
    Value::Object(
        fields
            .map(|(name, value)| (name.chars().take(64).collect(), text(value).into()))
            .collect(),
    )
}

fn read_interfaces(value: &Value) -> Vec<GuestInterface> {
    let read = |interface: &Value| GuestInterface {
        name: text(&interface["name"]),
        mac: text(&interface["hardware-address"]).to_lowercase(),
        addresses: interface["ip-addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|address| address["ip-address"].as_str()?.parse::<IpAddr>().ok())
            .take(ADDRESSES_MAX)
            .collect(),
    };
    let all = value.as_array().into_iter().flatten().take(INTERFACES_MAX);
    all.map(read)
        .filter(|interface| interface.name != "lo")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_and_capped() {
        let one = json!({
            "name": "eth0", "hardware-address": "52:54:00:AA:00:01",
            "ip-addresses": [{ "ip-address": "10.0.2.2", "prefix": 24 }, { "ip-address": "no" }],
        });
        let many: Vec<Value> = std::iter::repeat_n(one, 1000).collect();
        let interfaces = read_interfaces(&many.into());
        assert_eq!(interfaces.len(), INTERFACES_MAX);
        assert_eq!(interfaces[0].mac, "52:54:00:aa:00:01");
        assert_eq!(
            interfaces[0].addresses,
            ["10.0.2.2".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn a_lying_agent_is_cut_short() {
        assert_eq!(text(&"x".repeat(10_000).into()).len(), TEXT_MAX);
        assert_eq!(text(&"a\x1b[31mb".into()), "a[31mb");
        assert_eq!(
            short_object(&json!({ "a": { "deep": 1 }, "name": "Debian" })),
            json!({ "name": "Debian" })
        );
        assert!(read_interfaces(&json!("nonsense")).is_empty());
    }

    #[test]
    fn a_password_is_named_by_its_user_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("root"), "secret\n").unwrap();
        let access = AgentAccess::Passwords {
            folder: dir.path().display().to_string(),
        };
        let commands = commands(&access, &Places::default()).unwrap();
        assert_eq!(commands[0].0, "the password of root");
        assert_eq!(commands[0].1["arguments"]["password"], "c2VjcmV0");
    }
}
