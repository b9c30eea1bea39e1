//! One error type for all calls: libvirt's message, and the few kinds a caller acts on.

use virt::error::{Error as VirtError, ErrorNumber};

/// What kind of failure it was, as far as a caller decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such domain (any more).
    NoDomain,
    /// The operation does not fit the domain's state, e.g. it is not running.
    WrongState,
    /// This libvirt or QEMU cannot do it.
    Unsupported,
    /// The domain XML is wrong.
    BadXml,
    /// The guest agent does not answer or is not connected.
    Agent,
    /// QEMU did not finish in time.
    Timeout,
    /// A file could not be read or written on this side.
    Io,
    /// Anything else.
    Other,
}

/// A call that failed: what was tried, and libvirt's own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {message}")]
pub struct Error {
    /// What was tried, e.g. `start the domain`.
    pub what: &'static str,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// libvirt's message (it often holds QEMU's last words).
    pub message: String,
}

impl Error {
    /// The failure libvirt has recorded for this thread.
    pub(crate) fn last(what: &'static str) -> Self {
        Self::from_virt(what, &VirtError::last_error())
    }

    pub(crate) fn from_virt(what: &'static str, error: &VirtError) -> Self {
        let kind = match error.code() {
            ErrorNumber::NoDomain => ErrorKind::NoDomain,
            ErrorNumber::OperationInvalid => ErrorKind::WrongState,
            ErrorNumber::NoSupport
            | ErrorNumber::ConfigUnsupported
            | ErrorNumber::OperationUnsupported
            | ErrorNumber::ArgumentUnsupported => ErrorKind::Unsupported,
            ErrorNumber::XmlError | ErrorNumber::XmlDetail | ErrorNumber::XmlInvalidSchema => {
                ErrorKind::BadXml
            }
            ErrorNumber::AgentUnresponsive
            | ErrorNumber::AgentUnsynced
            | ErrorNumber::AgentCommandTimeout
            | ErrorNumber::AgentCommandFailed => ErrorKind::Agent,
            ErrorNumber::OperationTimeout => ErrorKind::Timeout,
            _ => ErrorKind::Other,
        };
        Self {
            what,
            kind,
            message: error.message().to_owned(),
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self {
            what,
            kind: ErrorKind::Io,
            message: format!("{}: {error}", path.display()),
        }
    }

    pub(crate) fn other(what: &'static str, message: impl Into<String>) -> Self {
        Self {
            what,
            kind: ErrorKind::Other,
            message: message.into(),
        }
    }
}
