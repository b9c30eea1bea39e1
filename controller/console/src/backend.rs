//! What the console needs of whatever stands behind it.

use std::fmt;
use std::future::Future;

use axum::body::Body;
use serde::Serialize;

/// Who has logged in, as the backend names him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// What is listed and watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `VirtualMachine`.
    Machines,
    /// `VirtualMachineInstance`.
    Instances,
}

impl Kind {
    /// By the plural name of the resource.
    #[must_use]
    pub fn parse(plural: &str) -> Option<Self> {
        [Self::Machines, Self::Instances]
            .into_iter()
            .find(|kind| kind.plural() == plural)
    }

    /// The plural name of the resource.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Machines => "virtualmachines",
            Self::Instances => "virtualmachineinstances",
        }
    }
}

/// What can be done to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it.
    Start,
    /// Shut it down.
    Stop,
    /// Shut it down and start it.
    Restart,
}

impl Verb {
    /// By the name of the subresource.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Start, Self::Stop, Self::Restart]
            .into_iter()
            .find(|verb| verb.word() == word)
    }

    /// The name of the subresource.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// A name that can stand in a path: letters, digits, `-` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Takes a name of an object or a namespace.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let fits = text.len() <= 253
            && text.starts_with(plain)
            && text.chars().all(|c| plain(c) || c == '-' || c == '.');
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the backend did not do it, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status. 401 ends the session.
    pub status: u16,
    /// What the server said.
    pub message: String,
}

impl Failure {
    /// A failure with its words.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// What stands behind the console. Everything but [`Backend::login`] is done with the rights of the caller whom a login returned.
pub trait Backend: Send + Sync + 'static {
    /// The means to act as one user.
    type Caller: Clone + Send + Sync + 'static;

    /// Checks a token. Fails with 401 if it names nobody.
    fn login(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<(Self::Caller, User), Failure>> + Send;

    /// A Kubernetes list as JSON, of one namespace or all.
    fn list(
        &self,
        caller: &Self::Caller,
        kind: Kind,
        namespace: Option<&Name>,
    ) -> impl Future<Output = Result<Body, Failure>> + Send;

    /// Kubernetes watch events as lines of JSON, from a resource version on.
    fn watch(
        &self,
        caller: &Self::Caller,
        kind: Kind,
        namespace: Option<&Name>,
        version: u64,
    ) -> impl Future<Output = Result<Body, Failure>> + Send;

    /// Does something to a machine.
    fn act(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        name: &Name,
        verb: Verb,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
