//! Network interfaces and the networks that they join.

spec! {
    /// A network interface; it joins the network of the same name.
    pub struct Interface {
        required {
            /// Name.
            name: String,
        }
        optional {
            /// Index in the guest's ACPI tables, for stable names.
            acpi_index: Option<u32>,
            /// Boot order, 1 first.
            boot_order: Option<u32>,
            /// The guest has the pod's own address.
            bridge: Option<InterfaceBridge>,
            /// MAC address.
            mac_address: Option<String>,
            /// The guest has a private address behind NAT.
            masquerade: Option<InterfaceMasquerade>,
            /// `virtio` (the default), `e1000`, `e1000e`, `rtl8139`, `ne2k_pci` or `pcnet`.
            model: Option<String>,
            /// Place on the PCI bus, `dddd:bb:ss.f`.
            pci_address: Option<String>,
            /// Port ranges that are passed on to the guest.
            port_ranges: Vec<PortRange>,
            /// Ports that are passed on to the guest; all when none are named.
            ports: Vec<Port>,
            /// Link state: `up` (the default) or `down`.
            state: Option<String>,
        }
    }

    /// The guest has the pod's own address.
    pub struct InterfaceBridge {}

    /// The guest has a private address behind NAT.
    pub struct InterfaceMasquerade {}

    /// A port that is passed on to the guest.
    pub struct Port {
        required {
            /// Port number.
            port: i32,
        }
        optional {
            /// Name.
            name: Option<String>,
            /// `TCP` (the default) or `UDP`.
            protocol: Option<String>,
        }
    }

    /// Ports that are passed on to the guest.
    pub struct PortRange {
        required {
            /// Last port.
            end: i32,
            /// `TCP` or `UDP`.
            protocol: String,
            /// First port.
            start: i32,
        }
    }

    /// A network that interfaces can join.
    pub struct Network {
        required {
            /// Name.
            name: String,
        }
        optional {
            /// A NetworkAttachmentDefinition.
            multus: Option<MultusNetwork>,
            /// The pod's network.
            pod: Option<PodNetwork>,
        }
    }

    /// A network that a meta plugin such as Multus adds to the pod.
    pub struct MultusNetwork {
        required {
            /// Name of the NetworkAttachmentDefinition, `NAME` or `NAMESPACE/NAME`.
            network_name: String,
        }
        optional {
            /// It takes the place of the pod's own network.
            default: Option<bool>,
        }
    }

    /// The pod's network.
    pub struct PodNetwork {
        optional {
            /// IPv6 network of a masqueraded guest; `fd10:0:2::/120` by default.
            #[serde(rename = "vmIPv6NetworkCIDR")]
            vm_ipv6_network_cidr: Option<String>,
            /// IPv4 network of a masqueraded guest; `10.0.2.0/24` by default.
            #[serde(rename = "vmNetworkCIDR")]
            vm_network_cidr: Option<String>,
        }
    }
}
