//! Network interfaces: `<interface>` on a tap that someone else makes, and what that someone is told.

use catamaran_spec::{Binding, Interface, Joined, LinkState, NicModel, Protocol};

use crate::addresses::{Addresses, Need, Seat};
use crate::alias;
use crate::draft::Draft;
use crate::given::GivenNic;
use crate::identity::mac_text;
use crate::plan::{NicBinding, NicPlan};
use crate::xml::Element;

/// Most queue pairs of a tap.
const MOST_QUEUES: u32 = 256;

/// Interfaces that have a tap, with it.
pub(crate) fn layout<'a>(draft: &mut Draft<'a>) -> Vec<(&'a Interface, GivenNic)> {
    let mut out = Vec::new();
    let spec = draft.spec;
    for (index, nic) in spec.interfaces.iter().enumerate() {
        match draft.given.nics.get(&nic.name).cloned() {
            Some(given) => out.push((nic, given)),
            None => draft.error(
                format!("spec.domain.devices.interfaces[{index}]"),
                format!(
                    "no network attachment was made for interface {:?}",
                    nic.name
                ),
            ),
        }
    }
    out
}

/// PCI addresses that the interfaces need.
pub(crate) fn needs(draft: &Draft<'_>) -> Vec<Need> {
    let spec = draft.spec;
    let need = |(index, nic): (usize, &Interface)| {
        let express = match nic.model {
            NicModel::Virtio => !spec.devices.virtio_transitional,
            NicModel::E1000e => true,
            NicModel::E1000 | NicModel::Rtl8139 | NicModel::Ne2kPci | NicModel::Pcnet => false,
        };
        let field = format!("spec.domain.devices.interfaces[{index}].pciAddress");
        Need {
            key: alias::nic(&nic.name),
            seat: if express {
                Seat::Express
            } else {
                Seat::Conventional
            },
            wish: nic.pci_address.clone().map(|address| (field, address)),
        }
    };
    spec.interfaces.iter().enumerate().map(need).collect()
}

fn mac(nic: &Interface, given: &GivenNic) -> String {
    mac_text(nic.mac.unwrap_or(given.mac))
}

fn queues(draft: &Draft<'_>, nic: &Interface) -> Option<u32> {
    let wanted = draft.spec.devices.network_multi_queue && nic.model == NicModel::Virtio;
    Some(draft.spec.cpu.count().min(MOST_QUEUES)).filter(|queues| wanted && *queues > 1)
}

/// What whoever binds the interface is told.
pub(crate) fn plan(draft: &Draft<'_>, nic: &Interface, given: &GivenNic) -> NicPlan {
    let ports = nic.ports.iter().map(|port| {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        (protocol.to_owned(), port.range.start, port.range.end)
    });
    NicPlan {
        name: nic.name.clone(),
        tap: given.tap.clone(),
        mac: mac(nic, given),
        mtu: given.mtu,
        binding: match &nic.binding {
            Binding::Masquerade { v4, v6 } => NicBinding::Masquerade {
                v4: v4.to_string(),
                v6: v6.to_string(),
                ports: ports.collect(),
            },
            Binding::Bridge => match nic.network {
                Joined::Pod => NicBinding::Bridge,
                Joined::Definition { .. } => NicBinding::Segment,
            },
        },
        multi_queue: queues(draft, nic).is_some(),
    }
}

/// `<interface>`.
pub(crate) fn element(
    draft: &Draft<'_>,
    nic: &Interface,
    given: &GivenNic,
    addresses: &Addresses,
) -> Element {
    let virtio = nic.model == NicModel::Virtio;
    let model = if virtio && draft.spec.devices.virtio_transitional {
        "virtio-transitional"
    } else {
        nic.model.as_str()
    };
    let driver = virtio.then(|| {
        // The translator gains nothing from vhost.
        let vhost = draft.facts.vhost_net && !draft.emulated();
        Element::new("driver")
            .attr("name", if vhost { "vhost" } else { "qemu" })
            .opt_attr("queues", queues(draft, nic))
    });
    let state = match nic.state {
        LinkState::Up => "up",
        LinkState::Down => "down",
    };
    let alias = alias::nic(&nic.name);
    Element::new("interface")
        .attr("type", "ethernet")
        .child(Element::new("mac").attr("address", mac(nic, given)))
        .child(
            Element::new("target")
                .attr("dev", &given.tap)
                .attr("managed", "no"),
        )
        .child(Element::new("model").attr("type", model))
        .children(driver)
        .child(Element::new("link").attr("state", state))
        .child(Element::new("mtu").attr("size", given.mtu))
        // A boot ROM takes seconds of the start; only an interface with a place in the boot order needs it.
        .child(match nic.boot_order {
            Some(order) => Element::new("boot").attr("order", order),
            None => Element::new("rom").attr("enabled", "no"),
        })
        .children(
            nic.acpi_index
                .map(|index| Element::new("acpi").attr("index", index)),
        )
        .child(Element::new("alias").attr("name", &alias))
        .children(addresses.element(&alias))
}
