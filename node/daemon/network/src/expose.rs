//! Host ports: a port of the host leads to a port of a VM or Pod.
//!
//! Each is a file and, from all files together, rules in our table; no process of ours stands in the way. Connections of
//! the host itself to its own addresses, 127.0.0.1 among them, are led there too (`route_localnet` on our bridge only,
//! with packets for 127/8 that come in from the bridge dropped before anything else sees them). `::1` is not: the
//! kernel does not let that address leave the host. A VM reaches the host ports of its neighbours, but its own only where
//! `bridge-nf-call-iptables` is off: else the frame would have to leave by the port it came from.

use std::fmt;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::error::Error;
use crate::files;
use crate::key::Key;

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// Kinds of things that have host ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// A Pod. Records of daemons that knew no ports of machines name no kind.
    #[default]
    Pod,
    /// A virtual machine.
    Machine,
}

/// Whose a host port is: a Pod and a machine may have the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// What it is.
    #[serde(default)]
    pub kind: OwnerKind,
    /// Its namespace and name.
    #[serde(flatten)]
    pub key: Key,
}

impl Owner {
    /// The Pod of that name.
    #[must_use]
    pub fn pod(key: Key) -> Self {
        let kind = OwnerKind::Pod;
        Self { kind, key }
    }

    /// The virtual machine of that name.
    #[must_use]
    pub fn machine(key: Key) -> Self {
        let kind = OwnerKind::Machine;
        Self { kind, key }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OwnerKind::Pod => "Pod",
            OwnerKind::Machine => "virtual machine",
        };
        write!(f, "{kind} {}", self.key)
    }
}

/// A port of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// Address of the host; all its addresses when none.
    pub ip: Option<IpAddr>,
    /// The port, 1 to 65535.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl HostPort {
    /// Whether some connection could be meant for both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_ip = self.ip == other.ip || self.ip.is_none() || other.ip.is_none();
        self.port == other.port && self.protocol == other.protocol && same_ip
    }
}

/// Where a host port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTarget {
    /// IPv4 address of the VM or Pod, if it has one.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address of the VM or Pod, if it has one.
    pub v6: Option<Ipv6Addr>,
    /// The port there.
    pub port: u16,
}

impl PortTarget {
    /// A port behind the first address of each family.
    #[must_use]
    pub fn of(addresses: &[IpAddr], port: u16) -> Self {
        let v4 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(*v6),
        });
        Self { v4, v6, port }
    }
}

/// A host port with everything about it, as it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exposure {
    pub(crate) owner: Owner,
    pub(crate) from: HostPort,
    pub(crate) to: PortTarget,
}

fn folder(config: &NetworkConfig) -> PathBuf {
    config.folder.join("ports")
}

fn path(config: &NetworkConfig, from: HostPort) -> PathBuf {
    let HostPort { ip, port, protocol } = from;
    // ':' is fine in file names.
    let ip = ip.map_or_else(|| "any".to_owned(), |ip| ip.to_string());
    folder(config).join(format!("{protocol}-{port}-{ip}.json"))
}

/// All host ports.
pub(crate) fn all(config: &NetworkConfig) -> Result<Vec<Exposure>, Error> {
    files::read_records(&folder(config))
}

/// Records a host port. The caller holds the lock and writes the rules afterwards.
pub(crate) fn record(config: &NetworkConfig, exposure: &Exposure) -> Result<(), Error> {
    let HostPort { ip, port, protocol } = exposure.from;
    let known = all(config)?;
    let clashing: Vec<&Exposure> = known
        .iter()
        .filter(|other| other.from.overlaps(&exposure.from))
        .collect();
    if let Some(other) = clashing.iter().find(|other| other.owner != exposure.owner) {
        return Err(Error::HostPortTaken {
            host_ip: ip,
            port,
            protocol,
            owner: other.owner.clone(),
        });
    }
    // Ours already: then no other process can be meant by what the test below would find.
    if clashing.is_empty() {
        try_bind(exposure.from)?;
    }
    files::make_folder(&folder(config))?;
    files::write_record(&path(config, exposure.from), exposure)
}

