//! What the guest agent says, in the peer's shapes. Everything in it is the guest's own making: texts are cut short, lists too.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use catamaran_wire::Verb;
use serde_json::{Map, Value, json};

use super::machines::{Named, key};
use crate::kubernetes::status::guest_os;
use crate::kubernetes::world::{World, agent};
use crate::serve::api::answer::Refusal;
use crate::serve::store::Key;

/// Seconds that the agent has for an answer.
const PATIENCE: u32 = 10;
/// Users and file systems in `guestosinfo`.
const FEW: usize = 10;
/// Users and file systems in their own lists.
const MANY: usize = 1000;
/// Longest text.
const TEXT_MAX: usize = 256;

/// The verb that has the agent run a command.
pub(crate) fn command(command: &str) -> Verb {
    agent(command, PATIENCE)
}

async fn ask(world: &World, key: &Key, word: &str) -> Result<Value, Refusal> {
    world.machines.ask(key, command(word)).await
}

/// The peer's list of users, from the agent's.
pub(crate) fn users_of(said: &Value) -> Value {
    json!({"metadata": {}, "items": user_items(said, MANY)})
}

/// The peer's list of file systems, from the agent's.
pub(crate) fn filesystems_of(said: &Value) -> Value {
    json!({"metadata": {}, "items": filesystem_items(said, MANY)})
}

/// Everything about the guest.
pub(super) async fn info(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Json<Value>, Refusal> {
    let key = key(&namespace, &name);
    let info = ask(&world, &key, "guest-info").await?;
    // An agent may not know all of these.
    let optional = async |command: &str| ask(&world, &key, command).await.unwrap_or_default();
    let os = optional("guest-get-osinfo").await;
    let (hostname, zone) = (
        optional("guest-get-host-name").await,
        optional("guest-get-timezone").await,
    );
    let (users, disks) = (
        optional("guest-get-users").await,
        optional("guest-get-fsinfo").await,
    );
    let frozen = optional("guest-fsfreeze-status").await;
    let commands = info["supported_commands"].as_array().into_iter().flatten();
    let supported: Vec<Value> = commands
        .take(MANY)
        .map(|command| json!({"name": text(&command["name"]), "enabled": command["enabled"].as_bool().unwrap_or(false)}))
        .collect();
    let timezone = match (zone["zone"].as_str(), zone["offset"].as_i64()) {
        (Some(_), Some(offset)) => format!("{}, {offset}", text(&zone["zone"])),
        (Some(_), None) => text(&zone["zone"]),
        _ => String::new(),
    };
    Ok(Json(json!({
        "guestAgentVersion": text(&info["version"]),
        "supportedCommands": supported,
        "hostname": text(&hostname["host-name"]),
        "os": guest_os(&short(&os)),
        "timezone": timezone,
        "userList": user_items(&users, FEW),
        "fsInfo": {"disks": filesystem_items(&disks, FEW)},
        "fsFreezeStatus": if frozen == "frozen" { "frozen" } else { "" },
    })))
}

/// Users that are logged in.
pub(super) async fn users(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Json<Value>, Refusal> {
    let said = ask(&world, &key(&namespace, &name), "guest-get-users").await?;
    Ok(Json(users_of(&said)))
}

/// File systems.
pub(super) async fn filesystems(
    State(world): State<Arc<World>>,
    Path((namespace, name)): Named,
) -> Result<Json<Value>, Refusal> {
    let said = ask(&world, &key(&namespace, &name), "guest-get-fsinfo").await?;
    Ok(Json(filesystems_of(&said)))
}

fn user_items(said: &Value, most: usize) -> Vec<Value> {
    let users = said.as_array().into_iter().flatten().take(most);
    users
        .map(|user| {
            let mut item = Map::new();
            item.insert("userName".to_owned(), text(&user["user"]).into());
            if user["domain"].is_string() {
                item.insert("domain".to_owned(), text(&user["domain"]).into());
            }
            if let Some(time) = user["login-time"].as_f64() {
                item.insert("loginTime".to_owned(), time.into());
            }
            Value::Object(item)
        })
        .collect()
}

fn filesystem_items(said: &Value, most: usize) -> Vec<Value> {
    let systems = said.as_array().into_iter().flatten().take(most);
    systems
        .map(|system| {
            let disks = system["disk"].as_array().into_iter().flatten().take(FEW);
            let disks: Vec<Value> = disks
                .map(|disk| json!({"busType": text(&disk["bus-type"]), "serial": text(&disk["serial"])}))
                .collect();
            json!({
                "diskName": text(&system["name"]),
                "mountPoint": text(&system["mountpoint"]),
                "fileSystemType": text(&system["type"]),
                "usedBytes": system["used-bytes"].as_i64().unwrap_or(0),
                "totalBytes": system["total-bytes"].as_i64().unwrap_or(0),
                "disk": disks,
            })
        })
        .collect()
}

/// The texts of an object, cut short.
fn short(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten();
    Value::Object(
        fields
            .map(|(name, value)| (name.clone(), text(value).into()))
            .collect(),
    )
}

fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default().chars();
    text.filter(|c| !c.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_file_systems_have_the_peers_names() {
        let users = json!([{"user": "root", "login-time": 1.5}]);
        assert_eq!(
            user_items(&users, FEW),
            [json!({"userName": "root", "loginTime": 1.5})]
        );
        let systems = json!([{
            "name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 5, "total-bytes": 9,
            "disk": [{"bus-type": "virtio", "serial": "s", "dev": "/dev/vda"}],
        }]);
        let item = &filesystem_items(&systems, FEW)[0];
        assert_eq!(item["mountPoint"], "/");
        assert_eq!(item["disk"][0], json!({"busType": "virtio", "serial": "s"}));
    }

    #[test]
    fn a_lying_agent_is_cut_short() {
        let users = json!(vec![json!({"user": "x".repeat(5000)}); 50]);
        let items = user_items(&users, FEW);
        assert_eq!(items.len(), FEW);
        assert_eq!(items[0]["userName"].as_str().map(str::len), Some(TEXT_MAX));
        assert!(user_items(&json!("nonsense"), FEW).is_empty());
    }
}
