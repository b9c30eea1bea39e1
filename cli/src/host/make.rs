//! Makes objects that belong together: all of them, or none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use catamaran_api::metal3::annotations::PAUSED;
use catamaran_client::{Format, say, text};
use hyper::Method;
use serde_json::{Map, Value, json};

use super::{GROUP, HOSTS};
use crate::args::Making;
use crate::connection::{Connection, Seen};
use crate::error::Error;
use crate::target::{object, objects};

/// As which this program writes.
const MANAGER: &str = "kubectl-catamaran";

/// Makes Secrets and hosts in the order that they are given in; without a connection it only prints them. When one is refused, what was made
/// before goes again.
pub(super) async fn all(
    connection: Option<&Connection>,
    wanted: &[Value],
    making: &Making,
) -> Result<(), Error> {
    let format = making.format()?;
    let mut made = Vec::new();
    if let Some(connection) = connection {
        let dry = making.dry_run.is_some();
        let mut held = Vec::new();
        for (number, value) in wanted.iter().enumerate() {
            let last = number + 1 == wanted.len();
            let created = if last || dry || !is_free_host(value) {
                create(connection, value, dry).await
            } else {
                held.push(number);
                create(connection, &hold(value), dry).await
            };
            match created {
                Ok(value) => made.push(value),
                Err(error) => {
                    if !dry {
                        // No answer is no refusal: it may be there all the same.
                        if error.code().is_none() {
                            made.extend(made_unsaid(connection, value).await);
                        }
                        take_back(connection, &made).await;
                    }
                    return Err(error);
                }
            }
        }
        for number in held {
            made[number] = let_go(connection, &made[number]).await?;
        }
    } else {
        made = wanted.to_vec();
    }
    say(&printed(&made, format, making)?).map_err(Error::io("standard output"))
}

/// Has the server check them all.
pub(super) async fn rehearse(connection: &Connection, wanted: &[Value]) -> Result<(), Error> {
    for value in wanted {
        create(connection, value, true).await?;
    }
    Ok(())
}

/// Whether it is a host that a controller takes up as soon as it is there.
fn is_free_host(value: &Value) -> bool {
    place(value).1 == HOSTS && value["metadata"]["annotations"][PAUSED].is_null()
}

/// A host that is left alone until all objects are there: one that was taken up can't be taken back without turning its server off.
fn hold(value: &Value) -> Value {
    let mut held = value.clone();
    held["metadata"]["annotations"][PAUSED] = "until all hosts are made".into();
    held
}

async fn let_go(connection: &Connection, value: &Value) -> Result<Value, Error> {
    let (group, plural) = place(value);
    let name = text(&value["metadata"]["name"]);
    let path = object(group, connection.namespace(), plural, &name);
    let free = json!({"metadata": {"annotations": {PAUSED: null}}});
    connection.json(Method::PATCH, &path, Some(&free)).await
}

async fn create(connection: &Connection, value: &Value, dry: bool) -> Result<Value, Error> {
    let (group, plural) = place(value);
    let mut path = objects(group, Some(connection.namespace()), plural)
        + &format!("?fieldManager={MANAGER}&fieldValidation=Strict");
    if dry {
        path.push_str("&dryRun=All");
    }
    connection.json(Method::POST, &path, Some(value)).await
}

/// An object that the server has made although its answer was lost: it is there, nobody but this program has written it, and nothing is in it
/// that was not given now. Of an earlier run it may be all the same; then nothing has come of it, and nothing is lost.
async fn made_unsaid(connection: &Connection, value: &Value) -> Option<Value> {
    let (group, plural) = place(value);
    let name = text(&value["metadata"]["name"]);
    let path = object(group, connection.namespace(), plural, &name);
    match connection.look(&path).await {
        Ok(Seen::There(there)) => {
            (is_ours_alone(&there) && holds_nothing_else(value, &there)).then_some(there)
        }
        Ok(_) => None,
        Err(error) => {
            eprintln!(
                "Warning: {} may have been made: {}",
                reference(value),
                error.line()
            );
            None
        }
    }
}

fn is_ours_alone(object: &Value) -> bool {
    let written = object["metadata"]["managedFields"].as_array();
    written.is_some_and(|all| !all.is_empty() && all.iter().all(|one| one["manager"] == MANAGER))
}

/// Whether a Secret has the credentials that were given; what has none holds nothing that could be lost.
fn holds_nothing_else(given: &Value, there: &Value) -> bool {
    let given = given["stringData"].as_object();
    let kept = there["data"].as_object();
    given.map_or(0, Map::len) == kept.map_or(0, Map::len)
        && given.into_iter().flatten().all(|(key, text)| {
            let text = text.as_str().unwrap_or_default();
            there["data"][key] == BASE64_STANDARD.encode(text)
        })
}

async fn take_back(connection: &Connection, made: &[Value]) {
    for value in made.iter().rev() {
        let (group, plural) = place(value);
        let name = text(&value["metadata"]["name"]);
        let path = object(group, connection.namespace(), plural, &name);
        if let Err(error) = connection.bytes(Method::DELETE, &path, None).await {
            eprintln!("Warning: {} stays: {}", reference(value), error.line());
        }
    }
}

fn place(value: &Value) -> (&'static str, &'static str) {
    if value["kind"] == "Secret" {
        ("v1", "secrets")
    } else {
        (GROUP, HOSTS)
    }
}

fn reference(value: &Value) -> String {
    let name = text(&value["metadata"]["name"]);
    match place(value).1 {
        HOSTS => format!("baremetalhost.metal3.io/{name}"),
        _ => format!("secret/{name}"),
    }
}

/// What is said of what was made. Pure.
fn printed(made: &[Value], format: Format, making: &Making) -> Result<String, Error> {
    if format == Format::Yaml {
        let documents: Result<Vec<String>, _> = made
            .iter()
            .map(|value| format.print(value).map(Option::unwrap_or_default))
            .collect();
        return Ok(documents?.join("---\n"));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": made});
    if let Some(said) = format.print(&list)? {
        return Ok(said);
    }
    let lines = made.iter().map(|value| making.line(&reference(value)));
    Ok(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_has_written_is_taken_for_ours() {
        let by = |managers: &[&str]| {
            let all: Vec<_> = managers.iter().map(|one| json!({"manager": one})).collect();
            is_ours_alone(&json!({"metadata": {"managedFields": all}}))
        };
        assert!(by(&[MANAGER]));
        assert!(!by(&[MANAGER, "kubectl"]) && !by(&["kubectl"]) && !by(&[]));
        assert!(!is_ours_alone(&json!({"metadata": {}})));
    }

    #[test]
    fn a_secret_with_other_credentials_is_left() {
        let given = json!({"stringData": {"username": "root"}});
        let there = |data: Value| json!({"data": data});
        assert!(holds_nothing_else(
            &given,
            &there(json!({"username": "cm9vdA=="}))
        ));
        assert!(!holds_nothing_else(
            &given,
            &there(json!({"username": "YWRtaW4="}))
        ));
        let more = json!({"username": "cm9vdA==", "password": "eA=="});
        assert!(!holds_nothing_else(&given, &there(more)));
        assert!(holds_nothing_else(
            &json!({"spec": {}}),
            &json!({"spec": {}})
        ));
    }
}
