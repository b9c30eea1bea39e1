//! Binding of a guest's interfaces in the network namespace of its pod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use catamaran_network::{Attachment, BindRequest, BoundNic, bind, examine};
use catamaran_plan::paths::UID;
use catamaran_plan::{NicPlan, networks};
use catamaran_spec::MachineSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::kubernetes::inside::Inside;
use crate::kubernetes::instance::Instance;
use crate::kubernetes::world::World;
use crate::machine::error::StartError;
use crate::machine::network::binding;

/// The interface that the pod network gives.
pub const INTERFACE: &str = "eth0";

/// What the pod's resolver is told; guests are told the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resolver {
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
}

/// What the pod network gave, bound or not.
///
/// # Errors
/// The interface is missing, or the kernel's refusal.
pub async fn attachment(inside: &Inside, records: &Path) -> Result<Attachment, StartError> {
    Ok(examine(&inside.netns(), INTERFACE, "tap0", records).await?)
}

/// Binds the planned interfaces; a second call completes or confirms what is there and does not disturb a running guest.
///
/// # Errors
/// The kernel's refusal.
pub async fn bind_all(
    attachment: &Attachment,
    records: &Path,
    hostname: &str,
    resolver: &Resolver,
    interfaces: &BTreeMap<String, String>,
    nics: &[NicPlan],
) -> Result<Vec<BoundNic>, StartError> {
    let mut bound = Vec::new();
    for nic in nics {
        let mut request = request(attachment, records, hostname, resolver, nic)?;
        if let Some(interface) = interfaces.get(&nic.name) {
            request.interface.clone_from(interface);
        }
        bound.push(bind(&request).await?);
    }
    Ok(bound)
}

/// The interfaces of the pod in other networks, by interface of the machine, from what the cluster's meta plugin says of the pod.
///
/// # Errors
/// The pod can't be read, or is not in a network that the machine names.
pub async fn interfaces(
    world: &World,
    instance: &Instance,
    spec: &MachineSpec,
    pod_uid: &str,
) -> Result<BTreeMap<String, String>, StartError> {
    if !networks::is_wanted(spec) {
        return Ok(BTreeMap::new());
    }
    let api: Api<Pod> = Api::namespaced(world.client.0.clone(), &instance.key.namespace);
    let of_run = format!("kubevirt.io/created-by={}", instance.uid);
    let pods = api.list(&ListParams::default().labels(&of_run)).await;
    let pods = pods.map_err(|error| StartError::Io {
        what: "the pod's networks".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let pod = pods
        .into_iter()
        .find(|pod| pod.metadata.uid.as_deref() == Some(pod_uid));
    let annotations = pod.and_then(|pod| pod.metadata.annotations);
    let status = annotations
        .as_ref()
        .and_then(|all| all.get(networks::STATUS));
    networks::found(spec, &instance.identity(), status.map(String::as_str))
        .map_err(StartError::Plan)
}

fn request(
    attachment: &Attachment,
    records: &Path,
    hostname: &str,
    resolver: &Resolver,
    nic: &NicPlan,
) -> Result<BindRequest, StartError> {
    Ok(BindRequest {
        netns: attachment.netns.clone(),
        interface: attachment.interface.clone(),
        tap: nic.tap.clone(),
        binding: binding(nic)?,
        owner_uid: UID,
        mtu: Some(nic.mtu),
        guest_mac: Some(nic.mac.parse()?),
        multi_queue: nic.multi_queue,
        hostname: Some(hostname.to_owned()),
        domain_search: resolver.search.clone(),
        dns: resolver.nameservers.clone(),
        router: attachment.gateway_link_local,
        records: records.to_owned(),
    })
}
