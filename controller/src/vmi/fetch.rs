//! What there is of an instance's pod.

use std::collections::BTreeMap;

use catamaran_api::VirtualMachineInstance;
use catamaran_lifecycle::Phase;
use catamaran_plan::pod::{Source, mounts};
use catamaran_spec::MachineSpec;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::Api;

use crate::error::Error;
use crate::node_states::NodeState;
use crate::objects::Key;
use crate::vmi::build::{self, ClaimMode};
use crate::vmi::decide::may_run;
use crate::vmi::fate::Fate;
use crate::vmi::hotplug::{Attachment, Known, Run};
use crate::world::World;

/// The pod. Before one counts as gone the API server itself is asked: a cache that lags would end a machine that runs.
pub(super) async fn pod(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
) -> Result<Option<Pod>, Error> {
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    let name = build::pod_name(&key.name, uid);
    let ours = |pod: &Pod| {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.uid == uid)
    };
    if let Some(pod) = world.pods.get(&key.named(&name)).filter(ours) {
        return Ok(Some(pod));
    }
    let status = vmi.status.as_ref();
    let phase = Phase::parse(status.and_then(|status| status.phase.as_deref()));
    let leaving = vmi.metadata.deletion_timestamp.is_some();
    if !leaving && (phase.is_final() || matches!(phase, Phase::Unset | Phase::Pending)) {
        return Ok(None);
    }
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &key.namespace);
    let found = api.get_opt(&name).await;
    let found = found.map_err(Error::api(format!("read pod {}/{name}", key.namespace)))?;
    Ok(found.filter(ours))
}

/// What became of a guest whose pod is gone; `None` where it does not matter any more or yet. The API server itself is asked: a cache is no proof.
pub(super) async fn fate(
    world: &World,
    vmi: &VirtualMachineInstance,
) -> Result<Option<Fate>, Error> {
    let status = vmi.status.as_ref();
    let phase = Phase::parse(status.and_then(|status| status.phase.as_deref()));
    if !may_run(phase) {
        return Ok(None);
    }
    let name = status
        .and_then(|status| status.node_name.as_deref())
        .unwrap_or_default();
    let api: Api<Node> = Api::all(world.client.clone());
    let node = api.get_opt(name).await;
    let node = node.map_err(Error::api(format!("read node {name}")))?;
    Ok(Some(Fate::on(name, node.as_ref().map(NodeState::of))))
}

/// What there is of volumes that come and go; their claims are looked at where a pod is to be made.
pub(super) async fn attachments(
    world: &World,
    key: &Key,
    vmi: &VirtualMachineInstance,
    volumes: &BTreeMap<String, Option<String>>,
    launcher: Option<&Pod>,
    run: Run,
) -> Result<BTreeMap<String, Known>, Error> {
    let of_launcher = |pod: &Pod| {
        let uid = launcher.and_then(|launcher| launcher.metadata.uid.as_ref());
        uid.is_none_or(|uid| {
            let mut owners = pod.metadata.owner_references.iter().flatten();
            owners.any(|owner| owner.uid == *uid)
        })
    };
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &key.namespace);
    let mut all = BTreeMap::new();
    for (volume, claim) in volumes {
        let mut known = Known {
            pod_name: build::attachment_name(uid, volume),
            ..Known::default()
        };
        let pod = world.pods.get(&key.named(&known.pod_name));
        let pod = pod.filter(of_launcher);
        known.pod = pod.as_ref().map(Attachment::of);
        if let Some(claim) = claim.as_ref().filter(|_| run == Run::On && pod.is_none()) {
            let what = format!("read claim {}/{claim}", key.namespace);
            let found = api.get_opt(claim).await.map_err(Error::api(what))?;
            known.claim = found.as_ref().map(mode);
        }
        all.insert(volume.clone(), known);
    }
    Ok(all)
}

fn mode(claim: &PersistentVolumeClaim) -> ClaimMode {
    let spec = claim.spec.as_ref();
    match spec.and_then(|spec| spec.volume_mode.as_deref()) {
        Some("Block") => ClaimMode::Block,
        _ => ClaimMode::Filesystem,
    }
}

/// The claims that a machine's pod mounts.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Mode of each that is there.
    pub(super) modes: BTreeMap<String, ClaimMode>,
    /// The first that is not.
    pub(super) missing: Option<String>,
}

/// Looks up the claims.
pub(super) async fn claims(
    world: &World,
    key: &Key,
    machine: &MachineSpec,
) -> Result<Claims, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &key.namespace);
    let mut claims = Claims::default();
    for mount in mounts(machine) {
        let Source::Claim { name } = mount.source else {
            continue;
        };
        let what = format!("read claim {}/{name}", key.namespace);
        match api.get_opt(&name).await.map_err(Error::api(what))? {
            Some(claim) => {
                claims.modes.insert(name, mode(&claim));
            }
            None => {
                claims.missing.get_or_insert(name);
            }
        }
    }
    Ok(claims)
}
