//! How far a pull is, for progress bars.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Asking for the manifest.
    Resolving,
    /// Downloading (or hashing, for a local layout) a layer; bytes are compressed bytes of all layers.
    Pulling,
    /// Taking the disk out of the layer; bytes are those of the disk file.
    Extracting,
    /// The disk is there.
    Done,
}

/// State of one pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes of this phase, 0 where not known yet.
    pub total: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            phase: Phase::Resolving,
            done: 0,
            total: 0,
        }
    }
}

/// Where progress goes: only the latest state is kept, so that a slow reader costs nothing.
pub type ProgressSender = tokio::sync::watch::Sender<Progress>;

/// The listeners of one pull; callers that join a running pull are added. They are let go with the pull, so that their receivers end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners {
    senders: Arc<Mutex<Vec<ProgressSender>>>,
}

/// Listeners of a pull that may be over.
#[derive(Debug)]
pub(crate) struct WeakListeners(Weak<Mutex<Vec<ProgressSender>>>);

impl WeakListeners {
    pub(crate) fn upgrade(&self) -> Option<Listeners> {
        self.0.upgrade().map(|senders| Listeners { senders })
    }
}

impl Listeners {
    pub(crate) fn downgrade(&self) -> WeakListeners {
        WeakListeners(Arc::downgrade(&self.senders))
    }

    pub(crate) fn add(&self, sender: ProgressSender) {
        self.senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sender);
    }

    pub(crate) fn tell(&self, phase: Phase, done: u64, total: u64) {
        for sender in self
            .senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            sender.send_replace(Progress { phase, done, total });
        }
    }

    /// The pull is over.
    pub(crate) fn finish(&self, success: bool) {
        if success {
            self.tell(Phase::Done, 1, 1);
        }
        self.senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
