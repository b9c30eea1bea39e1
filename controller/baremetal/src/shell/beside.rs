//! Troubles with the objects beside a host (`PreprovisioningImage`, `HostFirmwareSettings`, `DataImage`): they are no reason to leave the host alone,
//! but where it waits for one.

use catamaran_client::chain;

use super::Again;
use crate::back_off;
use crate::facts::Seconds;
use crate::per_host::PerHost;
use crate::store::{HostName, StoreError};

/// How often in a row objects beside each host could not be read or written.
#[derive(Debug, Default)]
pub struct BesideCache(pub(super) PerHost<Failed>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Failed {
    times: i64,
    /// When the next try is due. A look before that, for whatever else, does not count.
    due: Seconds,
}

/// Objects beside a host at this look.
pub(super) struct Beside<'a> {
    host: &'a HostName,
    failed: bool,
}

impl<'a> Beside<'a> {
    pub(super) fn of(host: &'a HostName) -> Self {
        let failed = false;
        Self { host, failed }
    }

    /// What came of one; where that failed and the host does not wait for it, `otherwise`.
    pub(super) fn or<T>(
        &mut self,
        kind: &str,
        waits: bool,
        otherwise: T,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match result {
            Err(error) if !waits => {
                tracing::warn!(host = %self.host, kind, error = chain(&error), "an object beside the host is tried again; the host goes on");
                self.failed = true;
                Ok(otherwise)
            }
            result => result,
        }
    }

    /// When to look again, where the host itself is looked at then: what failed has a pause of the host's own, which grows.
    pub(super) fn again(
        &self,
        cache: &BesideCache,
        uid: &str,
        now: Seconds,
        again: Again,
    ) -> Again {
        if !self.failed {
            cache.0.forget(self.host);
            return again;
        }
        let due = match cache.0.get(self.host) {
            Some(failed) if now < failed.due => failed.due,
            failed => {
                let times = failed.map_or(0, |failed| failed.times) + 1;
                let due = now + back_off::pause(times, uid);
                cache.0.insert(self.host.clone(), Failed { times, due });
                due
            }
        };
        match again {
            Again::Changed => Again::After(due - now),
            Again::After(seconds) => Again::After(seconds.min(due - now)),
        }
    }
}
