//! The connections to BMCs: one for each host, and so one session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_redfish::{Address, Bmc, Connector, Credentials, Endpoint, Error, Limits, Trust};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::store::HostName;

/// All connections.
#[derive(Debug)]
pub struct Bmcs {
    connector: Connector,
    limits: Limits,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    /// Of the hosts that are looked after.
    kept: HashMap<HostName, Connection>,
    /// Of hosts that somebody reads of and nobody here looks after, with when that was.
    reading: HashMap<HostName, (Connection, Instant)>,
    /// The process ends: nobody opens a session for a reading any more.
    closed: bool,
    /// Connections that are being closed.
    closing: JoinSet<()>,
}

/// What a connection was made from: with another of these it is another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MadeFrom(Address, Credentials, Trust);

impl MadeFrom {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        Self(
            endpoint.address.clone(),
            endpoint.credentials.clone(),
            endpoint.trust.clone(),
        )
    }
}

#[derive(Debug)]
struct Connection {
    made_from: MadeFrom,
    bmc: Bmc,
}

impl Bmcs {
    /// None yet. `limits` are those of every BMC.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            connector: Connector::new(),
            limits,
            all: Mutex::default(),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The host's BMC. One that was made with another address, other credentials or another trust is closed. One that was read of is kept on:
    /// a BMC has one request in flight.
    pub(crate) async fn get(&self, host: &HostName, endpoint: Endpoint) -> Result<Bmc, Error> {
        let made_from = MadeFrom::of(&endpoint);
        let (bmc, old) = {
            let mut all = self.lock();
            if let Some(there) = all.kept.get(host)
                && there.made_from == made_from
            {
                return Ok(there.bmc.clone());
            }
            let mut old = Vec::from_iter(all.kept.remove(host));
            let connection = match all.reading.remove(host) {
                Some((there, _)) if there.made_from == made_from => Ok(there),
                other => {
                    old.extend(other.map(|(there, _)| there));
                    self.connect(made_from, endpoint)
                }
            };
            let bmc = connection.map(|connection| {
                let bmc = connection.bmc.clone();
                all.kept.insert(host.clone(), connection);
                bmc
            });
            (bmc, old)
        };
        close(old.into_iter().map(|old| old.bmc).collect()).await;
        bmc
    }

    /// The same for one who only reads, with what this takes the place of and is to be closed: the host's connection is never taken from
    /// those who look after it.
    pub(crate) fn reading(
        &self,
        host: &HostName,
        endpoint: Endpoint,
    ) -> Result<(Bmc, Option<Bmc>), Error> {
        let made_from = MadeFrom::of(&endpoint);
        let mut all = self.lock();
        if let Some(there) = all.kept.get(host)
            && there.made_from == made_from
        {
            return Ok((there.bmc.clone(), None));
        }
        if let Some((there, used)) = all.reading.get_mut(host)
            && there.made_from == made_from
        {
            *used = Instant::now();
            return Ok((there.bmc.clone(), None));
        }
        let connection = self.connect(made_from, endpoint)?;
        let bmc = connection.bmc.clone();
        if all.closed {
            return Err(Error::Closed {
                bmc: bmc.name().to_owned(),
            });
        }
        let old = all
            .reading
            .insert(host.clone(), (connection, Instant::now()));
        Ok((bmc, old.map(|(old, _)| old.bmc)))
    }

    fn connect(&self, made_from: MadeFrom, endpoint: Endpoint) -> Result<Connection, Error> {
        let bmc = Bmc::new(&self.connector, endpoint)?;
        Ok(Connection { made_from, bmc })
    }

    /// Ends the host's session.
    pub(crate) async fn close(&self, host: &HostName) {
        let there = {
            let mut all = self.lock();
            let read = all.reading.remove(host).map(|(there, _)| there);
            [all.kept.remove(host), read]
        };
        close(there.into_iter().flatten().map(|there| there.bmc).collect()).await;
    }

    /// Ends the sessions of those who have read nothing for so long.
    pub(crate) async fn close_idle(&self, longest: Duration) {
        let idle = self
            .lock()
            .reading
            .extract_if(|_, (_, used)| used.elapsed() >= longest)
            .map(|(_, (there, _))| there.bmc)
            .collect();
        close(idle).await;
    }

    /// Ends all sessions, all at once, and opens none for readings any more. BMCs have room for few.
    pub async fn close_all(&self) {
        let closed = All {
            closed: true,
            ..All::default()
        };
        let All {
            kept,
            reading,
            mut closing,
            ..
        } = std::mem::replace(&mut *self.lock(), closed);
        let read = reading.into_values().map(|(there, _)| there);
        let all = kept.into_values().chain(read);
        for there in all {
            closing.spawn(async move {
                there.bmc.close().await;
                there.bmc.settled().await;
            });
        }
        closing.join_all().await;
    }

    /// Closes a connection, whoever stops waiting for that.
    pub(crate) async fn close_apart(&self, bmc: Bmc) {
        let (sender, closed) = oneshot::channel::<()>();
        {
            let closing = &mut self.lock().closing;
            while closing.try_join_next().is_some() {}
            closing.spawn(async move {
                bmc.close().await;
                drop(sender);
            });
        }
        // It says nothing, but ends.
        let _ = closed.await;
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections, all at once.
async fn close(all: Vec<Bmc>) {
    let mut closing = JoinSet::new();
    for bmc in all {
        closing.spawn(async move { bmc.close().await });
    }
    closing.join_all().await;
}
