//! Attachment under `play`: a network namespace with an `eth0` on the host's bridge.
//!
//! Order, so that a kill at any line leaves something that the next call completes: lease on disk, rules, namespace,
//! veth pair (made in one step, one end in each namespace), addresses, routes; the port of the bridge comes last. A pair
//! whose ends do not belong together is deleted and made again.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Error;
use crate::host::{self, HostNetwork};
use crate::ipam::{self, Lease};
use crate::key::Key;
use crate::mac::MacAddr;
use crate::netlink::{LinkChange, Netlink, Route};
use crate::{netns, sysctl};

/// Name of the interface in the namespace.
const INTERFACE: &str = "eth0";

/// A network namespace with addresses: what CNI gives on Kubernetes, and this crate under `play`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Where the namespace is mounted.
    pub netns: PathBuf,
    /// Name of the interface in it.
    pub interface: String,
    /// The interface's MAC address.
    pub mac: MacAddr,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// IPv4 gateway.
    pub gateway_v4: Ipv4Addr,
    /// IPv6 gateway.
    pub gateway_v6: Option<Ipv6Addr>,
    /// The gateway's link-local address ([`crate::BindRequest::router`]).
    pub gateway_link_local: Option<Ipv6Addr>,
    /// MTU in bytes.
    pub mtu: u32,
}

impl HostNetwork {
    /// Gives `key` its namespace and addresses; the same ones at every call until [`HostNetwork::release`].
    ///
    /// An `eth0` that a binding has taken over (it is a port of a bridge there) keeps what the binding made of it.
    ///
    /// # Errors
    /// No free address, or the kernel's refusal.
    pub async fn attach(&self, key: &Key, mtu: Option<u32>) -> Result<Attachment, Error> {
        let _held = self.lock.lock().await;
        let mtu = mtu.unwrap_or(self.config.mtu).min(self.config.mtu);
        let known = ipam::get(&self.config, key)?;
        let lease = ipam::ensure(&self.config, key)?;
        let path = ipam::netns_path(&self.config.folder, key);
        let config = self.config.clone();
        let is_new = known.as_ref() != Some(&lease);
        let stale = known.filter(|known| known.host_interface != lease.host_interface);
        netns::inside(None, "write the rules", async move |netlink| {
            if let Some(stale) = stale {
                netlink.delete_link(&stale.host_interface).await?;
            }
            if is_new {
                host::write_rules(&config)
            } else {
                Ok(())
            }
        })
        .await?;
        netns::ensure(&path).await?;
        self.make_pair(&lease, &path, mtu).await?;
        let attachment = self.describe(&lease, path, mtu);
        let wanted = attachment.clone();
        netns::inside(
            Some(&attachment.netns),
            "set up eth0",
            async move |netlink| set_up(netlink, &wanted).await,
        )
        .await?;
        self.plug(&lease, mtu).await?;
        Ok(attachment)
    }

