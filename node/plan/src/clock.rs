//! The guest's clock and timers.

use catamaran_spec::{ClockBase, TickPolicy};

use crate::draft::Draft;
use crate::xml::Element;

/// `<clock>`.
pub(crate) fn element(draft: &mut Draft<'_>) -> Element {
    let clock = &draft.spec.clock;
    let element = match &clock.base {
        ClockBase::Utc {
            offset_seconds: None,
        } => Element::new("clock")
            .attr("offset", "utc")
            .attr("adjustment", "reset"),
        ClockBase::Utc {
            offset_seconds: Some(seconds),
        } => Element::new("clock")
            .attr("offset", "variable")
            .attr("adjustment", seconds)
            .attr("basis", "utc"),
        ClockBase::Timezone(zone) => Element::new("clock")
            .attr("offset", "timezone")
            .attr("timezone", zone),
    };
    let timers = &clock.timers;
    let mut children = Vec::new();
    if let Some((present, policy, track)) = &timers.rtc {
        children.push(timer("rtc", *present, *policy).opt_attr("track", track.as_deref()));
    }
    if let Some((present, policy)) = timers.pit {
        children.push(timer("pit", present, policy));
    }
    if let Some((present, policy)) = timers.hpet {
        children.push(timer("hpet", present, policy));
    }
    let kvm_only = [("kvmclock", timers.kvm), ("hypervclock", timers.hyperv)];
    let mut left_out = Vec::new();
    for (name, present) in kvm_only {
        match present {
            Some(_) if draft.emulated() => left_out.push(name),
            Some(present) => children.push(timer(name, present, None)),
            None => {}
        }
    }
    if !left_out.is_empty() {
        draft.note(format!(
            "timer {}: left out, needs KVM",
            left_out.join(", ")
        ));
    }
    element.children(children)
}

fn timer(name: &str, present: bool, policy: Option<TickPolicy>) -> Element {
    Element::new("timer")
        .attr("name", name)
        .opt_attr("tickpolicy", policy.map(TickPolicy::as_str))
        .attr("present", if present { "yes" } else { "no" })
}
