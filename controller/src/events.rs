//! Events, for people who ask what happened. They are best effort: an event that can't be written holds nothing up.

use kube::Resource;
use kube::client::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::error::chain;

/// Writes events. The same one again is counted, not written anew.
#[derive(Clone)]
pub struct Events(Recorder);

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
        Self(Recorder::new(
            client,
            Reporter {
                controller: controller.to_owned(),
                instance: Some(replica.to_owned()),
            },
        ))
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
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                reason,
                error = chain(&error),
                "an event could not be written"
            );
        }
    }
}
