//! What can go wrong with a BMC, in words a person can act on.

use std::time::Duration;

use crate::message::{Message, line};

/// An error of a BMC or of the way to it. `bmc` is its address; `path` the path of the URL.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No connection, or it ended before the answer.
    #[error("{bmc}: {path}: not reachable: {detail}")]
    Unreachable {
        /// Address of the BMC.
        bmc: String,
        /// Path of the URL.
        path: String,
        /// What the system said.
        detail: String,
        /// Whether the request may have reached the BMC nevertheless.
        sent: bool,
    },
    /// The connection stands, but no (complete) answer came in time.
    #[error("{bmc}: {method} {path}: no answer within {} s: the BMC may hang", .after.as_secs_f32())]
    Timeout {
        /// Address of the BMC.
        bmc: String,
        /// Method of the request.
        method: &'static str,
        /// Path of the URL.
        path: String,
        /// How long was waited.
        after: Duration,
    },
    /// Earlier requests failed to reach the BMC, so this one was not sent.
    #[error("{bmc}: not asked, since the last {failures} requests did not reach it; next try in {} s: {last}", .next_try.as_secs())]
    Suspended {
        /// Address of the BMC.
        bmc: String,
        /// Failures one after another.
        failures: u32,
        /// When requests are sent again.
        next_try: Duration,
        /// The last of the failures.
        last: String,
    },
    /// The BMC's certificate is not trusted, or TLS failed otherwise.
    #[error("{bmc}: TLS: {detail}")]
    Tls {
        /// Address of the BMC.
        bmc: String,
        /// What TLS found.
        detail: String,
    },
    /// The BMC does not accept user name and password.
    #[error("{bmc}: {path}: user name or password refused (status {status}{})", said(.messages))]
    Credentials {
        /// Address of the BMC.
        bmc: String,
        /// Path of the URL.
        path: String,
        /// HTTP status: 401 or 403.
        status: u16,
        /// What the BMC said.
        messages: Vec<Message>,
    },
    /// The BMC answered with an error.
    #[error("{bmc}: {method} {path}: status {status}{}", said(.messages))]
    Refused {
        /// Address of the BMC.
        bmc: String,
        /// Method of the request.
        method: &'static str,
        /// Path of the URL.
        path: String,
        /// HTTP status.
        status: u16,
        /// What the BMC said.
        messages: Vec<Message>,
    },
    /// The answer is not what Redfish says it is.
    #[error("{bmc}: {path}: {what}")]
    Unexpected {
        /// Address of the BMC.
        bmc: String,
        /// Path of the URL.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The BMC does not offer what is needed.
    #[error("{bmc}: {path}: the BMC does not offer {what}")]
    Missing {
        /// Address of the BMC.
        bmc: String,
        /// Path of the resource where it was looked for.
        path: String,
        /// What was looked for.
        what: String,
    },
    /// The value is none that the BMC allows.
    #[error("{bmc}: {what} '{value}' is not allowed; allowed: {}", .allowed.join(", "))]
    NotAllowed {
        /// Address of the BMC.
        bmc: String,
        /// What the value is for.
        what: String,
        /// The value.
        value: String,
        /// What the BMC allows.
        allowed: Vec<String>,
    },
    /// A task of the BMC ended badly.
    #[error("{bmc}: {path}: the task ended in state {state}{}", said(.messages))]
    Task {
        /// Address of the BMC.
        bmc: String,
        /// Path of the task.
        path: String,
        /// Its state, such as `Exception`.
        state: String,
        /// What the BMC said.
        messages: Vec<Message>,
    },
    /// The BMC took the order, but what was read back never became what was ordered.
    #[error("{bmc}: {what} is {found} after {} s, not {wanted}", .after.as_secs_f32())]
    NotConfirmed {
        /// Address of the BMC.
        bmc: String,
        /// What was to change.
        what: String,
        /// What it should be.
        wanted: String,
        /// What was read last.
        found: String,
        /// How long was waited.
        after: Duration,
    },
    /// The operation's deadline passed.
    #[error("{bmc}: {what}: not done before the deadline{}", .last.as_ref().map(|last| format!("; last: {last}")).unwrap_or_default())]
    Overdue {
        /// Address of the BMC.
        bmc: String,
        /// What was being done.
        what: String,
        /// What stood in the way last.
        last: Option<String>,
    },
    /// [`crate::Bmc::close`] was called.
    #[error("{bmc}: the connection to this BMC was closed")]
    Closed {
        /// Address of the BMC.
        bmc: String,
    },
    /// Trust settings that can't be used, such as a CA file without a certificate.
    #[error("TLS settings: {0}")]
    Settings(String),
}

/// What kind of trouble an error is: what a controller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// User name or password are wrong: wait until they change.
    Credentials,
    /// The BMC's certificate or the trust settings are wrong: wait until they change.
    Trust,
    /// The BMC does not answer: try again later.
    Unreachable,
    /// The BMC is there, but busy or in between: try again soon.
    Busy,
    /// The BMC can't do this: another way is needed.
    Unsupported,
    /// The BMC refused, failed, or did not do what it was told.
    Refused,
}

impl Error {
    /// What kind of trouble this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Credentials { .. } => Kind::Credentials,
            Self::Tls { .. } | Self::Settings(_) => Kind::Trust,
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Suspended { .. } => {
                Kind::Unreachable
            }
            Self::Refused {
                status: 429 | 502..=504,
                ..
            }
            | Self::Overdue { .. } => Kind::Busy,
            Self::Refused {
                status: 404 | 405 | 501,
                ..
            }
            | Self::Missing { .. }
            | Self::NotAllowed { .. } => Kind::Unsupported,
            Self::Refused { .. }
            | Self::Unexpected { .. }
            | Self::Task { .. }
            | Self::NotConfirmed { .. }
            | Self::Closed { .. } => Kind::Refused,
        }
    }

    /// HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } | Self::Credentials { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the BMC said; nothing where it did not come to that.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        match self {
            Self::Refused { messages, .. }
            | Self::Credentials { messages, .. }
            | Self::Task { messages, .. } => messages,
            _ => &[],
        }
    }

    /// Whether the BMC's words name this: a message's key, or a part of a text.
    pub(crate) fn names(&self, word: &str) -> bool {
        self.messages()
            .iter()
            .any(|message| message.id.contains(word) || message.text.contains(word))
    }
}

fn said(messages: &[Message]) -> String {
    match line(messages) {
        line if line.is_empty() => String::new(),
        line => format!(": {line}"),
    }
}
