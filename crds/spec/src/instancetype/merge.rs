//! What an instancetype sets. The machine may not set the same.

use std::collections::BTreeMap;

use catamaran_api::{
    DomainSpec, Quantity, VirtualMachineInstanceSpec, VirtualMachineInstancetypeSpec,
    VirtualMachinePreferenceSpec,
};
use serde_json::Value;

use super::fill::unset;
use super::topology;
use crate::field::{Fault, Faults, FieldPath};
use crate::quantity;

/// Merges an instancetype into the spec of a machine's template.
pub(super) fn instancetype(
    from: &VirtualMachineInstancetypeSpec,
    preference: Option<&VirtualMachinePreferenceSpec>,
    machine: &mut VirtualMachineInstanceSpec,
    faults: &mut Faults,
) {
    let path = FieldPath::new("spec.template.spec");
    let before = faults.0.len();
    for field in conflicts(from, machine) {
        faults.push(&path.child(field), Fault::Conflict);
    }
    if faults.0.len() > before {
        return;
    }
    cpu(from, preference, &mut machine.domain, faults);
    memory(from, &mut machine.domain);
    let domain = &mut machine.domain;
    unset(
        &mut domain.io_threads_policy,
        from.io_threads_policy.as_ref(),
    );
    unset(&mut domain.io_threads, from.io_threads.as_ref());
    unset(&mut machine.scheduler_name, from.scheduler_name.as_ref());
    machine.node_selector.extend(from.node_selector.clone());
}

/// Fields below the template's spec that both set.
fn conflicts(
    from: &VirtualMachineInstancetypeSpec,
    machine: &VirtualMachineInstanceSpec,
) -> Vec<&'static str> {
    let domain = &machine.domain;
    let cpu = domain.cpu.clone().unwrap_or_default();
    let memory = domain.memory.clone().unwrap_or_default();
    let resources = domain.resources.clone().unwrap_or_default();
    let given = |number: Option<u32>| number.is_some_and(|number| number > 0);
    let both = [
        ("domain.cpu.sockets", given(cpu.sockets)),
        ("domain.cpu.cores", given(cpu.cores)),
        ("domain.cpu.threads", given(cpu.threads)),
        (
            "domain.cpu.maxSockets",
            given(cpu.max_sockets) && from.cpu.max_sockets.is_some(),
        ),
        (
            "domain.cpu.model",
            cpu.model.is_some() && from.cpu.model.is_some(),
        ),
        ("domain.memory.guest", memory.guest.is_some()),
        (
            "domain.memory.hugepages",
            memory.hugepages.is_some() && from.memory.hugepages.is_some(),
        ),
        (
            "domain.memory.maxGuest",
            memory.max_guest.is_some() && from.memory.max_guest.is_some(),
        ),
        (
            "domain.resources.requests.cpu",
            resources.requests.contains_key("cpu"),
        ),
        (
            "domain.resources.requests.memory",
            resources.requests.contains_key("memory"),
        ),
        (
            "domain.resources.limits.cpu",
            resources.limits.contains_key("cpu"),
        ),
        (
            "domain.resources.limits.memory",
            resources.limits.contains_key("memory"),
        ),
        (
            "domain.ioThreadsPolicy",
            domain.io_threads_policy.is_some() && from.io_threads_policy.is_some(),
        ),
        (
            "domain.ioThreads",
            domain.io_threads.is_some() && from.io_threads.is_some(),
        ),
        (
            "nodeSelector",
            !machine.node_selector.is_empty() && !from.node_selector.is_empty(),
        ),
        (
            "schedulerName",
            machine.scheduler_name.is_some() && from.scheduler_name.is_some(),
        ),
    ];
    let found = both.into_iter().filter(|(_, both)| *both);
    found.map(|(field, _)| field).collect()
}

fn cpu(
    from: &VirtualMachineInstancetypeSpec,
    preference: Option<&VirtualMachinePreferenceSpec>,
    domain: &mut DomainSpec,
    faults: &mut Faults,
) {
    let Some(topology) = topology::lay_out(from.cpu.guest, preference, faults) else {
        return;
    };
    let cpu = domain.cpu.get_or_insert_default();
    cpu.sockets = Some(topology.sockets);
    cpu.cores = Some(topology.cores);
    cpu.threads = Some(topology.threads);
    unset(&mut cpu.max_sockets, from.cpu.max_sockets.as_ref());
    unset(&mut cpu.model, from.cpu.model.as_ref());
}

fn memory(from: &VirtualMachineInstancetypeSpec, domain: &mut DomainSpec) {
    let memory = domain.memory.get_or_insert_default();
    memory.guest = Some(from.memory.guest.clone());
    unset(&mut memory.hugepages, from.memory.hugepages.as_ref());
    unset(&mut memory.max_guest, from.memory.max_guest.as_ref());
    let percent = from
        .memory
        .overcommit_percent
        .filter(|p| (1..100).contains(p));
    if let (Some(percent), Some(guest)) = (percent, quantity::units(from.memory.guest.as_str())) {
        let asked = u128::from(guest) * u128::from(100 - percent) / 100;
        let requests = &mut domain.resources.get_or_insert_default().requests;
        requests.insert("memory".to_owned(), Quantity(asked.to_string()));
    }
}

/// Merges annotations; two different values of one are in conflict.
pub(super) fn annotations(
    from: &BTreeMap<String, String>,
    into: &mut BTreeMap<String, String>,
    faults: &mut Faults,
) {
    let path = FieldPath::new("spec.template.metadata.annotations");
    for (name, value) in from {
        let there = into.entry(name.clone()).or_insert_with(|| value.clone());
        if there != value {
            faults.push(&path.key(name), Fault::Conflict);
        }
    }
}

/// Checks the values of an instancetype.
pub(super) fn check(spec: &Value, faults: &mut Faults) {
    let path = FieldPath::new("spec");
    if spec["cpu"]["guest"] == 0 {
        let detail = "must be greater than 0";
        faults.invalid(&path.child("cpu").child("guest"), 0, detail);
    }
    let memory = &spec["memory"];
    let path = path.child("memory");
    for field in ["guest", "maxGuest"] {
        let given = match &memory[field] {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if quantity::units(&given).is_none_or(|bytes| bytes == 0) {
            let detail = "must be a positive quantity, such as 2Gi";
            faults.invalid(&path.child(field), given, detail);
        }
    }
    let percent = memory["overcommitPercent"].as_u64();
    if let Some(percent) = percent.filter(|percent| *percent >= 100) {
        let detail = "must be between 0 and 99, inclusive";
        faults.invalid(&path.child("overcommitPercent"), percent, detail);
    }
}
