//! What `spec.instancetype` and `spec.preference` name.

use std::fmt;

use catamaran_api::{Matcher, VirtualMachine};

use crate::field::{Fault, Faults, FieldErrors, FieldPath};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `spec.instancetype`.
    Instancetype,
    /// `spec.preference`.
    Preference,
}

/// Where an object lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In the machine's namespace.
    Namespace,
    /// In the whole cluster.
    Cluster,
}

/// Kind and name of an instancetype or preference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// Which of the two.
    pub role: Role,
    /// Where it lives.
    pub scope: Scope,
    /// Name.
    pub name: String,
}

/// How a machine names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// By name.
    Named(Named),
    /// By the labels of the claim behind a volume.
    Volume {
        /// The volume.
        volume: String,
        /// When the claim names none, the machine does without.
        ignore: bool,
    },
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Instancetype, Self::Preference];

    /// Field of a machine's spec.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Instancetype => "instancetype",
            Self::Preference => "preference",
        }
    }

    /// What the machine says.
    #[must_use]
    pub fn matcher(self, vm: &VirtualMachine) -> Option<&Matcher> {
        match self {
            Self::Instancetype => vm.spec.instancetype.as_ref(),
            Self::Preference => vm.spec.preference.as_ref(),
        }
    }

    /// Of an object's kind.
    #[must_use]
    pub fn of_kind(kind: &str) -> Option<(Self, Scope)> {
        let both = [Scope::Namespace, Scope::Cluster];
        let mut all = Self::ALL
            .into_iter()
            .flat_map(|role| both.map(|scope| (role, scope)));
        all.find(|(role, scope)| role.kind(*scope) == kind)
    }

    /// Kind of the objects.
    #[must_use]
    pub fn kind(self, scope: Scope) -> &'static str {
        match (self, scope) {
            (Self::Instancetype, Scope::Namespace) => "VirtualMachineInstancetype",
            (Self::Instancetype, Scope::Cluster) => "VirtualMachineClusterInstancetype",
            (Self::Preference, Scope::Namespace) => "VirtualMachinePreference",
            (Self::Preference, Scope::Cluster) => "VirtualMachineClusterPreference",
        }
    }

    /// The scope that a word for a kind means: kind, singular or plural, in any case. The cluster's by default.
    pub(super) fn scope(self, word: Option<&str>) -> Option<Scope> {
        let Some(word) = word.filter(|word| !word.is_empty()) else {
            return Some(Scope::Cluster);
        };
        let word = word.to_ascii_lowercase();
        let both = [Scope::Namespace, Scope::Cluster];
        both.into_iter().find(|scope| {
            let kind = self.kind(*scope).to_ascii_lowercase();
            word == kind || word.strip_suffix('s') == Some(kind.as_str())
        })
    }
}

impl Named {
    /// Kind of the object.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.role.kind(self.scope)
    }

    /// Name of the list of such objects.
    #[must_use]
    pub fn plural(&self) -> String {
        format!("{}s", self.kind().to_ascii_lowercase())
    }

    /// Annotation of an instance that is made with it.
    pub(super) fn annotation(&self) -> &'static str {
        match (self.role, self.scope) {
            (Role::Instancetype, Scope::Namespace) => "kubevirt.io/instancetype-name",
            (Role::Instancetype, Scope::Cluster) => "kubevirt.io/cluster-instancetype-name",
            (Role::Preference, Scope::Namespace) => "kubevirt.io/preference-name",
            (Role::Preference, Scope::Cluster) => "kubevirt.io/cluster-preference-name",
        }
    }

    /// There is no such object.
    #[must_use]
    pub fn missing(&self) -> FieldErrors {
        let path = FieldPath::new("spec").child(self.role.field());
        let mut faults = Faults::default();
        let words = format!("there is no {} of that name", self.kind());
        faults.invalid(&path.child("name"), &self.name, &words);
        FieldErrors(faults.0)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name)
    }
}

/// What the machine names, or `None` when it names nothing.
///
/// # Errors
/// Every mistake of the matcher, with its path.
pub fn source(vm: &VirtualMachine, role: Role) -> Result<Option<Source>, FieldErrors> {
    let Some(matcher) = role.matcher(vm) else {
        return Ok(None);
    };
    let path = FieldPath::new("spec").child(role.field());
    let mut faults = Faults::default();
    let found = read(matcher, role, &path, &mut faults);
    match found {
        Some(found) if faults.0.is_empty() => Ok(Some(found)),
        _ => Err(FieldErrors(faults.0)),
    }
}

fn read(matcher: &Matcher, role: Role, path: &FieldPath, faults: &mut Faults) -> Option<Source> {
    for name in matcher.unknown.keys() {
        faults.push(&path.child(name), Fault::Unknown(name.clone()));
    }
    let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let (name, volume) = (text(&matcher.name), text(&matcher.infer_from_volume));
    let policies = [("Reject", false), ("Ignore", true)];
    let policy = matcher.infer_from_volume_failure_policy.as_deref();
    let ignore = faults.word(
        &path.child("inferFromVolumeFailurePolicy"),
        policy,
        &policies,
    );
    match (name, volume) {
        (None, None) => {
            faults.required(&path.child("name"), "name or inferFromVolume");
            None
        }
        (name, Some(volume)) => {
            let others = [
                ("name", name.is_some()),
                ("kind", text(&matcher.kind).is_some()),
                ("revisionName", text(&matcher.revision_name).is_some()),
            ];
            for (field, _) in others.into_iter().filter(|(_, given)| *given) {
                faults.push(
                    &path.child(field),
                    Fault::Forbidden("may not be given with inferFromVolume".to_owned()),
                );
            }
            Some(Source::Volume {
                volume,
                ignore: ignore.unwrap_or_default(),
            })
        }
        (Some(name), None) => {
            if policy.is_some() {
                faults.push(
                    &path.child("inferFromVolumeFailurePolicy"),
                    Fault::Forbidden("may be given with inferFromVolume only".to_owned()),
                );
            }
            let Some(scope) = role.scope(matcher.kind.as_deref()) else {
                let kinds = [Scope::Namespace, Scope::Cluster].map(|s| role.kind(s).to_owned());
                let kind = text(&matcher.kind).unwrap_or_default();
                faults.push(&path.child("kind"), Fault::Unsupported(kind, kinds.into()));
                return None;
            };
            Some(Source::Named(Named { role, scope, name }))
        }
    }
}
