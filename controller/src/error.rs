//! What can go wrong while objects are reconciled.

pub use catamaran_client::chain;
use catamaran_lifecycle::UnknownRunStrategy;
use kube::core::Status;

/// An error of a reconciliation; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be asked.
    #[error("could not {what}")]
    Api {
        /// What was tried, such as `create pod shop/virt-launcher-web-x2x2x`.
        what: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
    /// A run strategy that nobody knows; admission lets none through.
    #[error("a machine can't be understood")]
    RunStrategy(#[from] UnknownRunStrategy),
    /// An object that is needed is not there.
    #[error("{what}")]
    Missing {
        /// The object, as a sentence.
        what: String,
    },
    /// A machine can't be made of the instancetype and preference that it names.
    #[error("{0}")]
    Instancetype(catamaran_spec::FieldErrors),
    /// An object of somebody else is in the way under a name that is needed.
    #[error("{what} exists already and belongs to somebody else")]
    Taken {
        /// The object.
        what: String,
    },
}

impl Error {
    /// An error of the API server.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api {
            what,
            source: Box::new(source),
        }
    }

    /// The API server's answer, if it gave one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::RunStrategy(_)
            | Self::Missing { .. }
            | Self::Instancetype(_)
            | Self::Taken { .. } => None,
        }
    }

    /// Somebody else has written the object since it was read: look again.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(Status::is_conflict)
    }

    /// An object of that name is there.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        self.status().is_some_and(Status::is_already_exists)
    }

    /// The object is gone.
    #[must_use]
    pub fn not_found(&self) -> bool {
        self.status().is_some_and(Status::is_not_found)
    }

    /// The namespace is being deleted: nothing new can be made in it, and nothing needs to be.
    #[must_use]
    pub fn namespace_ends(&self) -> bool {
        let details = self.status().and_then(|status| status.details.as_ref());
        details.is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating")
        })
    }

    /// The API server has understood and says no, so that trying again at once would not help.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.status()
            .is_some_and(|status| matches!(status.code, 400 | 403 | 409 | 422))
    }

    /// The API server could not be asked, or somebody else has written: nothing is wrong with the machine.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Api { .. }) && (self.is_conflict() || !self.is_refusal())
    }

    /// For people: the API server's own words, else the whole chain.
    #[must_use]
    pub fn words(&self) -> String {
        match self.status() {
            Some(status) if !status.message.is_empty() => status.message.clone(),
            _ => chain(self),
        }
    }
}

impl From<catamaran_instancetypes::Problem> for Error {
    fn from(problem: catamaran_instancetypes::Problem) -> Self {
        use catamaran_instancetypes::Problem;
        match problem {
            Problem::Fields(errors) => Self::Instancetype(errors),
            Problem::Api { what, source } => Self::Api { what, source },
        }
    }
}
