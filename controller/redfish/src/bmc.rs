//! One BMC: what all its users share, and the handle they hold.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::address::Address;
use crate::breaker::Breaker;
use crate::discovery::Discovered;
use crate::error::Error;
use crate::gate::{Gate, Lane};
use crate::limits::Limits;
use crate::quirks::QuirkTable;
use crate::session::{Session, Way};
use crate::tls::Trust;
use crate::wire::{Authorization, Connector, Manner, Request, exchange};

/// User name and password of a BMC. Neither is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

/// Everything needed to talk to one BMC.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where it is, and which of its systems is meant.
    pub address: Address,
    /// User name and password.
    pub credentials: Credentials,
    /// Which certificate is accepted.
    pub trust: Trust,
    /// Time limits and numbers of tries.
    pub limits: Limits,
    /// What is peculiar to which vendor.
    pub quirks: Arc<QuirkTable>,
}

impl Endpoint {
    /// An endpoint with public trust, usual limits and the built-in quirks.
    #[must_use]
    pub fn new(address: Address, credentials: Credentials) -> Self {
        Self {
            address,
            credentials,
            trust: Trust::default(),
            limits: Limits::default(),
            quirks: QuirkTable::builtin(),
        }
    }
}

/// A BMC and the one system behind it that is meant. Cloning is cheap; clones share session, queue and what was found out.
///
/// Call [`Bmc::close`] when done with it: sessions that are not deleted fill a BMC's small table.
#[derive(Clone)]
pub struct Bmc {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lane: Lane,
    deadline: Option<Instant>,
    /// Bytes that may still be read, for those who only look.
    reading: Option<Arc<AtomicUsize>>,
}

pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    /// The address without a system: the BMC's name in messages.
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) gate: Gate,
    session: Mutex<Session>,
    breaker: Mutex<Breaker>,
    pub(crate) discovered: Mutex<Option<Arc<Discovered>>>,
    requests: AtomicU64,
    /// Log-ins under way, and those that ended.
    logins: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Bmc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bmc({})", self.shared.name)
    }
}

impl Bmc {
    /// A BMC that nothing was asked of yet.
    ///
    /// # Errors
    /// [`Error::Settings`] when the trust settings can't be used.
    pub fn new(connector: &Connector, endpoint: Endpoint) -> Result<Self, Error> {
        let client = connector.client(&endpoint.trust, endpoint.limits.connect)?;
        let name = endpoint
            .address
            .base
            .as_str()
            .trim_end_matches('/')
            .to_owned();
        Ok(Self {
            shared: Arc::new(Shared {
                endpoint,
                name,
                client,
                gate: Gate::new(),
                session: Mutex::default(),
                breaker: Mutex::default(),
                discovered: Mutex::default(),
                requests: AtomicU64::new(0),
                logins: Mutex::default(),
            }),
            lane: Lane::Normal,
            deadline: None,
            reading: None,
        })
    }

    /// The same BMC, asked before all others: a read of theirs under way is broken off, and their requests wait. For fencing.
    #[must_use]
    pub fn fencing(&self) -> Self {
        Self {
            lane: Lane::Urgent,
            ..self.clone()
        }
    }

