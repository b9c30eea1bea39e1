//! Events, for people who ask what happened. They are best effort: an event that can't be written holds nothing up.

use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::client::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::error::chain;

/// After so many events those before are forgotten. A recorder keeps what it has written until it writes again six minutes later, and looks
/// through all of it each time.
const REMEMBERED: usize = 500;

/// Writes events. The same one again is counted, not written anew, as long as it is remembered.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recorder: Arc<Mutex<Recent>>,
}

/// A recorder, and how much it remembers at most.
struct Recent {
    recorder: Recorder,
    written: usize,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// In the name of this replica.
    #[must_use]
    pub fn new(client: Client, replica: &str) -> Self {
        Self::by(client, "virt-controller", replica)
    }

    /// In the name of this replica, as a controller of that name.
    #[must_use]
    pub fn by(client: Client, controller: &str, replica: &str) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: Some(replica.to_owned()),
        };
        Self {
            recorder: Arc::new(Mutex::new(Recent {
                recorder: Recorder::new(client.clone(), reporter.clone()),
                written: 0,
            })),
            client,
            reporter,
        }
    }

    /// Something went as it should.
    pub async fn normal<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.write(object, EventType::Normal, reason, note.into())
            .await;
    }

    /// Something went wrong.
    pub async fn warning<K>(&self, object: &K, reason: &str, note: impl Into<String>)
    where
        K: Resource<DynamicType = ()>,
    {
        self.write(object, EventType::Warning, reason, note.into())
            .await;
    }

    async fn write<K>(&self, object: &K, type_: EventType, reason: &str, mut note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        // The API server takes 1024 bytes.
        let cut = note.floor_char_boundary(1024);
        note.truncate(cut);
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let recorder = self.recorder();
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                reason,
                error = chain(&error),
                "an event could not be written"
            );
        }
    }

    fn recorder(&self) -> Recorder {
        let mut recent = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.written == REMEMBERED {
            *recent = Recent {
                recorder: Recorder::new(self.client.clone(), self.reporter.clone()),
                written: 0,
            };
        }
        recent.written += 1;
        recent.recorder.clone()
    }
}
