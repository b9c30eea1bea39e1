//! Hyper-V enlightenments, in the order of libvirt's schema.

use catamaran_spec::Hyperv;

use crate::xml::Element;

/// Element names in the order in which libvirt writes them.
const ORDER: [&str; 16] = [
    "relaxed",
    "vapic",
    "spinlocks",
    "vpindex",
    "runtime",
    "synic",
    "stimer",
    "reset",
    "vendor_id",
    "frequencies",
    "reenlightenment",
    "tlbflush",
    "ipi",
    "evmcs",
    "avic",
    "emsr_bitmap",
];

/// `<hyperv>`, unless nothing is asked for.
pub(crate) fn element(hyperv: &Hyperv) -> Option<Element> {
    if hyperv.passthrough {
        return Some(Element::new("hyperv").attr("mode", "passthrough"));
    }
    let mut children: Vec<(&'static str, Element)> = Vec::new();
    for (name, on) in &hyperv.switches {
        children.push((name, state(name, *on)));
    }
    if let Some((on, retries)) = hyperv.spinlocks {
        let element = state("spinlocks", on);
        children.push((
            "spinlocks",
            if on {
                element.attr("retries", retries)
            } else {
                element
            },
        ));
    }
    if let Some((on, direct)) = hyperv.stimer {
        children.push((
            "stimer",
            state("stimer", on).children(direct.filter(|_| on).map(|on| state("direct", on))),
        ));
    }
    if let Some((on, id)) = &hyperv.vendor_id {
        let element = state("vendor_id", *on);
        children.push((
            "vendor_id",
            if *on {
                element.attr("value", id)
            } else {
                element
            },
        ));
    }
    if children.is_empty() {
        return None;
    }
    children.sort_by_key(|(name, _)| {
        ORDER
            .iter()
            .position(|known| known == name)
            .unwrap_or(ORDER.len())
    });
    Some(
        Element::new("hyperv")
            .attr("mode", "custom")
            .children(children.into_iter().map(|(_, element)| element)),
    )
}

fn state(name: &'static str, on: bool) -> Element {
    Element::new(name).attr("state", if on { "on" } else { "off" })
}
