//! `host`: servers as `BareMetalHost`s.
//!
//! ```text
//!  list, describe  ─▶ view (pure): state and since when, power, the one reason
//!  sensors, events ─▶ readings: what the controller reads of the server's BMC
//!  power, inspect  ─▶ a patch of spec or annotations, which only a state is asked for that honours it
//!  enroll          ─▶ manifest (pure) ─┐
//!  import ─▶ ironic ─▶ plan (pure) ────┴▶ make: all of it or nothing
//!  --wait          ─▶ wait: asks until it is so, and tells each change
//! ```

mod describe;
mod enroll;
mod hardware;
mod import;
mod inspect;
mod list;
mod make;
mod power;
mod readings;
mod view;
mod wait;

use catamaran_api::metal3::BareMetalHost;
use hyper::Method;
use serde_json::Value;

use crate::args::{Globals, Host, HostVerb};
use crate::connection::Connection;
use crate::error::Error;
use crate::target::object;

pub(crate) use import::IronicError;

/// Group and version of hosts.
const GROUP: &str = "metal3.io/v1alpha1";
/// Plural of hosts.
const HOSTS: &str = "baremetalhosts";

/// `host`.
pub(crate) async fn run(globals: &Globals, args: &Host) -> Result<(), Error> {
    let open = || Connection::open(globals);
    match &args.verb {
        HostVerb::List(args) => list::run(&open().await?, args).await,
        HostVerb::Describe(args) => describe::run(&open().await?, args).await,
        HostVerb::Enroll(args) => enroll::run(globals, args).await,
        HostVerb::Inspect(args) => inspect::run(&open().await?, args).await,
        HostVerb::Sensors(args) => readings::sensors(&open().await?, args).await,
        HostVerb::Events(args) => readings::events(&open().await?, args).await,
        HostVerb::Power(args) => power::run(&open().await?, &args.verb).await,
        HostVerb::Import(args) => import::run(globals, args).await,
    }
}

/// Path of a host.
fn path(connection: &Connection, name: &str) -> String {
    object(GROUP, connection.namespace(), HOSTS, name)
}

/// A host.
async fn host(connection: &Connection, name: &str) -> Result<BareMetalHost, Error> {
    let value = connection.get(&path(connection, name)).await?;
    Ok(serde_json::from_value(value)?)
}

/// Changes a host by a merge patch.
async fn patch(connection: &Connection, name: &str, patch: &Value) -> Result<(), Error> {
    let path = path(connection, name) + "?fieldManager=kubectl-catamaran";
    connection
        .json(Method::PATCH, &path, Some(patch))
        .await
        .map(drop)
}

/// Compares with a golden file, or writes it (`UPDATE_GOLDEN=1`).
#[cfg(test)]
#[track_caller]
fn golden(name: &str, said: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/").to_owned() + name;
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, said).unwrap();
    }
    assert_eq!(
        said,
        std::fs::read_to_string(&file).unwrap_or_default(),
        "{file}"
    );
}
