//! The same mocked BMCs enrolled with a real Ironic and with our controller, each of which runs already: from the first request that makes a
//! node or a host until all are available, inspected over Redfish.
//!
//! Ironic is one process with SQLite, as standalone Ironics are run; ours has the integration cluster's API server with its etcd. One has the machine
//! for itself while it is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use catamaran_tests::api_server::ApiServer;
use catamaran_tests::ironic::Ironic;
use catamaran_tests::programs::python_environment;
use serde_json::{Value, json};

use super::hosts::{Mocks, milliseconds};
use super::managed;
use crate::stats::Samples;
use crate::table::Row;
use crate::{say, wait};

/// Those with which Ironic's plain Redfish interfaces get along.
const VENDORS: &str = "standard,dell";
/// Longest that one of both may take.
const LONGEST: Duration = Duration::from_secs(1800);
/// Pause between two looks at Ironic's nodes: each is a request.
const LOOK: Duration = Duration::from_millis(500);

/// Measures so many hosts with one BMC each.
pub(crate) fn run(programs: &Path, count: usize) -> Result<Vec<Row>> {
    let peer = by_ironic(programs, count)?;
    let ours = by_controller(programs, count)?;
    say(&format!(
        "all {count} available: Ironic {:.1} s, ours {:.1} s",
        peer.max() / 1000.0,
        ours.max() / 1000.0
    ));
    Ok(vec![Row::median(
        &format!(
            "a host available, of {count}, from the first one's enrolment (floor: a real Ironic)"
        ),
        "ms",
        peer,
        ours,
        None,
    )])
}

fn by_controller(programs: &Path, count: usize) -> Result<Samples> {
    let mocks = Mocks::of(programs, count, VENDORS)?;
    let server = ApiServer::start()?;
    let objects = server.folder().join("hosts.json");
    serde_json::to_writer(File::create(&objects)?, &managed::list(&mocks))?;
    let mut controller = server.controller(programs)?;
    managed::is_up(&mut controller)?;
    say(&format!("{count} hosts with the controller"));
    let begin = Instant::now();
    server.kubectl(&["create", "--filename", &objects.display().to_string()])?;
    let times = managed::available(&mut controller, count, begin)?;
    managed::check(&server, count)?;
    Ok(Samples::new(times))
}

fn by_ironic(programs: &Path, count: usize) -> Result<Samples> {
    let mocks = Mocks::of(programs, count, VENDORS)?;
    let ironic = Ironic::start(&python_environment("ironic")?, count.max(100))?;
    say(&format!("{count} nodes with Ironic"));
    let begin = Instant::now();
    // What each waits for.
    let mut steps = BTreeMap::new();
    for (number, (url, system)) in mocks.urls.iter().zip(&mocks.systems).enumerate() {
        let uuid = ironic.node(&json!({
            "name": format!("host{number}"), "driver": "redfish", "inspect_interface": "redfish",
            "boot_interface": "redfish-virtual-media", "deploy_interface": "direct",
            "driver_info": {
                "redfish_address": url, "redfish_system_id": system, "redfish_username": "admin", "redfish_password": "password",
            },
        }))?;
        ironic.order(&uuid, "manage")?;
        steps.insert(uuid, Step::Managed);
    }
    let mut times = Vec::new();
    let fields = "uuid,provision_state,target_provision_state,last_error,inspection_finished_at";
    wait::every(LOOK, "available nodes", LONGEST, || {
        let answer = ironic.ask("GET", &format!("nodes?fields={fields}"), None)?;
        for node in answer["nodes"].as_array().into_iter().flatten() {
            let uuid = node["uuid"].as_str().context("a node without UUID")?;
            let step = steps.get_mut(uuid).context("a node of others")?;
            let Some(next) = step.next(node)? else {
                continue;
            };
            match next {
                Step::Managed => {}
                Step::Inspected => ironic.order(uuid, "inspect")?,
                Step::Provided => ironic.order(uuid, "provide")?,
                Step::Available => times.push(milliseconds(begin.elapsed())),
            }
            *step = next;
        }
        Ok((times.len() == count).then_some(()))
    })?;
    Ok(Samples::new(times))
}

/// What a node of Ironic's is on its way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Managed,
    Inspected,
    Provided,
    Available,
}

impl Step {
    /// What comes next, when it is there.
    fn next(self, node: &Value) -> Result<Option<Self>> {
        let state = node["provision_state"].as_str().unwrap_or_default();
        if node["last_error"].is_string() {
            bail!("{node}");
        }
        let inspected = node["inspection_finished_at"].is_string();
        Ok(match (self, state) {
            _ if !node["target_provision_state"].is_null() => None,
            (Self::Managed, "manageable") => Some(Self::Inspected),
            (Self::Inspected, "manageable") if inspected => Some(Self::Provided),
            (Self::Provided, "available") => Some(Self::Available),
            _ => None,
        })
    }
}
