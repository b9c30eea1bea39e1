//! What was found out about a host before anything is decided.

use catamaran_api::metal3::CredentialsStatus;
use catamaran_redfish::{Kind, PowerState};

use crate::data::Data;
use crate::deploy::{Job, Progress};
use crate::firmware::Firmware;

/// Seconds since 1970, or a span of them.
pub type Seconds = i64;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Now.
    pub now: Seconds,
    /// How to log in at the BMC.
    pub login: Login,
    /// What the BMC said.
    pub contact: Contact,
    /// What a deploy agent has to do in the host's state.
    pub job: Option<Job>,
    /// Why that can't be done, if it can't.
    pub refusal: Option<String>,
    /// How far it is.
    pub progress: Progress,
    /// What is to be done about its firmware's settings.
    pub firmware: Firmware,
    /// What it is to be given before it is turned on.
    pub data: Data,
}

/// How to log in at a BMC.
#[derive(Debug, Clone, PartialEq)]
pub enum Login {
    /// The host names no BMC.
    NoBmc,
    /// It can't be tried, and why.
    Unusable(String),
    /// With these.
    Ready(CredentialsStatus),
}

/// What a BMC said.
#[derive(Debug, Clone, PartialEq)]
pub enum Contact {
    /// It was not asked.
    NotAsked,
    /// It answered.
    Answers(Seen),
    /// It did not, or not as it should.
    Failed(Trouble),
}

/// What a BMC shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Power.
    pub power: PowerState,
    /// `OK`, `Warning` or `Critical`.
    pub health: Option<String>,
    /// The system's UUID.
    pub uuid: Option<String>,
}

/// What went wrong with a BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What kind.
    pub kind: Kind,
    /// In words.
    pub message: String,
}

impl Trouble {
    pub(crate) fn of(error: &catamaran_redfish::Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// It is about logging in: another password or certificate helps.
    pub(crate) fn is_access(&self) -> bool {
        matches!(self.kind, Kind::Credentials | Kind::Trust)
    }
}
