//! Interfaces, joined with their networks.

use catamaran_api::{Network, PodNetwork, VirtualMachineInstanceSpec};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::defaults;
use crate::field::{Fault, Faults, FieldPath};
use crate::names;
use crate::network::{Binding, Interface, Joined, LinkState, NicModel, Port, PortRange, Protocol};

const MODELS: [(&str, NicModel); 6] = [
    ("virtio", NicModel::Virtio),
    ("e1000", NicModel::E1000),
    ("e1000e", NicModel::E1000e),
    ("rtl8139", NicModel::Rtl8139),
    ("ne2k_pci", NicModel::Ne2kPci),
    ("pcnet", NicModel::Pcnet),
];
const PROTOCOLS: [(&str, Protocol); 2] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];
const PORT: &str = "must be between 1 and 65535, inclusive";

/// All interfaces that can be told, in the order of the manifest; the default one where none is named.
pub(super) fn interfaces(
    spec: &VirtualMachineInstanceSpec,
    root: &FieldPath,
    faults: &mut Faults,
) -> Vec<Interface> {
    let devices = &spec.domain.devices;
    let nics = root.child("domain").child("devices").child("interfaces");
    if devices.interfaces.is_empty() && spec.networks.is_empty() {
        return if joins_pods(spec) {
            vec![default_interface()]
        } else {
            Vec::new()
        };
    }
    networks(spec, root, faults);
    let mut found = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (i, interface) in devices.interfaces.iter().enumerate() {
        let path = nics.index(i);
        let name = interface.name.as_str();
        if !names::is_device_name(name) {
            faults.invalid(
                &path.child("name"),
                name,
                "must be 1 to 63 of the characters [A-Za-z0-9_-]",
            );
        } else if seen.contains(&name) {
            faults.duplicate(&path.child("name"), name);
        } else if !spec.networks.iter().any(|n| n.name == name) {
            faults.invalid(
                &path.child("name"),
                name,
                &format!("no network of this name in {}", root.child("networks")),
            );
        }
        seen.push(name);
        let network = spec
            .networks
            .iter()
            .position(|n| n.name == name)
            .map(|n| (&spec.networks[n], root.child("networks").index(n)));
        found.extend(one(interface, network, &path, faults));
    }
    found
}

/// Whether the machine joins the pod network.
pub(super) fn joins_pods(spec: &VirtualMachineInstanceSpec) -> bool {
    let devices = &spec.domain.devices;
    if devices.interfaces.is_empty() && spec.networks.is_empty() {
        return devices.autoattach_pod_interface.unwrap_or(true);
    }
    spec.networks.iter().any(|network| network.pod.is_some())
}

/// What a machine gets that names no network and no interface.
pub(super) fn default_interface() -> Interface {
    Interface {
        name: defaults::NETWORK_NAME.to_owned(),
        network: Joined::Pod,
        binding: Binding::Bridge,
        model: NicModel::Virtio,
        mac: None,
        ports: Vec::new(),
        boot_order: None,
        acpi_index: None,
        pci_address: None,
        state: LinkState::Up,
    }
}

/// Names are unique, each network has an interface and one source; the pod network is joined once.
fn networks(spec: &VirtualMachineInstanceSpec, root: &FieldPath, faults: &mut Faults) {
    let mut seen: Vec<&str> = Vec::new();
    let mut pods = 0;
    for (i, network) in spec.networks.iter().enumerate() {
        let path = root.child("networks").index(i);
        let name = network.name.as_str();
        if name.is_empty() {
            faults.required(&path.child("name"), "");
        } else if seen.contains(&name) {
            faults.duplicate(&path.child("name"), name);
        } else if !spec
            .domain
            .devices
            .interfaces
            .iter()
            .any(|n| n.name == name)
        {
            faults.invalid(
                &path.child("name"),
                name,
                &format!(
                    "no interface of this name in {}",
                    root.child("domain.devices.interfaces")
                ),
            );
        }
        seen.push(name);
        // Other sources have been refused by name already.
        if network.pod.is_none() && network.multus.is_none() && network.unknown.is_empty() {
            faults.required(&path, "should have a network type");
        }
        if network.pod.is_some() && network.multus.is_some() {
            faults.push(
                &path.child("multus"),
                Fault::Forbidden("only one network type can be given".to_owned()),
            );
        }
        pods += usize::from(network.pod.is_some());
        if network.pod.is_some() && pods > 1 {
            faults.push(
                &path.child("pod"),
                Fault::Forbidden(
                    "more than one interface is connected to a pod network".to_owned(),
                ),
            );
        }
    }
}

