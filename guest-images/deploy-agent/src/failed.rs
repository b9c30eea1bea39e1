//! How a command fails.

use catamaran_deploy_wire::{Failure, Reason};

use crate::text::chain;

/// A command's failure, as it is told to the controller.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Failed {
    /// A failure in these words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// A failure with an error behind it, whose causes are all named.
    pub fn because(reason: Reason, what: &str, error: &dyn std::error::Error) -> Self {
        Self::new(reason, format!("{what}: {}", chain(error)))
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        Self {
            reason: failed.reason,
            message: failed.message,
        }
    }
}
