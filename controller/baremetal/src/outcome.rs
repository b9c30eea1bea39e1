//! What is decided about a host.

use catamaran_redfish::BootDevice;

use crate::facts::Seconds;
use crate::firmware::SettingsChange;
use crate::state::State;

/// What is to be done, in order, and what it comes to when all of it succeeds. When something fails, the state stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is to be done.
    pub actions: Vec<Action>,
    /// What it comes to.
    pub outcome: Outcome,
}

/// What a step comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Something has to happen first.
    Wait {
        /// One word for programs.
        reason: &'static str,
        /// What is waited for, for people.
        message: String,
        /// When to look again.
        again: Seconds,
    },
    /// The host is in another state.
    Transition {
        /// In that.
        to: State,
    },
    /// All is as it should be.
    Done {
        /// When to look again; none: when something changes.
        again: Option<Seconds>,
    },
    /// It can't be done now; tried again with growing pauses.
    Failed(Failure),
}

/// What can't be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error.
    pub error_type: ErrorType,
    /// In words that a person can act on.
    pub message: String,
}

/// Kinds of errors, by the peer's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The BMC can't be reached or logged in to.
    Registration,
    /// The same, with a host that is in use.
    ProvisionedRegistration,
    /// The hardware can't be looked at.
    Inspection,
    /// Firmware can't be set up.
    Preparation,
    /// An image can't be given, or taken away.
    Provisioning,
    /// Power can't be read or changed.
    PowerManagement,
}

impl ErrorType {
    /// The word in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "registration error",
            Self::ProvisionedRegistration => "provisioned registration error",
            Self::Inspection => "inspection error",
            Self::Preparation => "preparation error",
            Self::Provisioning => "provisioning error",
            Self::PowerManagement => "power management error",
        }
    }

    /// The reason of the event.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::Registration => "RegistrationError",
            Self::ProvisionedRegistration => "ProvisionedRegistrationError",
            Self::Inspection => "InspectionError",
            Self::Preparation => "PreparationError",
            Self::Provisioning => "ProvisioningError",
            Self::PowerManagement => "PowerManagementError",
        }
    }
}

/// How a host is turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// The system is asked; one that does not listen is cut off.
    Soft,
    /// It is cut off.
    Hard,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read the hardware, and keep what was found.
    Inspect,
    /// Keep the inventory that an annotation has.
    AdoptInventory,
    /// Turn it on and read that back.
    PowerOn,
    /// Turn it off and read that back.
    PowerOff(Off),
    /// Show it this CD.
    InsertCd(String),
    /// Take its CD away.
    EjectCd,
    /// Show it the CD of its `DataImage`.
    AttachData(String),
    /// Take the CD of its `DataImage` away.
    DetachData,
    /// Boot from the CD next time.
    BootCdOnce,
    /// Boot from what a person wants next time.
    BootOnce(BootDevice),
    /// Tell why what a person wants to boot from is not booted from, and forget it.
    RefuseBootOnce(String),
    /// Boot as the firmware is set.
    ClearBoot,
    /// Boot what is signed only, or not.
    SecureBoot(bool),
    /// Order settings of the firmware.
    OrderFirmware(SettingsChange),
    /// Keep that the host was started with them.
    NoteFirmware(SettingsChange),
    /// Begin the state's job: show the host the CD of its deploy agent.
    Deploy,
    /// Keep what the deploy agent has told of the hardware.
    TakeInventory,
    /// Keep which disk the deploy agent has written to.
    NoteDisk,
    /// Take an annotation away.
    DropAnnotation(String),
    /// Take the finalizer away and end the session.
    Release,
}

impl Step {
    pub(crate) fn to(state: State) -> Self {
        Self::after(Vec::new(), state)
    }

    pub(crate) fn after(actions: Vec<Action>, to: State) -> Self {
        Self {
            actions,
            outcome: Outcome::Transition { to },
        }
    }

    pub(crate) fn done(again: Option<Seconds>) -> Self {
        Self {
            actions: Vec::new(),
            outcome: Outcome::Done { again },
        }
    }

    pub(crate) fn wait(reason: &'static str, message: impl Into<String>, again: Seconds) -> Self {
        Self {
            actions: Vec::new(),
            outcome: Outcome::Wait {
                reason,
                message: message.into(),
                again,
            },
        }
    }

    pub(crate) fn failed(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            actions: Vec::new(),
            outcome: Outcome::Failed(Failure {
                error_type,
                message: message.into(),
            }),
        }
    }
}
