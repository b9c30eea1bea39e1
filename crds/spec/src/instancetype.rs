//! Instancetypes and preferences: how a machine names them, and the machine with both merged into it.
//!
//! ```text
//!   spec.instancetype ─matcher─▶ by name, or by a volume's labels ─(the shell fetches)─▶ Chosen ─┐
//!   spec.preference   ─matcher─▶            "                                        ─▶ Chosen ─┴─expand─▶ machine without either
//! ```
//!
//! An instancetype says how much: what it sets, the machine may not set too, or the two are in conflict. A preference says what a guest likes:
//! it fills what the machine leaves open. Everything here is pure; the controller, admission, `expand-spec` and `play` fetch the objects.

mod fill;
mod infer;
mod matcher;
mod merge;
mod prefer;
mod requirements;
mod topology;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use catamaran_api::{VirtualMachine, VirtualMachineInstancetypeSpec, VirtualMachinePreferenceSpec};
use serde_json::Value;

use crate::defaults;
use crate::field::{Fault, Faults, FieldErrors, FieldPath};
use crate::read;
use crate::support::{self, Context};

pub use infer::{claim_of, inferred, label_of};
pub use matcher::{Named, Role, Scope, Source, source};

/// An instancetype or preference that a machine names, as it was fetched.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen<S> {
    /// Kind and name.
    pub named: Named,
    /// The spec.
    pub spec: S,
}

impl<S: serde::de::DeserializeOwned> Chosen<S> {
    /// From the object. What it asks for that is not carried out, a machine cannot use.
    ///
    /// # Errors
    /// Fields of the object that are not carried out or not understood, at the path of the matcher.
    pub fn read(named: Named, object: &Value) -> Result<Self, FieldErrors> {
        let mut faults = Faults::default();
        let path = FieldPath::new("spec").child(named.role.field());
        let mut found = Faults::default();
        // Both contexts carry out the same of these kinds; what is left to a context is judged in the merged machine.
        support::fields(
            named.role.table(),
            &object["spec"],
            Context::Cluster,
            &mut found,
        );
        for error in found.0 {
            faults.push(
                &path,
                Fault::Forbidden(format!("{named} cannot be used: {error}")),
            );
        }
        match serde_json::from_value(object["spec"].clone()) {
            Ok(spec) if faults.0.is_empty() => Ok(Self { named, spec }),
            Ok(_) => Err(FieldErrors(faults.0)),
            Err(error) => {
                faults.push(
                    &path,
                    Fault::Forbidden(format!("{named} cannot be used: spec: {error}")),
                );
                Err(FieldErrors(faults.0))
            }
        }
    }
}

/// The instancetype of a machine.
pub type Instancetype = Chosen<VirtualMachineInstancetypeSpec>;
/// The preference of a machine.
pub type Preference = Chosen<VirtualMachinePreferenceSpec>;

/// The machine with both merged into its template, and without either.
///
/// # Errors
/// Every conflict between the template and the instancetype, and every requirement of the preference that the machine does not meet.
pub fn expand(
    vm: &VirtualMachine,
    instancetype: Option<&Instancetype>,
    preference: Option<&Preference>,
) -> Result<VirtualMachine, FieldErrors> {
    let mut faults = Faults::default();
    let mut expanded = vm.clone();
    let spec = &mut expanded.spec;
    (spec.instancetype, spec.preference) = (None, None);
    let template = &mut spec.template;
    let machine = template.spec.get_or_insert_default();
    if instancetype.is_some() || preference.is_some() {
        // A preference is about them, too.
        defaults::add_missing_disks(machine);
    }
    let metadata = template.metadata.get_or_insert_default();
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    if let Some(instancetype) = instancetype {
        forget_ignored_memory(vm, machine);
        let preference = preference.map(|preference| &preference.spec);
        merge::instancetype(&instancetype.spec, preference, machine, &mut faults);
        merge::annotations(
            &instancetype.spec.annotations,
            &mut annotations,
            &mut faults,
        );
    }
    if let Some(preference) = preference {
        requirements::check(&preference.spec, instancetype, machine, &mut faults);
        prefer::preference(&preference.spec, machine);
        for (name, value) in &preference.spec.annotations {
            annotations
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    if *metadata == Default::default() && vm.spec.template.metadata.is_none() {
        template.metadata = None;
    }
    if faults.0.is_empty() {
        Ok(expanded)
    } else {
        Err(FieldErrors(faults.0))
    }
}

/// A machine that would do without an inferred instancetype has memory for that case; as by the peer, an inferred one takes its place.
fn forget_ignored_memory(
    vm: &VirtualMachine,
    machine: &mut catamaran_api::VirtualMachineInstanceSpec,
) {
    let matcher = vm.spec.instancetype.as_ref();
    let ignores = matcher.is_some_and(|matcher| {
        matcher.infer_from_volume.is_some()
            && matcher.infer_from_volume_failure_policy.as_deref() == Some("Ignore")
    });
    if let Some(memory) = machine.domain.memory.as_mut().filter(|_| ignores) {
        memory.guest = None;
    }
}

/// Annotations of an instance that say what it was made from, as by the peer.
#[must_use]
pub fn annotations(
    instancetype: Option<&Named>,
    preference: Option<&Named>,
) -> BTreeMap<String, String> {
    let of = |named: &Named| (named.annotation().to_owned(), named.name.clone());
    instancetype.into_iter().chain(preference).map(of).collect()
}

/// Checks a manifest of one of the four kinds: types and unknown fields. What is not carried out is a warning, since only a machine that uses
/// the object is refused: bundles of instancetypes and preferences can be applied as a whole.
///
/// # Errors
/// Every mistake at once.
pub fn check(manifest: &Value, role: Role) -> Result<Vec<crate::Warning>, FieldErrors> {
    let mut faults = Faults::default();
    let warnings = read::loose(manifest, role, &mut faults);
    if manifest["spec"].is_object() {
        match role {
            Role::Instancetype => merge::check(&manifest["spec"], &mut faults),
            Role::Preference => topology::check(&manifest["spec"]["cpu"], &mut faults),
        }
    }
    if faults.0.is_empty() {
        Ok(warnings)
    } else {
        Err(FieldErrors(faults.0))
    }
}

impl Role {
    /// Rows of the support table.
    fn table(self) -> &'static str {
        match self {
            Self::Instancetype => support::INSTANCETYPE,
            Self::Preference => support::PREFERENCE,
        }
    }
}
