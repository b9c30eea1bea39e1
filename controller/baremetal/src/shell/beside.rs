//! Troubles with the objects beside a host (`PreprovisioningImage`, `HostFirmwareSettings`, `DataImage`): they are no reason to leave the host alone,
//! but where it waits for one.

use catamaran_client::chain;

use super::Again;
use crate::facts::Seconds;
use crate::store::{HostName, StoreError};

/// Objects beside a host that could not be read or written at this look.
pub(super) struct Beside<'a> {
    host: &'a HostName,
    failed: bool,
}

impl<'a> Beside<'a> {
    /// Pause until they are tried again.
    const PAUSE: Seconds = 10;

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

    pub(super) fn again(&self, again: Again) -> Again {
        match again {
            _ if !self.failed => again,
            Again::Changed => Again::After(Self::PAUSE),
            Again::After(seconds) => Again::After(seconds.min(Self::PAUSE)),
        }
    }
}
