//! Field paths, field errors and warnings, in the words of Kubernetes.

use std::fmt;

/// Where a value stands in a manifest: `spec.template.spec.domain.devices.disks[1].name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path that begins with that field; may be dotted.
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self(root.to_owned())
    }

    /// The field below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// An element of a list, counted from 0.
    #[must_use]
    pub fn index(&self, at: usize) -> Self {
        Self(format!("{}[{at}]", self.0))
    }

    /// An entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field. The reasons and their words are those of `k8s.io/apimachinery/pkg/util/validation/field`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The field is missing.
    Required(String),
    /// Another entry has the same value already.
    Duplicate(String),
    /// The value cannot be used: (value, what it must be).
    Invalid(String, String),
    /// The value is not one of a fixed set: (value, the set).
    Unsupported(String, Vec<String>),
    /// The field is not carried out here.
    Forbidden(String),
    /// The instancetype of the machine sets the field already.
    Conflict,
    /// No field has this name.
    Unknown(String),
}

/// One mistake and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {fault}")]
pub struct FieldError {
    /// Where.
    pub path: FieldPath,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required(detail) if detail.is_empty() => f.write_str("Required value"),
            Self::Required(detail) => write!(f, "Required value: {detail}"),
            Self::Duplicate(value) => write!(f, "Duplicate value: {value:?}"),
            Self::Invalid(value, detail) => write!(f, "Invalid value: {value:?}: {detail}"),
            Self::Unsupported(value, allowed) => {
                write!(f, "Unsupported value: {value:?}: supported values: ")?;
                for (at, word) in allowed.iter().enumerate() {
                    write!(f, "{}{word:?}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Forbidden(detail) => write!(f, "Forbidden: {detail}"),
            Self::Conflict => f.write_str("VM field conflicts with selected instance type"),
            Self::Unknown(name) => write!(f, "Unknown field: {name:?}"),
        }
    }
}

/// Every mistake of an object; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldErrors(pub Vec<FieldError>);

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

/// A field that is accepted and has no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub path: FieldPath,
    /// Why it has no effect.
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// Collects mistakes, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<FieldError>);

impl Faults {
    pub(crate) fn push(&mut self, path: &FieldPath, fault: Fault) {
        let error = FieldError {
            path: path.clone(),
            fault,
        };
        if !self.0.contains(&error) {
            self.0.push(error);
        }
    }

    pub(crate) fn required(&mut self, path: &FieldPath, detail: &str) {
        self.push(path, Fault::Required(detail.to_owned()));
    }

    pub(crate) fn invalid(&mut self, path: &FieldPath, value: impl fmt::Display, detail: &str) {
        self.push(path, Fault::Invalid(value.to_string(), detail.to_owned()));
    }

    pub(crate) fn duplicate(&mut self, path: &FieldPath, value: impl fmt::Display) {
        self.push(path, Fault::Duplicate(value.to_string()));
    }

    /// Looks a word up; an absent one is `None`, an unknown one a fault and `None`.
    pub(crate) fn word<T: Copy>(
        &mut self,
        path: &FieldPath,
        value: Option<&str>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = words
            .iter()
            .find(|(word, _)| *word == value)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed = words.iter().map(|(word, _)| (*word).to_owned()).collect();
            self.push(path, Fault::Unsupported(value.to_owned(), allowed));
        }
        found
    }
}
