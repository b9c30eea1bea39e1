//! What the daemon remembers of a run, on disk: written before the guest is started, read by the next daemon.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use catamaran_api::VolumeStatus;
use catamaran_plan::Plan;
use catamaran_plan::hotplug::Plugged;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kubernetes::network::Resolver;
use crate::kubernetes::world::World;
use crate::machine::error::StartError;
use crate::machine::record;

/// A planned run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Pod that it runs in.
    pub pod: String,
    /// What the launcher was asked to run.
    pub plan: Plan,
    /// Addresses of the pod.
    pub addresses: Vec<IpAddr>,
    /// Link-local address of the pod's IPv6 gateway.
    #[serde(default)]
    pub router: Option<Ipv6Addr>,
    /// Interface of the pod for each interface of the machine that is in another network than the pod's.
    #[serde(default)]
    pub interfaces: BTreeMap<String, String>,
    /// What guests are told of names.
    pub resolver: Resolver,
    /// Volumes as they were found.
    pub volumes: Vec<VolumeStatus>,
    /// Memory and processors for the status.
    pub sizes: Sizes,
    /// What was plugged in since the start.
    #[serde(default)]
    pub plugged: Plugged,
}

/// Sizes for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sizes {
    /// Sockets at the start.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

impl Session {
    /// The session of an instance in that pod, if there is one.
    ///
    /// # Errors
    /// When the record is there and not readable.
    pub fn load(world: &World, uid: Uuid, pod: &str) -> Result<Option<Self>, StartError> {
        let found: Option<Self> =
            record::load(&file(world, uid)).map_err(StartError::io("the record of the run"))?;
        Ok(found.filter(|session| session.pod == pod))
    }

    /// Writes it down.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(&self, world: &World, uid: Uuid) -> Result<(), StartError> {
        record::save(&file(world, uid), self).map_err(StartError::io("the record of the run"))
    }

    /// Disks of the plan: name in the manifest to name in the guest's bus (`vda`).
    #[must_use]
    pub fn targets(plan: &Plan) -> BTreeMap<String, String> {
        let between = |text: &str, start: &str| {
            let (_, rest) = text.split_once(start)?;
            Some(rest.split_once('\'')?.0.to_owned())
        };
        let disks = plan.domain_xml.split("<disk ").skip(1);
        disks
            .filter_map(|disk| {
                let disk = disk.split("</disk>").next()?;
                let name = between(disk, "<alias name='ua-")?;
                Some((name, between(disk, "<target dev='")?))
            })
            .collect()
    }
}

/// Folder of the network's records of an instance.
#[must_use]
pub fn network_records(world: &World, uid: Uuid) -> PathBuf {
    world.folder(uid).join("network")
}

fn file(world: &World, uid: Uuid) -> PathBuf {
    world.folder(uid).join("run.json")
}