    /// Removes namespace and interface of `key`, and keeps its address for the next [`HostNetwork::attach`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub async fn detach(&self, key: &Key) -> Result<(), Error> {
        let _held = self.lock.lock().await;
        self.detach_locked(key).await
    }

    /// [`HostNetwork::detach`], and frees the address: for a VM that was deleted.
    ///
    /// # Errors
    /// The kernel's refusal, or the record could not be removed.
    pub async fn release(&self, key: &Key) -> Result<(), Error> {
        let _held = self.lock.lock().await;
        self.detach_locked(key).await?;
        ipam::release(&self.config, key)?;
        let config = self.config.clone();
        netns::inside(None, "write the rules", async move |_| {
            host::write_rules(&config)
        })
        .await
    }

    /// Where the namespace of `key` is mounted while it is attached.
    #[must_use]
    pub fn netns(&self, key: &Key) -> PathBuf {
        ipam::netns_path(&self.config().folder, key)
    }

    /// Every lease, attached or not.
    ///
    /// # Errors
    /// A record could not be read.
    pub fn leases(&self) -> Result<Vec<Lease>, Error> {
        ipam::all(&self.config)
    }

    async fn detach_locked(&self, key: &Key) -> Result<(), Error> {
        let (host_interface, path) = (
            key.host_interface(&self.config.bridge),
            ipam::netns_path(&self.config.folder, key),
        );
        netns::inside(None, "remove an attachment", async move |netlink| {
            // The pair first: the namespace may live on with a process, and must not keep the address.
            netlink.delete_link(&host_interface).await?;
            netns::remove(&path)
        })
        .await
    }

    async fn make_pair(
        &self,
        lease: &Lease,
        path: &std::path::Path,
        mtu: u32,
    ) -> Result<(), Error> {
        let inner = netns::inside(Some(path), "look at eth0", async |netlink| {
            netlink.link(INTERFACE).await
        })
        .await?;
        let (lease, path) = (lease.clone(), path.to_owned());
        netns::inside(None, "make the veth pair", async move |netlink| {
            let outer = netlink.link(&lease.host_interface).await?;
            if let (Some(outer), Some(inner)) = (&outer, &inner) {
                // A binding gives our MAC address to the guest and another one to eth0.
                let ours = inner.mac == Some(lease.mac) || inner.controller.is_some();
                if ours && inner.peer == Some(outer.index) && outer.peer == Some(inner.index) {
                    return Ok(());
                }
            }
            netlink.delete_link(&lease.host_interface).await?;
            if inner.is_some() {
                netns::inside(Some(&path), "delete a left-over eth0", async |netlink| {
                    netlink.delete_link(INTERFACE).await
                })
                .await?;
            }
            let netns =
                File::open(&path).map_err(Error::file("open the network namespace", &path))?;
            let host_mac = lease.mac.derived("host end");
            netlink
                .add_veth(
                    (&lease.host_interface, host_mac),
                    (INTERFACE, lease.mac),
                    netns.as_fd(),
                    mtu,
                )
                .await
        })
        .await
    }

    async fn plug(&self, lease: &Lease, mtu: u32) -> Result<(), Error> {
        let (bridge, host_interface) = (self.config.bridge.clone(), lease.host_interface.clone());
        netns::inside(
            None,
            "plug the veth pair into the bridge",
            async move |netlink| {
                let bridge = netlink.expect_link(&bridge).await?;
                let port = netlink.expect_link(&host_interface).await?;
                // The host itself must not talk on a guest's port.
                sysctl::set_if_present(&format!("ipv6/conf/{host_interface}/disable_ipv6"), "1")?;
                let change = LinkChange {
                    mtu: Some(mtu),
                    controller: Some(bridge.index),
                    ..LinkChange::default()
                };
                netlink
                    .change(
                        &port,
                        LinkChange {
                            up: Some(true),
                            ..change
                        },
                    )
                    .await
            },
        )
        .await
    }

    fn describe(&self, lease: &Lease, netns: PathBuf, mtu: u32) -> Attachment {
        let config = &self.config;
        let v4 = IpNet::V4(Ipv4Net::new_assert(lease.v4, config.subnet_v4.prefix_len()));
        let v6 = lease
            .v6
            .zip(config.subnet_v6)
            .map(|(ip, net)| IpNet::V6(Ipv6Net::new_assert(ip, net.prefix_len())));
        Attachment {
            netns,
            interface: INTERFACE.to_owned(),
            mac: lease.mac,
            addresses: std::iter::once(v4).chain(v6).collect(),
            gateway_v4: config.gateway_v4(),
            gateway_v6: config.gateway_v6(),
            gateway_link_local: config.gateway_link_local(),
            mtu,
        }
    }
}

/// Inside the namespace: loopback, `eth0` with addresses and default routes.
async fn set_up(netlink: &Netlink, wanted: &Attachment) -> Result<(), Error> {
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink
        .change(&netlink.expect_link("lo").await?, up)
        .await?;
    let eth0 = netlink.expect_link(INTERFACE).await?;
    if eth0.controller.is_some() {
        return Ok(());
    }
    // Addresses come from us alone, at once.
    sysctl::set_if_present("ipv6/conf/eth0/accept_ra", "0")?;
    sysctl::set_if_present("ipv6/conf/eth0/accept_dad", "0")?;
    let disable = if wanted.gateway_v6.is_some() {
        "0"
    } else {
        "1"
    };
    sysctl::set_if_present("ipv6/conf/eth0/disable_ipv6", disable)?;
    netlink
        .change(
            &eth0,
            LinkChange {
                mtu: Some(wanted.mtu),
                mac: Some(wanted.mac),
                ..up
            },
        )
        .await?;
    for address in &wanted.addresses {
        netlink.add_address(&eth0, *address).await?;
    }
    for address in netlink.addresses(&eth0).await? {
        let link_local = matches!(address.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !wanted.addresses.contains(&address) {
            netlink.delete_address(&eth0, address).await?;
        }
    }
    let v4 = Route {
        destination: default_route(false),
        gateway: Some(IpAddr::V4(wanted.gateway_v4)),
    };
    let v6 = wanted.gateway_v6.map(|ip| Route {
        destination: default_route(true),
        gateway: Some(IpAddr::V6(ip)),
    });
    for route in std::iter::once(v4).chain(v6) {
        netlink.add_route(&eth0, &route).await?;
    }
    Ok(())
}

/// `0.0.0.0/0` or `::/0`.
pub(crate) fn default_route(v6: bool) -> IpNet {
    if v6 {
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))
    } else {
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
    }
}
