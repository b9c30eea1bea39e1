//! The least that a preference asks of a machine.

use catamaran_api::{VirtualMachineInstanceSpec, VirtualMachinePreferenceSpec};

use super::Instancetype;
use crate::field::{Faults, FieldPath};
use crate::quantity;

/// Architecture of a machine that names none.
const ARCHITECTURE: &str = "amd64";

/// Checks the machine, with its instancetype merged in, against the preference's requirements.
pub(super) fn check(
    preference: &VirtualMachinePreferenceSpec,
    instancetype: Option<&Instancetype>,
    machine: &VirtualMachineInstanceSpec,
    faults: &mut Faults,
) {
    let Some(required) = &preference.requirements else {
        return;
    };
    let template = FieldPath::new("spec.template.spec");
    let (giver, path) = match instancetype {
        Some(_) => ("instance type", FieldPath::new("spec.instancetype")),
        None => ("VM", template.child("domain")),
    };
    let at = |field: &str| match instancetype {
        Some(_) => path.clone(),
        None => path.child(field),
    };
    if let Some(cpu) = &required.cpu {
        let there = vcpus(machine);
        if there < u64::from(cpu.guest) {
            let words = format!(
                "insufficient CPU resources of {there} vCPU provided by {giver}, preference requires {} vCPU",
                cpu.guest
            );
            faults.invalid(&at("cpu"), there, &words);
        }
    }
    if let Some(memory) = &required.memory {
        let there = guest_memory(machine).unwrap_or_else(|| "0".to_owned());
        let least = quantity::units(memory.guest.as_str());
        if quantity::units(&there) < least {
            let words = format!(
                "insufficient Memory resources of {there} provided by {giver}, preference requires {}",
                memory.guest
            );
            faults.invalid(&at("memory"), &there, &words);
        }
    }
    if let Some(architecture) = &required.architecture {
        let there = machine
            .architecture
            .as_deref()
            .or(preference.preferred_architecture.as_deref())
            .unwrap_or(ARCHITECTURE);
        if there != architecture {
            let words = format!(
                "preference requires architecture {architecture} but {there} is being requested"
            );
            faults.invalid(&template.child("architecture"), there, &words);
        }
    }
}

fn vcpus(machine: &VirtualMachineInstanceSpec) -> u64 {
    let cpu = machine.domain.cpu.clone().unwrap_or_default();
    let given = [cpu.sockets, cpu.cores, cpu.threads].map(|number| number.filter(|n| *n > 0));
    if given.iter().any(Option::is_some) {
        let numbers = given.map(|number| u64::from(number.unwrap_or(1)));
        return numbers.into_iter().product();
    }
    resource(machine, "cpu")
        .and_then(|cpu| quantity::units(&cpu))
        .unwrap_or(1)
}

fn guest_memory(machine: &VirtualMachineInstanceSpec) -> Option<String> {
    let memory = machine.domain.memory.as_ref();
    memory
        .and_then(|memory| memory.guest.as_ref())
        .map(ToString::to_string)
        .or_else(|| resource(machine, "memory"))
}

fn resource(machine: &VirtualMachineInstanceSpec, name: &str) -> Option<String> {
    let resources = machine.domain.resources.as_ref()?;
    let found = resources.requests.get(name);
    let found = found.or_else(|| resources.limits.get(name))?;
    Some(found.to_string())
}
