//! Phases of an instance and how a domain's end becomes one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Phase of a `VirtualMachineInstance`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not yet seen by anyone.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Made, nothing done yet.
    Pending,
    /// Being prepared.
    Scheduling,
    /// Ready to start on its node.
    Scheduled,
    /// The guest runs.
    Running,
    /// The guest ended well.
    Succeeded,
    /// The guest ended badly, or never came up.
    Failed,
    /// The node does not answer.
    Unknown,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unset,
        Self::Pending,
        Self::Scheduling,
        Self::Scheduled,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Unknown,
    ];

    /// The word in a status; the empty string for [`Phase::Unset`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Pending => "Pending",
            Self::Scheduling => "Scheduling",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// From the word in a status; absent is [`Phase::Unset`], a word that we do not know [`Phase::Unknown`].
    #[must_use]
    pub fn parse(word: Option<&str>) -> Self {
        let word = word.unwrap_or_default();
        Self::ALL
            .into_iter()
            .find(|p| p.as_str() == word)
            .unwrap_or(Self::Unknown)
    }

    /// The run is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// On its way to Running.
    #[must_use]
    pub fn is_starting(self) -> bool {
        matches!(
            self,
            Self::Unset | Self::Pending | Self::Scheduling | Self::Scheduled
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a domain came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainEnd {
    /// The guest powered itself off.
    Shutdown,
    /// Its memory was saved.
    Saved,
    /// It was destroyed.
    Destroyed {
        /// ACPI was on, so that the guest could have been asked.
        acpi: bool,
        /// Seconds that the guest had to power off.
        grace_seconds: u32,
    },
    /// The hypervisor or the guest crashed.
    Crashed,
    /// The guest's kernel panicked.
    Panicked,
    /// It was stopped since its liveness probe failed.
    Unhealthy,
    /// The hypervisor is gone and left no record of a shutdown.
    Vanished,
    /// It never came up.
    NeverStarted,
}

impl DomainEnd {
    /// The final phase.
    #[must_use]
    pub fn phase(self) -> Phase {
        match self {
            Self::Shutdown | Self::Saved => Phase::Succeeded,
            // A guest that could be asked, and had time, and still had to be destroyed was killed.
            Self::Destroyed {
                acpi: true,
                grace_seconds: 1..,
            } => Phase::Failed,
            Self::Destroyed { .. } => Phase::Succeeded,
            Self::Crashed
            | Self::Panicked
            | Self::Unhealthy
            | Self::Vanished
            | Self::NeverStarted => Phase::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DomainEnd, Phase};

    #[test]
    fn each_end_has_its_phase() {
        for (end, phase) in [
            (DomainEnd::Shutdown, Phase::Succeeded),
            (DomainEnd::Saved, Phase::Succeeded),
            (
                DomainEnd::Destroyed {
                    acpi: true,
                    grace_seconds: 30,
                },
                Phase::Failed,
            ),
            (
                DomainEnd::Destroyed {
                    acpi: true,
                    grace_seconds: 0,
                },
                Phase::Succeeded,
            ),
            (
                DomainEnd::Destroyed {
                    acpi: false,
                    grace_seconds: 30,
                },
                Phase::Succeeded,
            ),
            (DomainEnd::Crashed, Phase::Failed),
            (DomainEnd::Panicked, Phase::Failed),
            (DomainEnd::Unhealthy, Phase::Failed),
            (DomainEnd::Vanished, Phase::Failed),
            (DomainEnd::NeverStarted, Phase::Failed),
        ] {
            assert_eq!(end.phase(), phase, "{end:?}");
        }
    }

    #[test]
    fn phases_survive_being_written() {
        for phase in Phase::ALL {
            assert_eq!(Phase::parse(Some(phase.as_str())), phase);
        }
        assert_eq!(Phase::parse(None), Phase::Unset);
        assert_eq!(Phase::parse(Some("WaitingForSync")), Phase::Unknown);
    }
}
