//! Binding of a guest's interfaces in the network namespace of its pod.

use std::net::IpAddr;
use std::path::Path;

use catamaran_network::{Attachment, BindRequest, BoundNic, bind, examine};
use catamaran_plan::NicPlan;
use catamaran_plan::paths::UID;

use crate::kubernetes::inside::Inside;
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
    nics: &[NicPlan],
) -> Result<Vec<BoundNic>, StartError> {
    let mut bound = Vec::new();
    for nic in nics {
        bound.push(bind(&request(attachment, records, hostname, resolver, nic)?).await?);
    }
    Ok(bound)
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
