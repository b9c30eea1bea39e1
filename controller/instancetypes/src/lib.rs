//! The instancetypes and preferences that machines name: found in the cluster, and kept as they were in `ControllerRevision`s.
//!
//! ```text
//!   matcher ─┬─ revisionName, or the status says where it is kept ─▶ ControllerRevision ─┐
//!            ├─ name ────────────────────────────────────────────▶ object ───────────────┼─▶ Resolved ─expanded─▶ machine without either
//!            └─ inferFromVolume ─▶ claim's labels ─▶ name ───────▶ object ───────────────┘
//! ```
//!
//! The controller pins what it finds; admission and `expand-spec` only look. What the objects mean is decided by
//! [`catamaran_spec::instancetype`]; nothing is decided here.

mod find;
mod revision;
#[cfg(test)]
mod tests;

use catamaran_api::{InstancetypeStatusRef, VirtualMachine};
use catamaran_spec::FieldErrors;
use catamaran_spec::instancetype::{self, Chosen, Named, Role};
use serde_json::Value;

pub use find::{Kept, expanded, resolve};
pub use revision::{LABEL, revision};

/// Why a machine cannot be made of what it names.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The machine, or an object that it names, is not as it must be.
    #[error("{0}")]
    Fields(FieldErrors),
    /// The API server could not be asked.
    #[error("could not {what}")]
    Api {
        /// What was tried.
        what: String,
        /// Why not.
        source: Box<kube::Error>,
    },
}

impl From<FieldErrors> for Problem {
    fn from(errors: FieldErrors) -> Self {
        Self::Fields(errors)
    }
}

/// An object that a machine names.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Kind and name.
    pub named: Named,
    /// The object.
    pub object: Value,
    /// The `ControllerRevision` that it was read from, if it is kept already.
    pub revision: Option<String>,
    /// The volume that it was inferred from, and what was to happen without.
    pub inferred: Option<(String, Option<String>)>,
}

impl Found {
    /// What the machine's status says about it, kept in that revision.
    #[must_use]
    pub fn reference(&self, revision: &str) -> InstancetypeStatusRef {
        let (volume, policy) = self.inferred.clone().unzip();
        InstancetypeStatusRef {
            controller_revision_ref: Some(catamaran_api::ControllerRevisionRef {
                name: Some(revision.to_owned()),
            }),
            infer_from_volume: volume,
            infer_from_volume_failure_policy: policy.flatten(),
            kind: Some(self.named.kind().to_owned()),
            name: Some(self.named.name.clone()),
        }
    }
}

/// What a machine names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// Its instancetype.
    pub instancetype: Option<Found>,
    /// Its preference.
    pub preference: Option<Found>,
}

impl Resolved {
    /// The one of that role.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&Found> {
        match role {
            Role::Instancetype => self.instancetype.as_ref(),
            Role::Preference => self.preference.as_ref(),
        }
    }

    /// The machine with both merged into its template.
    ///
    /// # Errors
    /// Every conflict, and everything in the objects that is not carried out.
    pub fn expanded(&self, vm: &VirtualMachine) -> Result<VirtualMachine, FieldErrors> {
        let instancetype = read(self.instancetype.as_ref());
        let preference = read(self.preference.as_ref());
        let (instancetype, preference) = match (instancetype, preference) {
            (Ok(instancetype), Ok(preference)) => (instancetype, preference),
            (Err(mut one), Err(other)) => {
                one.0.extend(other.0);
                return Err(one);
            }
            (Err(errors), _) | (_, Err(errors)) => return Err(errors),
        };
        instancetype::expand(vm, instancetype.as_ref(), preference.as_ref())
    }
}

fn read<S: serde::de::DeserializeOwned>(
    found: Option<&Found>,
) -> Result<Option<Chosen<S>>, FieldErrors> {
    found
        .map(|found| Chosen::read(found.named.clone(), &found.object))
        .transpose()
}

/// Whether the machine names anything.
#[must_use]
pub fn names_any(vm: &VirtualMachine) -> bool {
    Role::ALL.iter().any(|role| role.matcher(vm).is_some())
}
