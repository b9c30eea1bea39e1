//! What is remembered of each host while the controller runs, until the host is let go.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::HostName;

/// One value for each host that has any.
#[derive(Debug)]
pub(crate) struct PerHost<T>(Mutex<HashMap<HostName, T>>);

impl<T> Default for PerHost<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> PerHost<T> {
    pub(crate) fn get(&self, host: &HostName) -> Option<T> {
        self.lock().get(host).cloned()
    }

    pub(crate) fn insert(&self, host: HostName, value: T) {
        self.lock().insert(host, value);
    }

    pub(crate) fn forget(&self, host: &HostName) {
        self.lock().remove(host);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostName, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
