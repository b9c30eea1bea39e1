//! Requests to the controller.

use std::time::Duration;

use bytes::Bytes;
use catamaran_deploy_wire::{
    Command, Directive, Hello, Inventory, Outcome, POLL_SECONDS, Parameters, Progress, VERSION,
    Welcome, base,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::text::chain;
use crate::tls::{self, TlsError};

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The controller does not know this session: begin one.
    #[error("the controller does not know this session")]
    Session,
    /// The token opens nothing.
    #[error("the controller refuses the token: {0}; the host has to be booted from a new ISO")]
    Token(String),
    /// Another answer than is wanted.
    #[error("{what}: the controller answers {status}: {said}")]
    Status {
        /// The request.
        what: &'static str,
        /// Status code.
        status: u16,
        /// The beginning of the answer.
        said: String,
    },
    /// No answer.
    #[error("{what}: {said}")]
    Transport {
        /// The request.
        what: &'static str,
        /// Why, with causes.
        said: String,
    },
}

/// For a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks to the controller for one host.
#[derive(Clone, Debug)]
pub struct Controller {
    http: Client,
    base: String,
    session: String,
}

impl Controller {
    /// Prepares requests; nothing is sent.
    ///
    /// # Errors
    /// The CA is no CA.
    pub fn new(parameters: &Parameters, session: String) -> Result<Self, TlsError> {
        Ok(Self {
            http: tls::client(&[&parameters.ca], false)?,
            base: format!("{}{}", parameters.controller, base(&parameters.host)),
            session,
        })
    }

    /// Begins the session, or takes it up again.
    ///
    /// # Errors
    /// [`ClientError::Token`] when the token is used up or wrong.
    pub async fn hello(&self, token: &str, boot: &str) -> Result<Welcome, ClientError> {
        let hello = Hello {
            version: VERSION,
            token: token.to_owned(),
            session: self.session.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            boot: boot.to_owned(),
        };
        let what = "POST session";
        let request = self.http.post(format!("{}/session", self.base));
        match send(what, request.json_body(&hello)).await {
            Err(ClientError::Status {
                status: 401 | 403,
                said,
                ..
            }) => Err(ClientError::Token(said)),
            answer => json(what, answer?).await,
        }
    }

    /// Tells the hardware.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn inventory(&self, inventory: &Inventory) -> Result<(), ClientError> {
        self.post("POST inventory", "inventory", inventory)
            .await
            .map(drop)
    }

    /// Waits for a command with another id than `after`; none when there was nothing for a while.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn command(&self, after: u64) -> Result<Option<Command>, ClientError> {
        let what = "GET command";
        let request = self
            .http
            .get(format!("{}/command?after={after}", self.base))
            .bearer_auth(&self.session)
            .timeout(TIMEOUT + Duration::from_secs(POLL_SECONDS));
        let answer = send(what, request).await?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        json(what, answer).await.map(Some)
    }

    /// Tells how far a command is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn progress(&self, progress: &Progress) -> Result<Directive, ClientError> {
        let what = "POST progress";
        json(what, self.post(what, "progress", progress).await?).await
    }

    /// Tells how a command ended.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn outcome(&self, outcome: &Outcome) -> Result<(), ClientError> {
        self.post("POST outcome", "outcome", outcome)
            .await
            .map(drop)
    }

    /// The config drive of a command.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn config_drive(&self, command: u64) -> Result<Bytes, ClientError> {
        let what = "GET config-drive";
        let request = self
            .http
            .get(format!("{}/config-drive/{command}", self.base))
            .bearer_auth(&self.session);
        send(what, request)
            .await?
            .bytes()
            .await
            .map_err(|error| transport(what, &error))
    }

    async fn post(
        &self,
        what: &'static str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response, ClientError> {
        let request = self
            .http
            .post(format!("{}/{path}", self.base))
            .bearer_auth(&self.session)
            .timeout(TIMEOUT);
        send(what, request.json_body(body)).await
    }
}

/// reqwest's own is behind a feature that the product does not take.
trait JsonBody {
    fn json_body(self, body: &impl Serialize) -> Self;
}

impl JsonBody for RequestBuilder {
    fn json_body(self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("messages have no maps with odd keys");
        self.header("content-type", "application/json").body(bytes)
    }
}

async fn send(what: &'static str, request: RequestBuilder) -> Result<Response, ClientError> {
    let answer = request
        .send()
        .await
        .map_err(|error| transport(what, &error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::UNAUTHORIZED && what != "POST session" {
        return Err(ClientError::Session);
    }
    let said = answer.text().await.unwrap_or_default();
    Err(ClientError::Status {
        what,
        status: status.as_u16(),
        said: said.trim().chars().take(300).collect(),
    })
}

async fn json<T: DeserializeOwned>(what: &'static str, answer: Response) -> Result<T, ClientError> {
    let bytes = answer
        .bytes()
        .await
        .map_err(|error| transport(what, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| transport(what, &error))
}

fn transport(what: &'static str, error: &dyn std::error::Error) -> ClientError {
    ClientError::Transport {
        what,
        said: chain(error),
    }
}
