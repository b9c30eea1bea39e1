//! Run strategies.

use std::fmt;

use catamaran_api::VirtualMachineSpec;
use serde::{Deserialize, Serialize};

/// When a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RunStrategy {
    /// Always: started again when it ends.
    Always,
    /// Never.
    Halted,
    /// Started and stopped by verbs only.
    Manual,
    /// Started again when it fails, not when it ends well.
    RerunOnFailure,
    /// Started once.
    Once,
}

/// A word that is no run strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run strategy {0:?} is unknown: one of Always, Halted, Manual, RerunOnFailure, Once")]
pub struct UnknownRunStrategy(pub String);

impl RunStrategy {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Always,
        Self::Halted,
        Self::Manual,
        Self::RerunOnFailure,
        Self::Once,
    ];

    /// The strategy of a spec: `runStrategy`, else the deprecated `running`, else `Halted`.
    ///
    /// # Errors
    /// A word that is no run strategy; validation has refused it before.
    pub fn of(spec: &VirtualMachineSpec) -> Result<Self, UnknownRunStrategy> {
        match (&spec.run_strategy, spec.running) {
            (Some(word), _) => Self::parse(word),
            (None, Some(true)) => Ok(Self::Always),
            (None, Some(false) | None) => Ok(Self::Halted),
        }
    }

    /// From the word in a spec or status.
    ///
    /// # Errors
    /// A word that is no run strategy.
    pub fn parse(word: &str) -> Result<Self, UnknownRunStrategy> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == word)
            .ok_or_else(|| UnknownRunStrategy(word.to_owned()))
    }

    /// The word in a spec or status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::Halted => "Halted",
            Self::Manual => "Manual",
            Self::RerunOnFailure => "RerunOnFailure",
            Self::Once => "Once",
        }
    }

    /// Starts without being asked, so that failures are backed off.
    #[must_use]
    pub fn starts_by_itself(self) -> bool {
        matches!(self, Self::Always | Self::RerunOnFailure | Self::Once)
    }

    /// Writes the strategy where the spec has it: in `running` if that field is used, and can say it.
    pub fn write(self, spec: &mut VirtualMachineSpec) {
        match (spec.running, self) {
            (Some(_), Self::Always) => spec.running = Some(true),
            (Some(_), Self::Halted) => spec.running = Some(false),
            _ => {
                spec.running = None;
                spec.run_strategy = Some(self.as_str().to_owned());
            }
        }
    }
}

impl fmt::Display for RunStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use catamaran_api::VirtualMachineSpec;

    use super::RunStrategy;

    #[test]
    fn running_is_an_alias_of_the_run_strategy() {
        let of = |running, word: Option<&str>| {
            RunStrategy::of(&VirtualMachineSpec {
                running,
                run_strategy: word.map(str::to_owned),
                ..Default::default()
            })
        };
        assert_eq!(of(Some(true), None), Ok(RunStrategy::Always));
        assert_eq!(of(Some(false), None), Ok(RunStrategy::Halted));
        assert_eq!(of(None, None), Ok(RunStrategy::Halted));
        assert_eq!(of(None, Some("Manual")), Ok(RunStrategy::Manual));
        assert_eq!(
            of(None, Some("always")).unwrap_err().to_string(),
            "run strategy \"always\" is unknown: one of Always, Halted, Manual, RerunOnFailure, Once"
        );
    }

    #[test]
    fn a_strategy_is_written_into_the_field_that_is_used() {
        let mut old = VirtualMachineSpec {
            running: Some(true),
            ..Default::default()
        };
        RunStrategy::Halted.write(&mut old);
        assert_eq!(
            (old.running, old.run_strategy.as_deref()),
            (Some(false), None)
        );
        RunStrategy::Manual.write(&mut old);
        assert_eq!(
            (old.running, old.run_strategy.as_deref()),
            (None, Some("Manual"))
        );
    }
}
