//! `status.printableStatus`: one word for people.

use std::fmt;

use crate::decide::{Action, Decision};
use crate::phase::Phase;
use crate::request::StateChangeRequest;
use crate::view::{VmView, VmiView};

/// The peer's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrintableStatus {
    /// The object is being deleted.
    Terminating,
    /// The run is being ended.
    Stopping,
    /// On its way to another node.
    Migrating,
    /// Running, guest paused.
    Paused,
    /// Running.
    Running,
    /// A claim does not exist.
    ErrorPvcNotFound,
    /// A DataVolume failed.
    DataVolumeError,
    /// No node takes it.
    ErrorUnschedulable,
    /// Disks are being filled.
    Provisioning,
    /// A claim has no volume yet.
    WaitingForVolumeBinding,
    /// An image could not be pulled.
    ErrImagePull,
    /// An image could not be pulled, and is tried again later.
    ImagePullBackOff,
    /// On its way to Running.
    Starting,
    /// Failed runs in a row; the next one waits.
    CrashLoopBackOff,
    /// Does not run.
    Stopped,
    /// Nothing matched.
    Unknown,
}

impl PrintableStatus {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminating => "Terminating",
            Self::Stopping => "Stopping",
            Self::Migrating => "Migrating",
            Self::Paused => "Paused",
            Self::Running => "Running",
            Self::ErrorPvcNotFound => "ErrorPvcNotFound",
            Self::DataVolumeError => "DataVolumeError",
            Self::ErrorUnschedulable => "ErrorUnschedulable",
            Self::Provisioning => "Provisioning",
            Self::WaitingForVolumeBinding => "WaitingForVolumeBinding",
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::Starting => "Starting",
            Self::CrashLoopBackOff => "CrashLoopBackOff",
            Self::Stopped => "Stopped",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for PrintableStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reasons of an image that can't be had.
const IMAGE_FAILURES: [&str; 4] = [
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
];

/// What is wrong with the volumes of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeProblem {
    /// A DataVolume failed.
    Failed,
    /// A DataVolume is being filled.
    Provisioning,
    /// A claim has no volume yet.
    Unbound,
}

/// What the word depends on besides the objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrintableFacts {
    /// An instance is being made.
    pub creating: bool,
    /// The instance has just been asked to go.
    pub deleting: bool,
    /// What is wrong with the volumes.
    pub volumes: Option<VolumeProblem>,
}

impl PrintableFacts {
    /// The facts while a decision is carried out.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        Self {
            creating: matches!(decision.action, Action::Create { .. }),
            deleting: matches!(decision.action, Action::Delete { .. }),
            volumes: None,
        }
    }
}

/// The word: the first line of the peer's table that matches.
#[must_use]
pub fn printable_status(
    vm: &VmView,
    vmi: Option<&VmiView>,
    facts: &PrintableFacts,
) -> PrintableStatus {
    let phase = vmi.map(|v| v.phase);
    let is_final = phase.is_some_and(Phase::is_final);
    let is_running = phase == Some(Phase::Running);
    let paused = vmi.is_some_and(|v| v.paused);
    let sync_failure = vmi.and_then(|v| v.sync_failure.as_deref());
    let start_pending = matches!(vm.requests.first(), Some(StateChangeRequest::Start { .. }));
    let meant_to_run = vm.run_strategy.starts_by_itself() || start_pending;
    let table = [
        (PrintableStatus::Terminating, vm.deleting),
        (
            PrintableStatus::Stopping,
            vmi.is_some_and(|v| !is_final && (v.deleting || facts.deleting)),
        ),
        (PrintableStatus::Migrating, vmi.is_some_and(|v| v.migrating)),
        (PrintableStatus::Paused, is_running && paused),
        (PrintableStatus::Running, is_running),
        (
            PrintableStatus::ErrorPvcNotFound,
            sync_failure == Some("FailedPvcNotFound"),
        ),
        (
            PrintableStatus::DataVolumeError,
            facts.volumes == Some(VolumeProblem::Failed),
        ),
        (
            PrintableStatus::ErrorUnschedulable,
            vmi.is_some_and(|v| v.unschedulable),
        ),
        (
            PrintableStatus::Provisioning,
            facts.volumes == Some(VolumeProblem::Provisioning),
        ),
        (
            PrintableStatus::WaitingForVolumeBinding,
            meant_to_run && facts.volumes == Some(VolumeProblem::Unbound),
        ),
        (
            PrintableStatus::ErrImagePull,
            sync_failure.is_some_and(|reason| IMAGE_FAILURES.contains(&reason)),
        ),
        (
            PrintableStatus::ImagePullBackOff,
            sync_failure == Some("ImagePullBackOff"),
        ),
        (
            PrintableStatus::Starting,
            facts.creating || phase.is_some_and(Phase::is_starting),
        ),
        (
            PrintableStatus::CrashLoopBackOff,
            (vmi.is_none() || is_final)
                && vm.back_off.consecutive > 0
                && vm.run_strategy.starts_by_itself(),
        ),
        (PrintableStatus::Stopped, vmi.is_none() || is_final),
    ];
    table
        .into_iter()
        .find_map(|(word, holds)| holds.then_some(word))
        .unwrap_or(PrintableStatus::Unknown)
}
