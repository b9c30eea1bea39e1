//! What can go wrong.

use catamaran_deploy_wire::SlotError;

use crate::ledger::LedgerError;

/// A host can't be served.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A host's name that can't stand in a URL.
    #[error("host {0:?}: letters, digits, '.', '_' and '-' are allowed, at most 253")]
    Host(String),
    /// Nobody enrolled it.
    #[error("host {0:?} is not enrolled")]
    Unknown(String),
    /// The ISO.
    #[error("deploy ISO {path}")]
    Template {
        /// Where it is.
        path: String,
        /// Why.
        #[source]
        source: SlotError,
    },
    /// The parameters don't fit into the ISO.
    #[error("the host's parameters")]
    Parameters(#[source] SlotError),
    /// What outlives the process can't be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A file that is to be served.
    #[error("{path} can't be served")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A name of an image that can't stand in a URL.
    #[error("image {0:?}: letters, digits, '.', '_' and '-' are allowed")]
    ImageName(String),
    /// The config drive is too large.
    #[error("the config drive has {size} bytes; {max} are allowed")]
    ConfigDriveSize {
        /// What it has.
        size: u64,
        /// What is allowed.
        max: u64,
    },
    /// The config drive can't be made.
    #[error("the config drive can't be made: {0}")]
    ConfigDrive(String),
    /// Key or certificate.
    #[error("the certificate of the deploy server can't be used")]
    Tls(#[from] rustls::Error),
    /// Key or certificate.
    #[error("the certificate of the deploy server is no PEM")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// Why an agent is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody enrolled the host, or it was forgotten.
    #[error("the host is not enrolled")]
    Unknown,
    /// Another token.
    #[error("the token is wrong: the host was booted from an old ISO")]
    Token,
    /// The token opened a session already.
    #[error(
        "the token was used already: the host was booted twice from one ISO, or somebody has a copy of it"
    )]
    Used,
    /// Another protocol.
    #[error("the agent speaks version {0} of the protocol, 1 is wanted: rebuild the deploy ISO")]
    Version(u32),
    /// A session's key that is too short.
    #[error("the session's key is too short")]
    Key,
    /// Not the session of this host.
    #[error("the session is unknown")]
    Session,
}
