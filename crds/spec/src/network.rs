//! Network interfaces, joined with their networks.

use std::fmt;
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

/// Annotation of an instance: ports of the host that lead to it, as `[ADDRESS:]PORT:GUEST-PORT[/PROTOCOL]`, parted by commas.
pub const HOST_PORTS_ANNOTATION: &str = "catamaran.dev/host-ports";

/// A network interface of the guest. On one machine without Kubernetes all of them join the same network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name; also the name of its network.
    pub name: String,
    /// What it joins.
    pub network: Joined,
    /// How it is joined.
    pub binding: Binding,
    /// Device model.
    pub model: NicModel,
    /// MAC address from the manifest; `None` = derived from the VM's identity.
    pub mac: Option<[u8; 6]>,
    /// Ports that are passed on to the guest; empty = all.
    pub ports: Vec<Port>,
    /// Boot order, 1 first; unique over disks and interfaces.
    pub boot_order: Option<u32>,
    /// ACPI index.
    pub acpi_index: Option<u32>,
    /// PCI address wished for, `dddd:bb:ss.f`.
    pub pci_address: Option<String>,
    /// Link state.
    pub state: LinkState,
}

/// What an interface joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The pod's network.
    Pod,
    /// What a NetworkAttachmentDefinition describes.
    Definition {
        /// Its namespace; the machine's own when none.
        namespace: Option<String>,
        /// Its name.
        name: String,
    },
}

/// How an interface is joined to its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The guest has private addresses behind NAT.
    Masquerade {
        /// Guest network, `10.0.2.0/24` by default.
        v4: Ipv4Net,
        /// Guest network, `fd10:0:2::/120` by default.
        v6: Ipv6Net,
    },
    /// The guest has the pod's own address; in another network than the pod's, it is a member like any other.
    Bridge,
}

/// Device model of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicModel {
    /// virtio-net (the default).
    Virtio,
    /// Intel e1000.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Realtek 8139.
    Rtl8139,
    /// NE2000 on PCI.
    Ne2kPci,
    /// AMD PCnet.
    Pcnet,
}

impl NicModel {
    /// libvirt's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::Rtl8139 => "rtl8139",
            Self::Ne2kPci => "ne2k_pci",
            Self::Pcnet => "pcnet",
        }
    }
}

/// A port that is passed on to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Optional name.
    pub name: Option<String>,
    /// Protocol.
    pub protocol: Protocol,
    /// Port range; a single port has equal ends.
    pub range: PortRange,
}

/// An inclusive port range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// First port, at least 1.
    pub start: u16,
    /// Last port.
    pub end: u16,
}

/// A port of the host that leads to the guest's pod address. On one machine without Kubernetes only: there a Service is for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Address of the host; all of them when none.
    pub address: Option<IpAddr>,
    /// The host's port, at least 1.
    pub port: u16,
    /// The guest's port, at least 1.
    pub guest_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{}:{}/{protocol}", self.port, self.guest_port)
    }
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Link state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Plugged in.
    #[default]
    Up,
    /// Unplugged cable.
    Down,
}
