//! The states of a host.

use catamaran_api::metal3::BareMetalHost;

use crate::facts::Seconds;
use crate::outcome::ErrorType;

/// A state, by the peer's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was done yet.
    New,
    /// No BMC is given.
    Unmanaged,
    /// The BMC is being reached for the first time.
    Registering,
    /// Its hardware is being looked at.
    Inspecting,
    /// Firmware is being set up.
    Preparing,
    /// It can be used.
    Available,
    /// It is being given an image.
    Provisioning,
    /// It is in use.
    Provisioned,
    /// It is in use, and was set up by something else.
    ExternallyProvisioned,
    /// Its use is being ended.
    Deprovisioning,
    /// It is being turned off, since its object is being deleted.
    PoweringOff,
    /// Its object may go.
    Deleting,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::New,
        Self::Unmanaged,
        Self::Registering,
        Self::Inspecting,
        Self::Preparing,
        Self::Available,
        Self::Provisioning,
        Self::Provisioned,
        Self::ExternallyProvisioned,
        Self::Deprovisioning,
        Self::PoweringOff,
        Self::Deleting,
    ];

    /// The word in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "",
            Self::Unmanaged => "unmanaged",
            Self::Registering => "registering",
            Self::Inspecting => "inspecting",
            Self::Preparing => "preparing",
            Self::Available => "available",
            Self::Provisioning => "provisioning",
            Self::Provisioned => "provisioned",
            Self::ExternallyProvisioned => "externally provisioned",
            Self::Deprovisioning => "deprovisioning",
            Self::PoweringOff => "powering off before delete",
            Self::Deleting => "deleting",
        }
    }

    /// The state of a host. A word that nobody knows is where everything begins; `ready` is the peer's old word for `available`.
    #[must_use]
    pub fn of(host: &BareMetalHost) -> Self {
        let word = host
            .status
            .as_ref()
            .map(|status| status.provisioning.state.as_str());
        let known = Self::ALL
            .into_iter()
            .find(|state| Some(state.as_str()) == word);
        known.unwrap_or(match word {
            Some("ready") => Self::Available,
            _ => Self::New,
        })
    }

    /// The kind of error that a failure in this state is.
    #[must_use]
    pub fn error_type(self) -> ErrorType {
        match self {
            Self::New | Self::Unmanaged | Self::Registering => ErrorType::Registration,
            Self::Inspecting => ErrorType::Inspection,
            Self::Preparing => ErrorType::Preparation,
            Self::Provisioning | Self::Deprovisioning => ErrorType::Provisioning,
            Self::Available
            | Self::Provisioned
            | Self::ExternallyProvisioned
            | Self::PoweringOff
            | Self::Deleting => ErrorType::PowerManagement,
        }
    }

    /// The host was given to somebody.
    #[must_use]
    pub fn in_use(self) -> bool {
        matches!(self, Self::Provisioned | Self::ExternallyProvisioned)
    }

    /// The CD of the host's user may be in its drive, or has to be taken out.
    #[must_use]
    pub fn holds_cd(self) -> bool {
        self.in_use() || matches!(self, Self::Deprovisioning | Self::PoweringOff)
    }

    /// How long a state may last that is not meant to last; a longer one is reported.
    #[must_use]
    pub fn deadline(self) -> Option<Seconds> {
        match self {
            Self::Registering | Self::Preparing | Self::PoweringOff => Some(1800),
            Self::Inspecting | Self::Deprovisioning => Some(3600),
            Self::Provisioning => Some(7200),
            Self::Deleting => Some(300),
            Self::New
            | Self::Unmanaged
            | Self::Available
            | Self::Provisioned
            | Self::ExternallyProvisioned => None,
        }
    }
}
