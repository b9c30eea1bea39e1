//! Why a machine can't run on a host, in the words of Kubernetes: a field path, the value and what is allowed.

use thiserror::Error;

/// One reason why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {message}")]
pub struct PlanError {
    /// Path of the field, as in a `VirtualMachineInstance`: `spec.domain.cpu.model`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl PlanError {
    /// An error about a field below `spec`.
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same error with the path it has in a `VirtualMachine` (`spec.template.spec.…`).
    #[must_use]
    pub fn in_template(mut self) -> Self {
        if let Some(rest) = self.field.strip_prefix("spec.") {
            self.field = format!("spec.template.spec.{rest}");
        }
        self
    }
}
