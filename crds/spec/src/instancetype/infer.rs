//! Inference: a volume's claim names the instancetype or preference of the machines that boot from it.

use std::collections::BTreeMap;

use catamaran_api::VirtualMachine;

use super::matcher::{Named, Role};
use crate::field::{Fault, Faults, FieldErrors, FieldPath};

/// Label of a claim that names an instancetype or preference.
#[must_use]
pub fn label_of(role: Role) -> &'static str {
    match role {
        Role::Instancetype => "instancetype.kubevirt.io/default-instancetype",
        Role::Preference => "instancetype.kubevirt.io/default-preference",
    }
}

fn path(role: Role) -> FieldPath {
    FieldPath::new("spec")
        .child(role.field())
        .child("inferFromVolume")
}

fn invalid(role: Role, value: &str, detail: &str) -> FieldErrors {
    let mut faults = Faults::default();
    faults.invalid(&path(role), value, detail);
    FieldErrors(faults.0)
}

/// Name of the claim behind that volume.
///
/// # Errors
/// There is no such volume, or it has no claim.
pub fn claim_of(vm: &VirtualMachine, volume: &str, role: Role) -> Result<String, FieldErrors> {
    let spec = vm.spec.template.spec.as_ref();
    let mut volumes = spec.into_iter().flat_map(|spec| &spec.volumes);
    let Some(found) = volumes.find(|found| found.name == volume) else {
        return Err(invalid(role, volume, "must name a volume of the machine"));
    };
    let of_claim = found.persistent_volume_claim.as_ref();
    let of_data = found.data_volume.as_ref();
    of_claim
        .map(|claim| claim.claim_name.clone())
        .or_else(|| of_data.map(|data| data.name.clone()))
        .ok_or_else(|| {
            invalid(
                role,
                volume,
                "must name a persistentVolumeClaim or dataVolume volume",
            )
        })
}

/// What the labels of a claim name. `None` for the labels: there is no such claim.
///
/// # Errors
/// No claim, no label, or a kind that there is not.
pub fn inferred(
    role: Role,
    volume: &str,
    claim: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Named, FieldErrors> {
    let Some(labels) = labels else {
        let words = format!("there is no PersistentVolumeClaim {claim:?} to infer from");
        return Err(invalid(role, volume, &words));
    };
    let label = label_of(role);
    let Some(name) = labels.get(label).filter(|name| !name.is_empty()) else {
        let words = format!("PersistentVolumeClaim {claim:?} has no label {label}");
        return Err(invalid(role, volume, &words));
    };
    let kind = labels.get(&format!("{label}-kind"));
    match role.scope(kind.map(String::as_str)) {
        Some(scope) => Ok(Named {
            role,
            scope,
            name: name.clone(),
        }),
        None => {
            let kind = kind.map_or("", String::as_str);
            let words = format!(
                "label {label}-kind of PersistentVolumeClaim {claim:?}: {kind:?} is no kind of a {}",
                role.field()
            );
            let mut faults = Faults::default();
            faults.push(&path(role), Fault::Invalid(volume.to_owned(), words));
            Err(FieldErrors(faults.0))
        }
    }
}
