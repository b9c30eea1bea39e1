//! The processor: a concrete model, topology and features.

use catamaran_spec::CpuModel;

use crate::draft::Draft;
use crate::plan::{Accelerator, Hardware};
use crate::xml::Element;

/// Everything that the emulator can do; stands for a model name in [`Hardware::cpu_model`].
const MAXIMUM: &str = "maximum";
const FIELD: &str = "spec.domain.cpu.model";

/// A resolved model: name (`None` = host-passthrough) and the features that belong to it.
pub(crate) type Resolved = (Option<String>, Vec<(String, String)>);

/// Turns the manifest's word for a model into a concrete one.
pub(crate) fn resolve(draft: &mut Draft<'_>) -> Resolved {
    let facts = draft.facts;
    match (&draft.spec.cpu.model, facts.accelerator) {
        (CpuModel::HostModel, Accelerator::Kvm) => (
            Some(facts.host_cpu_model.clone()),
            facts.host_cpu_features.clone(),
        ),
        (CpuModel::HostPassthrough, Accelerator::Kvm) => (None, Vec::new()),
        (CpuModel::HostModel, Accelerator::Tcg) => (Some(MAXIMUM.into()), Vec::new()),
        (CpuModel::HostPassthrough, Accelerator::Tcg) => {
            draft.note("host-passthrough needs KVM; under emulation the guest gets everything that the emulator can do (\"maximum\")");
            (Some(MAXIMUM.into()), Vec::new())
        }
        (CpuModel::Named(name), accelerator) => {
            check_named(draft, name, accelerator);
            (Some(name.clone()), Vec::new())
        }
    }
}

fn check_named(draft: &mut Draft<'_>, name: &str, accelerator: Accelerator) {
    let facts = draft.facts;
    let usable = facts.usable_cpu_models.iter().any(|model| model == name);
    if usable {
        return;
    }
    let known = facts.cpu_models.iter().any(|model| model == name);
    match (known, accelerator) {
        (true, Accelerator::Tcg) => draft.note(format!(
            "the emulator lacks some features of CPU model {name}; they are left out"
        )),
        (true, Accelerator::Kvm) => {
            let message = format!(
                "this host can't run CPU model {name:?}; usable here: {}",
                facts.usable_cpu_models.join(", ")
            );
            draft.error(FIELD, message);
        }
        (false, _) => {
            let message = format!(
                "unknown CPU model {name:?}; usable here: host-model, host-passthrough, {}",
                facts.usable_cpu_models.join(", ")
            );
            draft.error(FIELD, message);
        }
    }
}

/// `<vcpu>`: with sockets that may be plugged in later, the number at start is said besides the most.
pub(crate) fn vcpu(draft: &Draft<'_>) -> Element {
    let cpu = &draft.spec.cpu;
    let most = cpu.max_sockets.max(cpu.sockets) * cpu.cores * cpu.threads;
    let at_start = (most > cpu.count()).then(|| cpu.count());
    Element::with_text("vcpu", most)
        .attr("placement", "static")
        .opt_attr("current", at_start)
}

/// `<cpu>`.
pub(crate) fn element(draft: &Draft<'_>, hardware: &Hardware) -> Element {
    let cpu = &draft.spec.cpu;
    let element = match hardware.cpu_model.as_deref() {
        None => Element::new("cpu")
            .attr("mode", "host-passthrough")
            .attr("check", "none")
            .attr("migratable", "on"),
        Some(MAXIMUM) => Element::new("cpu")
            .attr("mode", "maximum")
            .attr("check", "none")
            .attr("migratable", "on"),
        Some(name) => {
            // The translator leaves out what it can't do; with KVM the guest gets the model or does not start.
            let (check, fallback) = if draft.emulated() {
                ("none", "allow")
            } else {
                ("partial", "forbid")
            };
            Element::new("cpu")
                .attr("mode", "custom")
                .attr("match", "exact")
                .attr("check", check)
                .child(Element::with_text("model", name).attr("fallback", fallback))
        }
    };
    let topology = Element::new("topology")
        .attr("sockets", cpu.max_sockets.max(cpu.sockets))
        .attr("cores", cpu.cores)
        .attr("threads", cpu.threads);
    let feature = |policy: &str, name: &str| {
        Element::new("feature")
            .attr("policy", policy)
            .attr("name", name)
    };
    let asked = cpu
        .features
        .iter()
        .map(|f| feature(f.policy.as_str(), &f.name));
    let of_model = hardware
        .cpu_features
        .iter()
        .filter(|(name, _)| cpu.features.iter().all(|asked| asked.name != *name))
        .map(|(name, policy)| feature(policy, name));
    element.child(topology).children(of_model).children(asked)
}
