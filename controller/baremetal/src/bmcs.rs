//! The connections to BMCs: one for each host, and so one session.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use catamaran_redfish::{Address, Bmc, Connector, Credentials, Endpoint, Error, Limits, Trust};
use tokio::task::JoinSet;

use crate::store::HostName;

/// All connections.
#[derive(Debug)]
pub struct Bmcs {
    connector: Connector,
    limits: Limits,
    all: Mutex<HashMap<HostName, Connection>>,
}

#[derive(Debug)]
struct Connection {
    made_from: (Address, Credentials, Trust),
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

    /// The host's BMC. One that was made with another address, other credentials or another trust is closed first.
    pub(crate) async fn get(&self, host: &HostName, endpoint: Endpoint) -> Result<Bmc, Error> {
        let made_from = (
            endpoint.address.clone(),
            endpoint.credentials.clone(),
            endpoint.trust.clone(),
        );
        let old = {
            let mut all = self.lock();
            match all.get(host) {
                Some(there) if there.made_from == made_from => return Ok(there.bmc.clone()),
                _ => all.remove(host),
            }
        };
        if let Some(old) = old {
            old.bmc.close().await;
        }
        let bmc = Bmc::new(&self.connector, endpoint)?;
        let connection = Connection {
            made_from,
            bmc: bmc.clone(),
        };
        self.lock().insert(host.clone(), connection);
        Ok(bmc)
    }

    /// Ends the host's session.
    pub(crate) async fn close(&self, host: &HostName) {
        let there = self.lock().remove(host);
        if let Some(there) = there {
            there.bmc.close().await;
        }
    }

    /// Ends all sessions, all at once. BMCs have room for few.
    pub async fn close_all(&self) {
        let all: Vec<Bmc> = self.lock().drain().map(|(_, there)| there.bmc).collect();
        let mut closing = JoinSet::new();
        for bmc in all {
            closing.spawn(async move { bmc.close().await });
        }
        closing.join_all().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostName, Connection>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
