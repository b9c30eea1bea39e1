//! `why`: one sentence on why a machine does not run or is not ready.
//!
//! The shell gathers what the user may read; `answer` decides, and is pure. What the user may not read is left out: a namespace user, who
//! sees no nodes, gets the sentence that follows from the rest.

use catamaran_client::say;
use catamaran_client::table::printable;
use hyper::Method;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::args::Name;
use crate::connection::{Connection, Seen};
use crate::error::Error;
use crate::list::items;
use crate::target::{Kind, Target, object, objects};

mod answer;
mod facts;
mod pod;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use answer::why;
pub(crate) use facts::Facts;

/// `why`. Fails where there is nothing, or nothing that the user may read.
pub(crate) async fn run(connection: &Connection, args: &Name) -> Result<(), Error> {
    let facts = facts(connection, &args.target).await?;
    let sentence = printable(&why(&facts));
    if facts.are_none() {
        return Err(Error::Nothing(sentence));
    }
    say(&format!("{sentence}\n")).map_err(Error::io("standard output"))
}

/// Gathers what can be read.
pub(crate) async fn facts(connection: &Connection, target: &Target) -> Result<Facts, Error> {
    let namespace = connection.namespace_of(target);
    let name = &target.name;
    let machine = |plural| object("kubevirt.io/v1", namespace, plural, name);
    let vm = match target.kind {
        Kind::Machine => connection.look(&machine("virtualmachines")).await?,
        Kind::Instance => Seen::Missing,
    };
    let vmi = connection.look(&machine("virtualmachineinstances")).await?;
    let selector = format!(
        "?labelSelector=vm.kubevirt.io%2Fname%3D{}",
        catamaran_client::segment(name)
    );
    let core = |plural: &str| objects("v1", Some(namespace), plural);
    let pods: Vec<Value> = list(connection, &(core("pods") + &selector)).await?;
    let claims: Vec<Value> = list(connection, &core("persistentvolumeclaims")).await?;
    let events: Vec<Value> = list(connection, &core("events")).await?;
    let nodes: Vec<Value> = list(connection, &objects("v1", None, "nodes")).await?;
    Ok(Facts {
        name: name.clone(),
        namespace: namespace.to_owned(),
        now: Timestamp::now(),
        vm: read_seen(vm)?,
        vmi: read_seen(vmi)?,
        pods: read_all(pods)?,
        claims: read_all(claims)?,
        events: read_all(events)?,
        nodes: read_all(nodes)?,
    })
}

/// Objects of a list; none where the user may not look.
async fn list(connection: &Connection, path: &str) -> Result<Vec<Value>, Error> {
    match connection.json(Method::GET, path, None).await {
        Ok(list) => Ok(items(list)),
        Err(error) if matches!(error.code(), Some(401 | 403 | 404)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_seen<T: DeserializeOwned>(seen: Seen<Value>) -> Result<Seen<T>, Error> {
    Ok(match seen {
        Seen::There(value) => Seen::There(serde_json::from_value(value)?),
        Seen::Missing => Seen::Missing,
        Seen::Hidden => Seen::Hidden,
    })
}

fn read_all<T: DeserializeOwned>(values: Vec<Value>) -> Result<Vec<T>, Error> {
    let read = values.into_iter().map(serde_json::from_value);
    Ok(read.collect::<Result<_, _>>()?)
}