fn one(
    interface: &catamaran_api::Interface,
    network: Option<(&Network, FieldPath)>,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<Interface> {
    let joined = joined(network.as_ref(), faults);
    let binding = binding(interface, network, path, faults);
    let model = faults
        .word(
            &path.child("model"),
            interface.model.as_deref().filter(|m| !m.is_empty()),
            &MODELS,
        )
        .unwrap_or(NicModel::Virtio);
    let mac = interface
        .mac_address
        .as_deref()
        .filter(|m| !m.is_empty())
        .and_then(|text| mac(text, &path.child("macAddress"), faults));
    if let Some(address) = interface
        .pci_address
        .as_ref()
        .filter(|a| !names::is_pci_address(a))
    {
        faults.invalid(
            &path.child("pciAddress"),
            address,
            "must be a PCI address such as 0000:81:01.0",
        );
    }
    if let Some(index) = interface.acpi_index.filter(|i| !(1..=16383).contains(i)) {
        faults.invalid(
            &path.child("acpiIndex"),
            index,
            "must be between 1 and 16383, inclusive",
        );
    }
    let state = faults.word(
        &path.child("state"),
        interface.state.as_deref().filter(|s| !s.is_empty()),
        &[("up", LinkState::Up), ("down", LinkState::Down)],
    );
    Some(Interface {
        name: interface.name.clone(),
        network: joined?,
        binding: binding?,
        model,
        mac,
        ports: ports(interface, path, faults),
        boot_order: interface.boot_order,
        acpi_index: interface.acpi_index,
        pci_address: interface.pci_address.clone(),
        state: state.unwrap_or_default(),
    })
}

/// What the network is; `None` for a name that is none.
fn joined(network: Option<&(&Network, FieldPath)>, faults: &mut Faults) -> Option<Joined> {
    let Some((multus, at)) =
        network.and_then(|(network, at)| Some((network.multus.as_ref()?, at.child("multus"))))
    else {
        return Some(Joined::Pod);
    };
    let full = multus.network_name.as_str();
    let (namespace, name) = match full.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, full),
    };
    let is_namespace = namespace.is_none_or(names::is_label);
    if !is_namespace || !names::is_subdomain(name) {
        faults.invalid(
            &at.child("networkName"),
            full,
            "must be the name of a NetworkAttachmentDefinition, NAME or NAMESPACE/NAME",
        );
        return None;
    }
    Some(Joined::Definition {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    })
}

fn binding(
    interface: &catamaran_api::Interface,
    network: Option<(&Network, FieldPath)>,
    path: &FieldPath,
    faults: &mut Faults,
) -> Option<Binding> {
    let secondary = network
        .as_ref()
        .is_some_and(|(network, _)| network.multus.is_some());
    let pod = network.and_then(|(network, at)| Some((network.pod.as_ref()?, at.child("pod"))));
    match (&interface.masquerade, &interface.bridge) {
        (Some(_), Some(_)) => {
            faults.push(
                &path.child("bridge"),
                Fault::Forbidden("only one binding can be given".to_owned()),
            );
            None
        }
        (Some(_), None) if secondary => {
            faults.push(
                &path.child("masquerade"),
                Fault::Forbidden(
                    "Masquerade interface only implemented with pod network".to_owned(),
                ),
            );
            None
        }
        (Some(_), None) => {
            let (v4, v6) = match pod {
                Some((pod, at)) => subnets(pod, &at, faults),
                None => (None, None),
            };
            let v4 = v4.unwrap_or_else(|| {
                defaults::MASQUERADE_V4
                    .parse()
                    .expect("the default is a network")
            });
            let v6 = v6.unwrap_or_else(|| {
                defaults::MASQUERADE_V6
                    .parse()
                    .expect("the default is a network")
            });
            Some(Binding::Masquerade { v4, v6 })
        }
        (None, other) => {
            if other.is_none() {
                // A binding that is not carried out here has been refused by name already.
                if interface.unknown.is_empty() {
                    faults.required(path, "must have exactly one binding: masquerade or bridge");
                }
                return None;
            }
            if let Some((pod, at)) = pod {
                for (name, value) in [
                    ("vmNetworkCIDR", &pod.vm_network_cidr),
                    ("vmIPv6NetworkCIDR", &pod.vm_ipv6_network_cidr),
                ] {
                    if value.is_some() {
                        faults.push(
                            &at.child(name),
                            Fault::Forbidden(
                                "only the masquerade binding has a network of its own".to_owned(),
                            ),
                        );
                    }
                }
            }
            Some(Binding::Bridge)
        }
    }
}

