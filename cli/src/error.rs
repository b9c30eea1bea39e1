//! What can go wrong, in the words that kubectl's users know.

use std::io;

use catamaran_client::{ForwardError, OutputError, chain};

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// Status code.
        code: u16,
        /// Kubernetes' word, such as `NotFound`.
        reason: String,
        /// For people.
        message: String,
    },
    /// There is no usable kubeconfig.
    #[error("the kubeconfig can't be used")]
    Config(#[from] kube::config::KubeconfigError),
    /// The server was not reached.
    #[error("the request to {server} failed")]
    Request {
        /// Its address.
        server: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The answer broke off.
    #[error("the answer of the server broke off")]
    Body(#[source] Box<kube::Error>),
    /// A request was not made.
    #[error("the request is not understood")]
    Path(#[from] hyper::http::Error),
    /// The answer was not understood.
    #[error("the answer of the server is not understood")]
    Answer(#[from] serde_json::Error),
    /// No stream.
    #[error("the server did not open a stream: {0}")]
    Stream(String),
    /// A port.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// An object can't be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file or the terminal.
    #[error("{what}")]
    Io {
        /// What failed.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// An Ironic can't be read.
    #[error(transparent)]
    Ironic(#[from] crate::host::IronicError),
    /// It did not become what was waited for.
    #[error("{0}")]
    Waited(String),
    /// There is nothing to say anything about.
    #[error("{0}")]
    Nothing(String),
    /// What was typed can't be.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// A failed operation on a file or terminal.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The line on standard error.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Refused {
                reason, message, ..
            } if !reason.is_empty() => format!("Error from server ({reason}): {message}"),
            Self::Refused { message, .. } => format!("Error from server: {message}"),
            other => format!("error: {}", chain(other)),
        }
    }

    /// The server's status code, if it was the server that said no.
    pub(crate) fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn errors_read_like_kubectls() {
        let refused = Error::Refused {
            code: 404,
            reason: "NotFound".to_owned(),
            message: "virtualmachines.kubevirt.io \"a\" not found".to_owned(),
        };
        assert_eq!(
            refused.line(),
            "Error from server (NotFound): virtualmachines.kubevirt.io \"a\" not found"
        );
        let file = Error::io("key.pub")(std::io::Error::other("is a folder"));
        assert_eq!(file.line(), "error: key.pub: is a folder");
    }
}