    /// The same BMC, asked with a common deadline for everything this handle does from now on, instead of [`Limits::operation`] for each
    /// call.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self {
            deadline: Some(Instant::now() + time),
            ..self.clone()
        }
    }

    /// The same, unless there is an earlier deadline already.
    pub(crate) fn bounded(&self) -> Self {
        match self.deadline {
            Some(_) => self.clone(),
            None => self.within(self.limits().operation),
        }
    }

    /// The same for one call of those who only look: what the BMC sends is bounded ([`Limits::reading_bytes`]), and credentials that it
    /// refuses are not held against those who look after the host.
    pub(crate) fn reading(&self) -> Self {
        Self {
            reading: Some(Arc::new(AtomicUsize::new(self.limits().reading_bytes))),
            ..self.bounded()
        }
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// The BMC's address, as messages name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests sent so far, with log-ins and retries.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Deletes the session and refuses further requests. A BMC that does not answer is not waited for longer than one log-in may take.
    pub async fn close(&self) {
        let shared = &self.shared;
        let limit = self.limits().login;
        let permit = tokio::time::timeout(limit, shared.gate.enter(Lane::Urgent)).await;
        let way = std::mem::replace(&mut shared.session().way, Way::Closed);
        if let Ok(_permit) = permit {
            self.log_out(way).await;
        }
    }

    /// Waits until a log-in that was under way when the connection was closed is undone. For the end of the program.
    pub async fn settled(&self) {
        let mut logins = std::mem::take(&mut *self.shared.logins());
        let all = async { while logins.join_next().await.is_some() {} };
        // One that takes longer is given up.
        let _ = tokio::time::timeout(self.limits().login, all).await;
    }

    /// Deletes a session, if there is one and the BMC said where.
    pub(crate) async fn log_out(&self, way: Way) {
        let Way::Token {
            token,
            location: Some(location),
        } = way
        else {
            return;
        };
        let bmc = self.name();
        let authorization = Authorization::Token(token);
        let request = Request::new(Method::DELETE, location, None);
        let limit = self.limits().login;
        match self.send_once(&request, &authorization, limit).await {
            Ok(answer) if answer.is_success() => tracing::debug!(bmc, "session deleted"),
            // It had ended already.
            Ok(answer) if matches!(answer.status, 401 | 404) => {}
            Ok(answer) => {
                tracing::warn!(
                    bmc,
                    status = answer.status,
                    "session not deleted; it ends when it was idle for long"
                );
            }
            Err(error) => {
                tracing::warn!(bmc, %error, "session not deleted; it ends when it was idle for long");
            }
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.endpoint.limits
    }

    /// What is left until the deadline; zero when it has passed.
    pub(crate) fn remaining(&self) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => self.limits().operation,
        }
    }

    /// Waits, unless the deadline comes first: then false at once.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        if self.remaining() <= time {
            return false;
        }
        tokio::time::sleep(time).await;
        true
    }

    pub(crate) fn overdue(&self, what: &str, last: Option<String>) -> Error {
        Error::Overdue {
            bmc: self.shared.name.clone(),
            what: what.to_owned(),
            last,
        }
    }

    pub(crate) fn missing(&self, path: &str, what: &str) -> Error {
        Error::Missing {
            bmc: self.shared.name.clone(),
            path: path.to_owned(),
            what: what.to_owned(),
        }
    }

    /// How long an answer may be.
    fn answer_bytes(&self) -> usize {
        let limits = self.limits();
        match &self.reading {
            Some(left) => limits
                .reading_answer_bytes
                .min(left.load(Ordering::Relaxed)),
            None => limits.answer_bytes,
        }
    }

    /// One exchange, counted and logged. The caller holds the permit.
    pub(crate) async fn send_once(
        &self,
        request: &Request,
        authorization: &Authorization,
        timeout: Duration,
    ) -> Result<crate::wire::Answer, Error> {
        let shared = &self.shared;
        let mut manner = Manner {
            authorization,
            timeout,
            answer_bytes: self.answer_bytes(),
            identity: true,
            keep_alive: self.quirks().keep_alive,
        };
        let begin = Instant::now();
        let base = &shared.endpoint.address.base;
        loop {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            let result = exchange(&shared.client, base, &shared.name, request, &manner).await;
            match &result {
                // Some HPE machines know compressed answers only.
                Ok(answer) if answer.status == 406 && manner.identity => {
                    manner.identity = false;
                    continue;
                }
                Ok(answer) => {
                    if let Some(left) = &self.reading {
                        // One request is in flight: nobody else takes from it.
                        let rest = left.load(Ordering::Relaxed).saturating_sub(answer.bytes);
                        left.store(rest, Ordering::Relaxed);
                    }
                    let milliseconds = begin.elapsed().as_millis();
                    tracing::debug!(bmc = %shared.name, method = request.verb(), path = %request.path, status = answer.status, milliseconds, "asked");
                }
                Err(error) => tracing::debug!(%error, "asked in vain"),
            }
            return result;
        }
    }
}

impl Shared {
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logins(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log_in(&self, login: impl Future<Output = ()> + Send + 'static) {
        let mut logins = self.logins();
        while logins.try_join_next().is_some() {}
        logins.spawn(login);
    }

    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
