//! Instancetypes and preferences: parts of the machines that are applied together with them.
//!
//! They are merged into the machines and not stored: a machine is what it was when it was applied, as on Kubernetes, where a revision keeps what
//! it was made with.

use catamaran_api::VirtualMachine;
use catamaran_spec::FieldErrors;
use catamaran_spec::instancetype::{
    Chosen, Named, Role, Scope, Source, annotations, check, expand, source,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Their version.
const VERSION: &str = "instancetype.kubevirt.io/v1beta1";

/// The parts among the objects that are applied.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Value>);

impl Parts {
    /// Takes an object that is one.
    ///
    /// # Errors
    /// The object, when it is none.
    pub(super) fn take(&mut self, object: Value) -> Result<(), Box<Value>> {
        let kind = object["kind"].as_str().unwrap_or_default();
        if object["apiVersion"] == VERSION && Role::of_kind(kind).is_some() {
            self.0.push(object);
            Ok(())
        } else {
            Err(Box::new(object))
        }
    }

    /// Takes those of another text.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Everything that is wrong with them, with their kinds and names.
    pub(super) fn problems(&self) -> Vec<String> {
        let wrong = self.0.iter().filter_map(|object| {
            let (role, scope) = Role::of_kind(object["kind"].as_str()?)?;
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let named = Named {
                role,
                scope,
                name: name.to_owned(),
            };
            let errors = check(object, role).err()?;
            Some(
                errors
                    .0
                    .into_iter()
                    .map(move |error| format!("{named}: {error}")),
            )
        });
        wrong.flatten().collect()
    }

    /// Said when no machine is there to be merged with.
    pub(super) fn alone(&self) -> Option<String> {
        let first = self.0.first()?;
        Some(format!(
            "{} {}: is a part of machines that are applied together with it, in the same file or command; there is none here",
            first["kind"].as_str().unwrap_or_default(),
            first["metadata"]["name"].as_str().unwrap_or_default()
        ))
    }

    /// Merges what a machine names into it. One that names nothing, or in a way that is not carried out here, is left as it is.
    pub(super) fn merge(&self, object: &mut Value) -> Result<(), Vec<String>> {
        let Ok(mut vm) = serde_json::from_value::<VirtualMachine>(object.clone()) else {
            return Ok(());
        };
        let mut faults = Vec::new();
        let mut named = |role: Role| match source(&vm, role) {
            Ok(Some(Source::Named(named))) => Some(named),
            Ok(_) => None,
            Err(errors) => {
                faults.extend(errors.0);
                None
            }
        };
        let (instancetype, preference) = (named(Role::Instancetype), named(Role::Preference));
        let mut elsewhere = Role::ALL.iter().filter_map(|role| role.matcher(&vm));
        if elsewhere.any(|m| m.revision_name.is_some() || m.infer_from_volume.is_some())
            || instancetype.is_none() && preference.is_none() && faults.is_empty()
        {
            return Ok(());
        }
        let namespace = vm.metadata.namespace.clone().unwrap_or_default();
        let first = collect(self.find(instancetype.as_ref(), &namespace), &mut faults);
        let second = collect(self.find(preference.as_ref(), &namespace), &mut faults);
        if faults.is_empty() {
            match expand(&vm, first.as_ref(), second.as_ref()) {
                Ok(expanded) => vm.spec = expanded.spec,
                Err(errors) => faults.extend(errors.0),
            }
        }
        if !faults.is_empty() {
            return Err(faults.iter().map(ToString::to_string).collect());
        }
        let notes = annotations(instancetype.as_ref(), preference.as_ref());
        let metadata = vm.spec.template.metadata.get_or_insert_default();
        metadata.annotations.get_or_insert_default().extend(notes);
        object["spec"] =
            serde_json::to_value(&vm.spec).map_err(|error| vec![format!("spec: {error}")])?;
        Ok(())
    }

    fn find<S: DeserializeOwned>(
        &self,
        named: Option<&Named>,
        namespace: &str,
    ) -> Result<Option<Chosen<S>>, FieldErrors> {
        let Some(named) = named else {
            return Ok(None);
        };
        let found = self.0.iter().find(|object| {
            let metadata = &object["metadata"];
            object["kind"] == named.kind()
                && metadata["name"] == named.name.as_str()
                && (named.scope == Scope::Cluster
                    || metadata["namespace"].as_str().unwrap_or("default") == namespace)
        });
        let found = found.ok_or_else(|| named.missing())?;
        Chosen::read(named.clone(), found).map(Some)
    }
}

fn collect<T>(
    found: Result<Option<T>, FieldErrors>,
    faults: &mut Vec<catamaran_spec::FieldError>,
) -> Option<T> {
    found.unwrap_or_else(|errors| {
        faults.extend(errors.0);
        None
    })
}
