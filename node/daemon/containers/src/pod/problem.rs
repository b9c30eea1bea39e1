//! What is wrong with a manifest, in the words Kubernetes uses: path, kind of error, value, what is allowed.

use std::fmt::{self, Display};

/// One error in one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, as in `spec.containers[0].image`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: "Required value".to_owned(),
        }
    }
    pub(crate) fn duplicate(field: impl Into<String>, value: impl Display) -> Self {
        Self {
            field: field.into(),
            message: format!("Duplicate value: \"{value}\""),
        }
    }
    pub(crate) fn not_found(field: impl Into<String>, value: impl Display) -> Self {
        Self {
            field: field.into(),
            message: format!("Not found: \"{value}\""),
        }
    }
    pub(crate) fn forbidden(field: impl Into<String>, why: impl Display) -> Self {
        Self {
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }
    pub(crate) fn invalid(
        field: impl Into<String>,
        value: impl Display,
        why: impl Display,
    ) -> Self {
        Self {
            field: field.into(),
            message: format!("Invalid value: \"{value}\": {why}"),
        }
    }
    pub(crate) fn unsupported(
        field: impl Into<String>,
        value: impl Display,
        allowed: &[&str],
    ) -> Self {
        let allowed: Vec<_> = allowed.iter().map(|value| format!("\"{value}\"")).collect();
        Self {
            field: field.into(),
            message: format!(
                "Unsupported value: \"{value}\": supported values: {}",
                allowed.join(", ")
            ),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A field that was read and has no effect here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Path of the field.
    pub field: String,
    /// Why it has no effect.
    pub message: String,
}

impl Warning {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: has no effect: {}", self.field, self.message)
    }
}

/// A Pod that cannot run, with everything that is wrong with it. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidPod {
    /// `namespace/name` of the Pod, as far as they are known.
    pub pod: String,
    /// All errors, in the order of the manifest.
    pub problems: Vec<Problem>,
}

impl Display for InvalidPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pod \"{}\" is invalid: ", self.pod)?;
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
