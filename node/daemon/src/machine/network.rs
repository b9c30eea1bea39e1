//! Attachment and binding of a machine's interfaces, and the sockets of its DHCP servers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use catamaran_network::{
    Attachment, BindRequest, Binding, BoundNic, GuestPort, HostPort, Owner, PortTarget, Protocol,
    bind, open_dhcp_sockets, unbind,
};
use catamaran_plan::paths::UID;
use catamaran_plan::{GivenNic, Identity, NicBinding, NicPlan};
use catamaran_spec::{Joined, MachineSpec};
use catamaran_wire::{DhcpServe, Verb};

use crate::machine::error::StartError;
use crate::machine::launcher::Launcher;
use crate::serve::daemon::Daemon;
use crate::serve::layout::MachineLayout;
use crate::serve::store::Key;

/// The machine's place in the network: the same at each call until it is released.
///
/// # Errors
/// No free address, or the kernel's refusal.
pub async fn attach(daemon: &Daemon, machine: &Key) -> Result<Attachment, StartError> {
    Ok(daemon.network.attach(&key(machine)?, None).await?)
}

/// Leads the machine's ports of the host to its place in the network. They stay until it is detached, whatever becomes of the daemon.
///
/// # Errors
/// A port is in use, or its address is none of the host's.
pub async fn expose(
    daemon: &Daemon,
    machine: &Key,
    attachment: &Attachment,
    ports: &[catamaran_spec::HostPort],
) -> Result<(), StartError> {
    let owner = Owner::machine(key(machine)?);
    let addresses = addresses(attachment);
    for port in ports {
        let from = HostPort {
            ip: port.address,
            port: port.port,
            protocol: match port.protocol {
                catamaran_spec::Protocol::Tcp => Protocol::Tcp,
                catamaran_spec::Protocol::Udp => Protocol::Udp,
            },
        };
        let to = PortTarget::of(&addresses, port.guest_port);
        if to.v6.is_none() && port.address.is_some_and(|address| address.is_ipv6()) {
            return Err(StartError::Plan(format!(
                "host port {port}: the machine has no IPv6 address: play was given no --subnet6"
            )));
        }
        let led = daemon.network.expose(&owner, from, to).await;
        led.map_err(StartError::HostPort)?;
    }
    Ok(())
}

fn addresses(attachment: &Attachment) -> Vec<IpAddr> {
    let networks = attachment.addresses.iter();
    networks.map(ipnet::IpNet::addr).collect()
}

/// What a plan must know of the interfaces.
#[must_use]
pub fn given(
    spec: &MachineSpec,
    identity: &Identity,
    attachment: &Attachment,
) -> BTreeMap<String, GivenNic> {
    let addresses = addresses(attachment);
    let nics = spec
        .interfaces
        .iter()
        .enumerate()
        .map(|(index, interface)| {
            let mac = match (&interface.binding, &interface.network) {
                // The guest takes over the pod's address, and the pod's MAC address with it.
                (catamaran_spec::Binding::Bridge, Joined::Pod) => attachment.mac.bytes(),
                _ => interface
                    .mac
                    .unwrap_or_else(|| identity.mac(&interface.name)),
            };
            let nic = GivenNic {
                tap: format!("tap{index}"),
                mac,
                mtu: attachment.mtu,
                addresses: addresses.clone(),
            };
            (interface.name.clone(), nic)
        });
    nics.collect()
}

/// Binds the planned interfaces; a second call completes or confirms what is there and does not disturb a running guest.
///
/// # Errors
/// The kernel's refusal.
pub async fn bind_all(
    daemon: &Daemon,
    layout: &MachineLayout,
    attachment: &Attachment,
    hostname: &str,
    namespace: &str,
    nics: &[NicPlan],
) -> Result<Vec<BoundNic>, StartError> {
    let mut bound = Vec::new();
    for nic in nics {
        let request = BindRequest {
            netns: attachment.netns.clone(),
            interface: attachment.interface.clone(),
            tap: nic.tap.clone(),
            binding: binding(nic)?,
            owner_uid: UID,
            mtu: Some(nic.mtu),
            guest_mac: Some(nic.mac.parse()?),
            multi_queue: nic.multi_queue,
            hostname: Some(hostname.to_owned()),
            domain_search: vec![
                format!("{namespace}.{}", daemon.network.config().zone),
                daemon.network.config().zone.clone(),
            ],
            dns: daemon.network.config().gateways(),
            router: attachment.gateway_link_local,
            records: records(layout),
        };
        let mut nic = bind(&request).await?;
        nic.dhcp.lease = daemon.settings.lease;
        bound.push(nic);
    }
    Ok(bound)
}

