//! Binding of a guest's interfaces in the network namespace of its pod.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use catamaran_network::{Attachment, BindRequest, BoundNic, bind, examine};
use catamaran_plan::NicPlan;
use catamaran_plan::paths::UID;

use crate::machine::error::StartError;
use crate::machine::network::binding;

/// The interface that the pod network gives.
pub const INTERFACE: &str = "eth0";

/// A pod's network namespace, held open: its path names this very namespace as long as this lives.
#[derive(Debug)]
pub struct Netns(File);

impl Netns {
    /// The namespace of a process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of_process(pid: i32) -> Result<Self, StartError> {
        let path = format!("/proc/{pid}/ns/net");
        File::open(&path).map(Self).map_err(StartError::io(path))
    }

    /// A path for whoever enters it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

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
pub async fn attachment(netns: &Netns, records: &Path) -> Result<Attachment, StartError> {
    Ok(examine(&netns.path(), INTERFACE, "tap0", records).await?)
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