fn subnets(
    pod: &PodNetwork,
    at: &FieldPath,
    faults: &mut Faults,
) -> (Option<Ipv4Net>, Option<Ipv6Net>) {
    let v4 = pod
        .vm_network_cidr
        .as_deref()
        .filter(|t| !t.is_empty())
        .and_then(|text| {
            let net = text
                .parse::<Ipv4Net>()
                .ok()
                .filter(|n| n.prefix_len() <= 29);
            if net.is_none() {
                faults.invalid(
                    &at.child("vmNetworkCIDR"),
                    text,
                    "must be an IPv4 network of at least 8 addresses such as 10.0.2.0/24",
                );
            }
            net.map(|n| n.trunc())
        });
    let v6 = pod
        .vm_ipv6_network_cidr
        .as_deref()
        .filter(|t| !t.is_empty())
        .and_then(|text| {
            let net = text
                .parse::<Ipv6Net>()
                .ok()
                .filter(|n| n.prefix_len() <= 125);
            if net.is_none() {
                faults.invalid(
                    &at.child("vmIPv6NetworkCIDR"),
                    text,
                    "must be an IPv6 network of at least 8 addresses such as fd10:0:2::/120",
                );
            }
            net.map(|n| n.trunc())
        });
    (v4, v6)
}

fn mac(text: &str, path: &FieldPath, faults: &mut Faults) -> Option<[u8; 6]> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut bytes = [0u8; 6];
    let mut parts = text.split(separator);
    let fine = bytes.iter_mut().all(|byte| {
        let part = parts
            .next()
            .filter(|p| p.len() == 2 && p.bytes().all(|c| c.is_ascii_hexdigit()));
        part.and_then(|p| u8::from_str_radix(p, 16).ok())
            .map(|b| *byte = b)
            .is_some()
    }) && parts.next().is_none();
    if !fine {
        faults.invalid(
            path,
            text,
            "must be a MAC address such as 02:5e:00:00:00:01",
        );
        return None;
    }
    if bytes[0] & 1 == 1 {
        faults.invalid(path, text, "must be a unicast MAC address");
    } else if bytes[1..] == [0; 5] {
        faults.invalid(path, text, "The requested MAC address is reserved for the in-pod bridge. Please choose another one.");
    }
    Some(bytes)
}

fn ports(interface: &catamaran_api::Interface, path: &FieldPath, faults: &mut Faults) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (i, port) in interface.ports.iter().enumerate() {
        let path = path.child("ports").index(i);
        let number = number(port.port, &path.child("port"), faults);
        let protocol = faults
            .word(
                &path.child("protocol"),
                port.protocol.as_deref().filter(|p| !p.is_empty()),
                &PROTOCOLS,
            )
            .unwrap_or(Protocol::Tcp);
        let name = port.name.clone().filter(|n| !n.is_empty());
        if let Some(name) = &name {
            if ports.iter().any(|p| p.name.as_ref() == Some(name)) {
                faults.duplicate(&path.child("name"), name);
            } else if !names::is_label(name) || name.len() > 15 {
                faults.invalid(
                    &path.child("name"),
                    name,
                    "must be a lowercase RFC 1123 label of at most 15 characters",
                );
            }
        }
        let Some(number) = number else { continue };
        let range = PortRange {
            start: number,
            end: number,
        };
        if ports
            .iter()
            .any(|p| p.range == range && p.protocol == protocol)
        {
            faults.duplicate(&path.child("port"), number);
        }
        ports.push(Port {
            name,
            protocol,
            range,
        });
    }
    for (i, range) in interface.port_ranges.iter().enumerate() {
        let path = path.child("portRanges").index(i);
        let start = number(range.start, &path.child("start"), faults);
        let end = number(range.end, &path.child("end"), faults);
        let protocol = faults.word(&path.child("protocol"), Some(&range.protocol), &PROTOCOLS);
        let (Some(start), Some(end), Some(protocol)) = (start, end, protocol) else {
            continue;
        };
        if end < start {
            faults.invalid(
                &path.child("end"),
                end,
                &format!("must be greater than or equal to start, {start}"),
            );
        }
        ports.push(Port {
            name: None,
            protocol,
            range: PortRange { start, end },
        });
    }
    ports
}

fn number(port: i32, path: &FieldPath, faults: &mut Faults) -> Option<u16> {
    let number = u16::try_from(port).ok().filter(|p| *p > 0);
    if number.is_none() {
        faults.invalid(path, port, PORT);
    }
    number
}
