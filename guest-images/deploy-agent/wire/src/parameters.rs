//! What a deploy ISO tells the agent, and how a session begins.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::network::NetworkData;
use crate::{VERSION, is_host};

/// The parameters in a host's deploy ISO.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// [`VERSION`]
    pub version: u32,
    /// `https://ADDRESS:PORT`, without a path.
    pub controller: String,
    /// The host's name in paths.
    pub host: String,
    /// Opens one session.
    pub token: String,
    /// PEM certificates of the CA that signed the controller's.
    pub ca: String,
    /// When they were made, seconds since 1970. A server's clock that is behind is set to it, since certificates are not valid before.
    pub issued_at: u64,
    /// The host's network; none: DHCPv4 on every card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkData>,
}

/// Without the token.
impl fmt::Debug for Parameters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Parameters")
            .field("controller", &self.controller)
            .field("host", &self.host)
            .field("issued_at", &self.issued_at)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

/// Parameters that an agent can't work with.
#[derive(Debug, thiserror::Error)]
pub enum ParametersError {
    /// The ISO was never given to a host.
    #[error("the parameters are empty: this ISO was not made for a host")]
    Empty,
    /// Not JSON of the right shape.
    #[error("the parameters can't be read")]
    Json(#[source] serde_json::Error),
    /// One is wrong.
    #[error("parameter {field} is {value:?}; {allowed}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Parameters {
    /// Reads parameters as they stand in an ISO, with spaces behind them.
    ///
    /// # Errors
    /// See [`ParametersError`].
    pub fn parse(text: &str) -> Result<Self, ParametersError> {
        let text = text.trim_matches([' ', '\n', '\0']);
        if text.is_empty() {
            return Err(ParametersError::Empty);
        }
        let parameters: Self = serde_json::from_str(text).map_err(ParametersError::Json)?;
        parameters.check()?;
        Ok(parameters)
    }

    /// Whether an agent can work with them.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), ParametersError> {
        let field = |field, value: &str, allowed| {
            Err(ParametersError::Field {
                field,
                value: value.to_owned(),
                allowed,
            })
        };
        if self.version != VERSION {
            return field("version", &self.version.to_string(), "this agent speaks 1");
        }
        let place = self.controller.strip_prefix("https://").unwrap_or_default();
        if place.is_empty() || place.contains('/') {
            return field(
                "controller",
                &self.controller,
                "https://ADDRESS:PORT is wanted",
            );
        }
        if !is_host(&self.host) {
            return field(
                "host",
                &self.host,
                "letters, digits, '.', '_' and '-' are allowed",
            );
        }
        if self.token.len() < 32 {
            return field("token", "(hidden)", "at least 32 characters are wanted");
        }
        if !self.ca.contains("-----BEGIN CERTIFICATE-----") {
            return field("ca", &self.ca, "a PEM certificate is wanted");
        }
        Ok(())
    }
}

/// Begins a session, or takes it up again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`VERSION`]
    pub version: u32,
    /// The token of the parameters.
    pub token: String,
    /// The key of the session: random, 32 characters at least. The bearer token of all other requests.
    pub session: String,
    /// Version of the agent, for logs.
    pub agent: String,
    /// The kernel's id of this boot, for logs.
    pub boot: String,
}

/// Answer to a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The controller's [`VERSION`].
    pub version: u32,
}
