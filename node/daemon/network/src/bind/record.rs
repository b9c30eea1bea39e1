//! What the pod's interface was before a binding touched it.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{BindRequest, Binding};
use crate::error::Error;
use crate::files;
use crate::host::boot_id;
use crate::mac::MacAddr;
use crate::netlink::{Netlink, Route};

/// Which namespace a record is about: a record of an earlier one means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    boot: String,
    device: u64,
    inode: u64,
}

/// The record of one NIC, `<tap>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) identity: Identity,
    pub(super) interface: String,
    pub(super) bridge: bool,
    /// A bridge into another network than the pod's.
    #[serde(default)]
    pub(super) segment: bool,
    pub(super) owner_uid: u32,
    pub(super) multi_queue: bool,
    pub(super) mac: MacAddr,
    pub(super) mtu: u32,
    /// Without link-local ones, which the kernel makes.
    pub(super) addresses: Vec<IpNet>,
    pub(super) routes: Vec<Route>,
}

impl Record {
    /// The interface's first IPv4 address.
    pub(super) fn v4(&self) -> Option<Ipv4Net> {
        self.addresses.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        })
    }

    /// The interface's first IPv6 address.
    pub(super) fn v6(&self) -> Option<Ipv6Net> {
        self.addresses.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        })
    }
}

/// Path of the record of a tap.
pub(super) fn path(folder: &Path, tap: &str) -> PathBuf {
    folder.join(format!("{tap}.json"))
}

/// Identity of the namespace at `netns`.
pub(super) fn identity(netns: &Path) -> Result<Identity, Error> {
    let metadata = std::fs::metadata(netns).map_err(Error::file("examine", netns))?;
    Ok(Identity {
        boot: boot_id()?,
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// The record on disk, or a new one from the interface as it is now, written before anything is touched.
///
/// A binding of another kind, or a tap of another owner, that was there before is undone first.
pub(super) async fn ensure(
    netlink: &Netlink,
    request: &BindRequest,
    identity: Identity,
) -> Result<Record, Error> {
    let path = path(&request.records, &request.tap);
    let known: Option<Record> = files::read_record(&path)?;
    let segment = request.binding == Binding::Segment;
    let bridge = segment || request.binding == Binding::Bridge;
    if let Some(known) = known.filter(|known| known.identity == identity) {
        let same_tap =
            known.owner_uid == request.owner_uid && known.multi_queue == request.multi_queue;
        let same_kind = (known.bridge, known.segment) == (bridge, segment);
        if same_tap && same_kind && known.interface == request.interface {
            return Ok(known);
        }
        netlink.delete_link(&request.tap).await?;
        super::bridge::unbind(netlink, &request.tap, Some(&known)).await?;
    } else {
        // A tap without a record is not of this request.
        netlink.delete_link(&request.tap).await?;
    }
    let missing = || Error::NoInterface {
        netns: request.netns.clone(),
        interface: request.interface.clone(),
    };
    let link = netlink
        .link(&request.interface)
        .await?
        .ok_or_else(missing)?;
    let is_link_local =
        |net: &IpNet| matches!(net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    let mut addresses = netlink.addresses(&link).await?;
    addresses.retain(|net| !is_link_local(net));
    let no_address = || Error::NoAddress {
        netns: request.netns.clone(),
        interface: request.interface.clone(),
    };
    if addresses.is_empty() && !segment {
        return Err(no_address());
    }
    let record = Record {
        identity,
        interface: request.interface.clone(),
        bridge,
        segment,
        owner_uid: request.owner_uid,
        multi_queue: request.multi_queue,
        mac: link.mac.ok_or_else(missing)?,
        mtu: link.mtu,
        addresses,
        routes: netlink.routes(&link).await?,
    };
    files::write_record(&path, &record)?;
    Ok(record)
}