/// Forgets a host port; none there is fine.
pub(crate) fn forget(config: &NetworkConfig, from: HostPort) -> Result<(), Error> {
    files::remove_file(&path(config, from))
}

/// Binds the port and lets go of it. It tells of processes that listen now; one that comes later is not seen, and gets
/// no connection.
fn try_bind(from: HostPort) -> Result<(), Error> {
    let HostPort { ip, port, protocol } = from;
    let unspecified = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let addresses: &[IpAddr] = ip.as_ref().map_or(&unspecified, std::slice::from_ref);
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        let bound = match protocol {
            Protocol::Tcp => TcpListener::bind(address).map(|_| ()),
            Protocol::Udp => UdpSocket::bind(address).map(|_| ()),
        };
        match bound {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(Error::HostPortInUse {
                    host_ip: ip,
                    port,
                    protocol,
                });
            }
            // No IPv6 in this kernel: nobody can listen there.
            Err(_) if ip.is_none() && address.is_ipv6() => {}
            Err(error) => {
                return Err(Error::system(format!(
                    "use host port {port}/{protocol} on {address}"
                ))(error));
            }
        }
    }
    Ok(())
}

/// Rules for the chains `prerouting` (from elsewhere) and `output` (from the host itself).
pub(crate) fn render(exposures: &[Exposure]) -> (String, String) {
    let (mut outside, mut own) = (String::new(), String::new());
    for exposure in exposures {
        let Exposure {
            owner: _,
            from: HostPort { ip, port, protocol },
            to,
        } = exposure;
        let tail = |target: String| format!("{protocol} dport {port} dnat {target}");
        // Writing to a String cannot fail.
        if let Some(target) = to.v4 {
            let tail = tail(format!("ip to {target}:{}", to.port));
            match ip {
                // Never from outside: a neighbour could send to 127.0.0.1 on the wire, and DNAT comes before routing.
                None => {
                    let _ = writeln!(
                        outside,
                        "    fib daddr type local ip daddr != 127.0.0.0/8 {tail}"
                    );
                    let _ = writeln!(own, "    fib daddr type local {tail}");
                }
                Some(IpAddr::V4(ip)) => {
                    if !ip.is_loopback() {
                        let _ = writeln!(outside, "    ip daddr {ip} {tail}");
                    }
                    let _ = writeln!(own, "    ip daddr {ip} {tail}");
                }
                Some(IpAddr::V6(_)) => {}
            }
        }
        if let Some(target) = to.v6 {
            let tail = tail(format!("ip6 to [{target}]:{}", to.port));
            let head = match ip {
                None => "fib daddr type local ip6 daddr != ::1".to_owned(),
                Some(IpAddr::V6(ip)) if !ip.is_loopback() => format!("ip6 daddr {ip}"),
                Some(_) => continue,
            };
            let _ = writeln!(outside, "    {head} {tail}");
            let _ = writeln!(own, "    {head} {tail}");
        }
    }
    (outside, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_on_loopback_is_never_led_on_from_outside() {
        let exposure = |ip: &str| Exposure {
            owner: Owner::pod(Key::new("default", "a").unwrap()),
            from: HostPort {
                ip: Some(ip.parse().unwrap()),
                port: 80,
                protocol: Protocol::Tcp,
            },
            to: PortTarget {
                v4: Some(Ipv4Addr::new(10, 1, 0, 2)),
                v6: None,
                port: 8080,
            },
        };
        let (outside, own) = render(&[exposure("127.0.0.1")]);
        assert_eq!(outside, "");
        assert!(
            own.contains("ip daddr 127.0.0.1 tcp dport 80 dnat ip to 10.1.0.2:8080"),
            "{own}"
        );
        assert_ne!(render(&[exposure("192.0.2.1")]).0, "");
    }

    #[test]
    fn a_record_that_names_no_kind_is_a_pods() {
        let record = r#"{"namespace": "default", "name": "a"}"#;
        let owner: Owner = serde_json::from_str(record).unwrap();
        assert_eq!(owner, Owner::pod(Key::new("default", "a").unwrap()));
        let machine = Owner::machine(owner.key);
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Owner>(&text).unwrap(), machine);
    }
}
