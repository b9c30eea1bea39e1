//! The host's part: bridge, forwarding, rules; and the one lock under which everything on the host is changed.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::expose::{self, Exposure, HostPort, Owner, PortTarget};
use crate::files;
use crate::guard;
use crate::ipam;
use crate::key::VETH_PREFIX;
use crate::netlink::{LinkChange, Netlink};
use crate::{netns, nft, sysctl};

/// The network of `play` on this host. It stays when this value is dropped: see [`HostNetwork::remove`].
///
/// All changes are made under one lock, which clones share: make one value per process and state folder, and clone it.
#[derive(Debug, Clone)]
pub struct HostNetwork {
    pub(crate) config: NetworkConfig,
    pub(crate) lock: Arc<Mutex<()>>,
}

/// A kernel setting that we changed, to be put back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Changed {
    name: String,
    before: String,
    ours: String,
}

/// What we changed since this boot.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sysctls {
    boot: String,
    changed: Vec<Changed>,
}

impl HostNetwork {
    /// Makes bridge, forwarding and rules, or completes them. Leases and host ports on disk take effect again.
    ///
    /// # Errors
    /// Settings out of range, a name or subnet that something else on the host has, or the kernel's refusal.
    pub async fn ensure(config: &NetworkConfig) -> Result<HostNetwork, Error> {
        config.validate()?;
        for folder in ["leases", "ports", "netns"] {
            files::make_folder(&config.folder.join(folder))?;
        }
        let network = HostNetwork {
            config: config.clone(),
            lock: Arc::default(),
        };
        let _held = network.lock.lock().await;
        let config = config.clone();
        netns::inside(None, "make the host network", async move |netlink| {
            check_subnets(&config, netlink).await?;
            // Rules before links: no guest's packet may pass without them.
            write_rules(&config)?;
            forward(&config)?;
            make_bridge(&config, netlink).await
        })
        .await?;
        tracing::debug!(bridge = network.config.bridge, "host network is there");
        drop(_held);
        Ok(network)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Removes everything: attachments, DNS server, host ports, rules, bridge; puts kernel settings back. Leases stay.
    /// Nothing there is fine.
    ///
    /// # Errors
    /// The first thing that could not be removed; run again after the cause is gone.
    pub async fn remove(config: &NetworkConfig) -> Result<(), Error> {
        config.validate()?;
        crate::dns::DnsServer::stop(config).await?;
        let config = config.clone();
        netns::inside(None, "remove the host network", async move |netlink| {
            for lease in ipam::all(&config)? {
                netlink.delete_link(&lease.host_interface).await?;
                netns::remove(&ipam::netns_path(&config.folder, &lease.key))?;
            }
            if netlink
                .link(&config.bridge)
                .await?
                .is_some_and(|link| link.kind == "bridge")
            {
                netlink.delete_link(&config.bridge).await?;
            }
            nft::delete_table("inet", &config.table)?;
            nft::delete_table("bridge", &config.table)?;
            for exposure in expose::all(&config)? {
                expose::forget(&config, exposure.from)?;
            }
            restore(&config)
        })
        .await
    }

    /// Leads a port of the host to a VM or Pod. The same call again is fine; another target of the same owner replaces it.
    ///
    /// # Errors
    /// [`Error::HostPortTaken`] when another owner has it, [`Error::HostPortInUse`] when a process listens on it.
    pub async fn expose(&self, owner: &Owner, from: HostPort, to: PortTarget) -> Result<(), Error> {
        let _held = self.lock.lock().await;
        let (config, exposure) = (
            self.config.clone(),
            Exposure {
                owner: owner.clone(),
                from,
                to,
            },
        );
        netns::inside(None, "lead a host port on", async move |_| {
            expose::record(&config, &exposure)?;
            write_rules(&config)
        })
        .await
    }

    /// Takes a host port back; none there is fine.
    ///
    /// # Errors
    /// The record or the rules could not be written.
    pub async fn unexpose(&self, from: HostPort) -> Result<(), Error> {
        let _held = self.lock.lock().await;
        let config = self.config.clone();
        netns::inside(None, "take a host port back", async move |_| {
            expose::forget(&config, from)?;
            write_rules(&config)
        })
        .await
    }

    /// Takes all host ports of an owner back.
    ///
    /// # Errors
    /// A record or the rules could not be written.
    pub async fn unexpose_all(&self, owner: &Owner) -> Result<(), Error> {
        let _held = self.lock.lock().await;
        let (config, owner) = (self.config.clone(), owner.clone());
        netns::inside(None, "take host ports back", async move |_| {
            let ours: Vec<Exposure> = expose::all(&config)?
                .into_iter()
                .filter(|e| e.owner == owner)
                .collect();
            for exposure in &ours {
                expose::forget(&config, exposure.from)?;
            }
            if ours.is_empty() {
                Ok(())
            } else {
                write_rules(&config)
            }
        })
        .await
    }

    /// The host ports of everyone: owner, port of the host, target.
    ///
    /// # Errors
    /// A record could not be read.
    pub fn host_ports(&self) -> Result<Vec<(Owner, HostPort, PortTarget)>, Error> {
        Ok(expose::all(&self.config)?
            .into_iter()
            .map(|e| (e.owner, e.from, e.to))
            .collect())
    }
}

/// Writes both tables from what is on disk.
pub(crate) fn write_rules(config: &NetworkConfig) -> Result<(), Error> {
    nft::replace_table(
        "bridge",
        &config.table,
        &guard::render(config, &ipam::all(config)?),
    )?;
    nft::replace_table(
        "inet",
        &config.table,
        &render(config, &expose::all(config)?),
    )
}

/// The body of the table `inet <table>` of the host.
fn render(config: &NetworkConfig, exposures: &[Exposure]) -> String {
    let bridge = &config.bridge;
    let (outside, own) = expose::render(exposures);
    let mut text = String::new();
    let mut chain = |name: &str, hook: &str, rules: &[String]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  chain {name} {{\n    type {hook}; policy accept;");
        for rule in rules {
            let _ = writeln!(text, "    {}", rule.trim());
        }
        text.push_str("  }\n");
    };
    // `route_localnet` (see `expose`) must not open the host's loopback to guests.
    let raw = [format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop")];
    chain("raw", "filter hook prerouting priority -300", &raw);
    // Our DNS server is for our guests and this host, not for the host's neighbours.
    let stranger = format!("iifname != {{ \"{bridge}\", \"lo\" }}");
    let mut input = vec![format!(
        "{stranger} ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 drop",
        config.gateway_v4()
    )];
    input.extend(config.gateway_v6().map(|ip| {
        format!("{stranger} ip6 daddr {ip} meta l4proto {{ tcp, udp }} th dport 53 drop")
    }));
    chain("input", "filter hook input priority filter", &input);
    let forward = [
        format!("iifname \"{bridge}\" accept"),
        format!("oifname \"{bridge}\" ct state established,related accept"),
        format!("oifname \"{bridge}\" ct status dnat accept"),
        // From outside only by a host port.
        format!("oifname \"{bridge}\" drop"),
    ];
    chain("forward", "filter hook forward priority filter", &forward);
    chain(
        "prerouting",
        "nat hook prerouting priority dstnat",
        &lines(&outside),
    );
    chain("output", "nat hook output priority -100", &lines(&own));
    let mut postrouting = Vec::new();
    let subnets = [
        Some(format!("ip saddr {}", config.subnet_v4.trunc())),
        config
            .subnet_v6
            .map(|net| format!("ip6 saddr {}", net.trunc())),
    ];
    for from_us in subnets.into_iter().flatten() {
        if config.masquerade {
            postrouting.push(format!("{from_us} oifname != \"{bridge}\" masquerade"));
        }
        // A guest that uses a host port of its neighbour: the answer must come back through the host.
        postrouting.push(format!(
            "{from_us} oifname \"{bridge}\" ct status dnat masquerade"
        ));
    }
    postrouting.push(format!(
        "ip saddr 127.0.0.0/8 oifname \"{bridge}\" masquerade"
    ));
    chain(
        "postrouting",
        "nat hook postrouting priority srcnat",
        &postrouting,
    );
    text
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

async fn check_subnets(config: &NetworkConfig, netlink: &Netlink) -> Result<(), Error> {
    let ours = [
        Some(IpNet::V4(config.subnet_v4)),
        config.subnet_v6.map(IpNet::V6),
    ];
    for link in netlink
        .links()
        .await?
        .into_iter()
        .filter(|link| link.name != config.bridge)
    {
        for address in netlink.addresses(&link).await? {
            let overlaps =
                |net: &&IpNet| net.contains(&address.addr()) || address.contains(&net.network());
            if let Some(subnet) = ours.iter().flatten().find(overlaps) {
                return Err(Error::SubnetInUse {
                    subnet: subnet.to_string(),
                    address: address.to_string(),
                    interface: link.name,
                });
            }
        }
    }
    Ok(())
}

async fn make_bridge(config: &NetworkConfig, netlink: &Netlink) -> Result<(), Error> {
    let bridge = netlink
        .ensure_bridge(&config.bridge, config.bridge_mac())
        .await?;
    let change = LinkChange {
        mac: Some(config.bridge_mac()),
        mtu: Some(config.mtu),
        up: Some(true),
        ..LinkChange::default()
    };
    sysctl::set(&format!("ipv4/conf/{}/route_localnet", config.bridge), "1")?;
    // No second of waiting for the link-local address, from which the DNS server and routers are asked.
    sysctl::set_if_present(&format!("ipv6/conf/{}/accept_dad", config.bridge), "0")?;
    sysctl::set_if_present(&format!("ipv6/conf/{}/accept_ra", config.bridge), "0")?;
    netlink.change(&bridge, change).await?;
    let mut wanted = vec![IpNet::V4(Ipv4Net::new_assert(
        config.gateway_v4(),
        config.subnet_v4.prefix_len(),
    ))];
    if let (Some(gateway), Some(net)) = (config.gateway_v6(), config.subnet_v6) {
        sysctl::set_if_present(&format!("ipv6/conf/{}/disable_ipv6", config.bridge), "0")?;
        wanted.push(IpNet::V6(Ipv6Net::new_assert(gateway, net.prefix_len())));
    }
    for address in &wanted {
        netlink.add_address(&bridge, *address).await?;
    }
    for address in netlink.addresses(&bridge).await? {
        let link_local = matches!(address.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        // Left by other settings.
        if !link_local && !wanted.contains(&address) {
            netlink.delete_address(&bridge, address).await?;
        }
    }
    Ok(())
}

/// Switches forwarding on and remembers what was there.
fn forward(config: &NetworkConfig) -> Result<(), Error> {
    let path = config.folder.join("sysctl.json");
    let boot = boot_id()?;
    let mut record: Sysctls = files::read_record(&path)?.unwrap_or_default();
    if record.boot != boot {
        record = Sysctls {
            boot,
            changed: Vec::new(),
        };
    }
    let mut wanted = Vec::new();
    if config.subnet_v6.is_some() {
        // A forwarding host ignores router advertisements unless told: it would lose its own default route.
        for interface in sysctl::interfaces("ipv6") {
            let name = format!("ipv6/conf/{interface}/accept_ra");
            let ours = interface == config.bridge
                || interface.starts_with(VETH_PREFIX)
                || interface == "lo";
            if !ours && sysctl::get(&name)?.as_deref() == Some("1") {
                wanted.push((name, "2"));
            }
        }
        wanted.push(("ipv6/conf/all/forwarding".to_owned(), "1"));
    }
    wanted.push(("ipv4/ip_forward".to_owned(), "1"));
    for (name, ours) in wanted {
        let Some(before) = sysctl::get(&name)? else {
            continue;
        };
        if before == ours {
            continue;
        }
        if !record.changed.iter().any(|changed| changed.name == name) {
            record.changed.push(Changed {
                name: name.clone(),
                before,
                ours: ours.to_owned(),
            });
            files::write_record(&path, &record)?;
        }
        sysctl::set(&name, ours)?;
    }
    Ok(())
}

/// Puts back what [`forward`] changed, where nobody else changed it since.
fn restore(config: &NetworkConfig) -> Result<(), Error> {
    let path = config.folder.join("sysctl.json");
    let record: Sysctls = files::read_record(&path)?.unwrap_or_default();
    if record.boot == boot_id()? {
        for Changed { name, before, ours } in record.changed.iter().rev() {
            if sysctl::get(name)?.as_deref() == Some(ours) {
                sysctl::set(name, before)?;
            }
        }
    }
    files::remove_file(&path)
}

pub(crate) fn boot_id() -> Result<String, Error> {
    catamaran_host::process::boot_id()
        .map_err(Error::file("read", "/proc/sys/kernel/random/boot_id"))
}