/// Opens the sockets of the guests' DHCP servers and hands them to the launcher. Again after each new connection: a new launcher has none.
///
/// # Errors
/// The sockets can't be opened or the launcher refuses them.
pub async fn serve(
    launcher: &Launcher,
    netns: &std::path::Path,
    bound: &[BoundNic],
) -> Result<(), StartError> {
    let (mut serve, mut fds): (Vec<DhcpServe>, Vec<OwnedFd>) = (Vec::new(), Vec::new());
    for nic in bound {
        let config = &nic.dhcp;
        if config.v4.is_none() && config.v6.is_none() {
            // A network that gives its own addresses.
            continue;
        }
        let sockets = open_dhcp_sockets(netns, config).await?;
        let mut kinds = vec!["dhcp4".to_owned()];
        fds.push(sockets.v4);
        for (kind, socket) in [("ra", sockets.ra), ("dhcp6", sockets.v6)] {
            if let Some(socket) = socket {
                kinds.push(kind.to_owned());
                fds.push(socket);
            }
        }
        let (v4, v6) = (config.v4.as_ref(), config.v6.as_ref());
        serve.push(DhcpServe {
            device: config.device.clone(),
            device_index: sockets.device_index,
            device_mac: sockets.device_mac,
            sockets: kinds,
            mac: config.mac.bytes(),
            v4: v4.map(|v4| (v4.address.addr(), v4.address.prefix_len())),
            v4_gateway: v4.and_then(|v4| v4.gateway),
            v4_server: v4.map(|v4| v4.server),
            v4_routes: v4
                .map(|v4| {
                    v4.routes
                        .iter()
                        .map(|(net, gateway)| (net.addr(), net.prefix_len(), *gateway))
                        .collect()
                })
                .unwrap_or_default(),
            v6: v6.map(|v6| (v6.address.addr(), v6.address.prefix_len())),
            v6_gateway: v6.and_then(|v6| v6.router),
            v6_gateway_is_ours: v6.is_some_and(|v6| v6.router_is_ours),
            dns: config
                .dns_v4
                .iter()
                .map(|address| IpAddr::V4(*address))
                .chain(config.dns_v6.iter().map(|address| IpAddr::V6(*address)))
                .collect(),
            search: config.domain_search.clone(),
            hostname: config.hostname.clone().unwrap_or_default(),
            mtu: config.mtu,
            lease_seconds: config
                .lease
                .map(|lease| u32::try_from(lease.as_secs()).unwrap_or(u32::MAX)),
        });
    }
    if !serve.is_empty() {
        launcher
            .ask_with_fds(Verb::ServeNetwork { serve }, fds)
            .await?;
    }
    Ok(())
}

/// Removes host ports, namespace and interfaces and keeps the address.
///
/// # Errors
/// The kernel's refusal.
pub async fn detach(
    daemon: &Daemon,
    layout: &MachineLayout,
    machine: &Key,
    nics: &[NicPlan],
) -> Result<(), StartError> {
    let key = key(machine)?;
    let owner = Owner::machine(key.clone());
    daemon.network.unexpose_all(&owner).await?;
    for nic in nics {
        let netns = daemon.network.netns(&key);
        unbind(&netns, &nic.tap, &records(layout)).await?;
    }
    daemon.network.detach(&key).await?;
    Ok(())
}

/// Gives the address back, for a machine that is deleted.
///
/// # Errors
/// The kernel's refusal.
pub async fn release(daemon: &Daemon, machine: &Key) -> Result<(), StartError> {
    daemon.network.release(&key(machine)?).await?;
    Ok(())
}

fn key(machine: &Key) -> Result<catamaran_network::Key, StartError> {
    Ok(catamaran_network::Key::new(
        machine.namespace.as_str(),
        machine.name.as_str(),
    )?)
}

fn records(layout: &MachineLayout) -> PathBuf {
    layout.root().join("network")
}

pub(crate) fn binding(nic: &NicPlan) -> Result<Binding, StartError> {
    let unreadable = |what: &str, text: &str| {
        StartError::Plan(format!(
            "interface {}: {what} {text:?} is not understood",
            nic.name
        ))
    };
    Ok(match &nic.binding {
        NicBinding::Bridge => Binding::Bridge,
        NicBinding::Segment => Binding::Segment,
        NicBinding::Masquerade { v4, v6, ports } => {
            let protocol = |word: &str| {
                if word.eq_ignore_ascii_case("udp") {
                    Protocol::Udp
                } else {
                    Protocol::Tcp
                }
            };
            let ports = ports.iter().flat_map(|(word, first, last)| {
                (*first..=*last).map(move |port| GuestPort {
                    protocol: protocol(word),
                    port,
                })
            });
            Binding::Masquerade {
                ports: ports.collect(),
                v4: v4.parse().map_err(|_| unreadable("network", v4))?,
                v6: v6.parse().map_err(|_| unreadable("network", v6))?,
            }
        }
    })
}
