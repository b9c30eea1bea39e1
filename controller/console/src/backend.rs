//! What the console needs of whatever stands behind it.

use std::fmt;
use std::future::Future;

use axum::body::Body;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::kind::Kind;
use crate::words::{HostQuestion, Keyboard, Look, Question, Verb};

/// Who has logged in, as the backend names him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// A name that can stand in a path: letters, digits, `-` and `.`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// Why the backend did not do it, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status. 401 ends the session.
    pub status: u16,
    /// What the server said.
    pub message: String,
    /// The fields that it said it of, where it named some.
    pub causes: Vec<Cause>,
}

impl Failure {
    /// A failure with its words.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            causes: Vec::new(),
        }
    }
}

/// A collection, or an object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Kind of the objects.
    pub kind: &'static Kind,
    /// Namespace; none for all of them, and for kinds without.
    pub namespace: Option<Name>,
    /// Name of one object.
    pub name: Option<Name>,
}

/// A right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// `get`, `list`, …
    pub verb: &'a str,
    /// API group; empty for the core.
    pub group: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Empty for the resource itself.
    pub subresource: &'a str,
    /// None: in all namespaces.
    pub namespace: Option<&'a Name>,
    /// None: to all objects.
    pub name: Option<&'a Name>,
}

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// What stands behind the console. Everything but a login is done with the rights of the caller whom a login returned.
pub trait Backend: Send + Sync + 'static {
    /// The means to act as one user.
    type Caller: Clone + Send + Sync + 'static;

    /// Checks a token. Fails with 401 if it names nobody.
    fn login(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<(Self::Caller, User), Failure>> + Send;

    /// The caller of a token that a login has accepted before.
    ///
    /// # Errors
    /// When nothing can be asked with it.
    fn resume(&self, token: &str) -> Result<Self::Caller, Failure>;

    /// Whether the caller has a right.
    fn may(
        &self,
        caller: &Self::Caller,
        access: Access<'_>,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// A Kubernetes list as JSON, of one namespace or all.
    fn list(
        &self,
        caller: &Self::Caller,
        place: &Place,
    ) -> impl Future<Output = Result<Body, Failure>> + Send;

    /// Kubernetes watch events as lines of JSON, from a resource version on.
    fn watch(
        &self,
        caller: &Self::Caller,
        place: &Place,
        version: u64,
    ) -> impl Future<Output = Result<Body, Failure>> + Send;

    /// One object.
    fn get(
        &self,
        caller: &Self::Caller,
        place: &Place,
    ) -> impl Future<Output = Result<Value, Failure>> + Send;

    /// Makes an object, or tries to: gives it as the server has completed it.
    fn create(
        &self,
        caller: &Self::Caller,
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> impl Future<Output = Result<Value, Failure>> + Send;

    /// Writes an object anew, or tries to.
    fn replace(
        &self,
        caller: &Self::Caller,
        place: &Place,
        object: Bytes,
        dry_run: bool,
    ) -> impl Future<Output = Result<Value, Failure>> + Send;

    /// Applies a JSON merge patch.
    fn patch(
        &self,
        caller: &Self::Caller,
        place: &Place,
        patch: &Value,
    ) -> impl Future<Output = Result<Value, Failure>> + Send;

    /// Deletes an object.
    fn delete(
        &self,
        caller: &Self::Caller,
        place: &Place,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Does something to a machine. `grace`: seconds until the plug is pulled.
    fn act(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        name: &Name,
        verb: Verb,
        grace: Option<u32>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Asks a running machine.
    fn ask(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        name: &Name,
        question: Question,
    ) -> impl Future<Output = Result<Body, Failure>> + Send;

    /// Asks a server's BMC. Where there are no servers that is said.
    fn ask_host(
        &self,
        _caller: &Self::Caller,
        _namespace: &Name,
        _name: &Name,
        _question: HostQuestion,
    ) -> impl Future<Output = Result<Body, Failure>> + Send {
        std::future::ready(Err(Failure::new(404, "there are no servers here")))
    }

    /// Says something of a viewer, who may be gone, and the keyboard.
    fn hand(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        name: &Name,
        viewer: &str,
        keyboard: Keyboard,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The launcher pods of a node.
    fn pods_of(
        &self,
        caller: &Self::Caller,
        node: &Name,
    ) -> impl Future<Output = Result<Vec<Value>, Failure>> + Send;

    /// Asks for the eviction of a pod.
    fn evict(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        pod: &Name,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Opens a stream of a running machine.
    fn stream(
        &self,
        caller: &Self::Caller,
        namespace: &Name,
        name: &Name,
        look: &Look,
    ) -> impl Future<Output = Result<Box<dyn Duplex>, Failure>> + Send;
}
