//! Events, for people who ask what happened. They are best effort: an event that can't be written holds nothing up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Resource;
use kube::client::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::error::chain;

/// After so many events those before are forgotten. A recorder keeps what it has written until it writes again six minutes later.
const REMEMBERED: usize = 500;

/// Writes events. The same one again is counted, not written anew, as long as it is remembered. Warnings of one reason are the same whatever they
/// say: what is tried again and again fails with other names in its words.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    recent: Arc<Mutex<Recent>>,
}

/// What was written. A recorder counts events of one reason as the same whatever they say, so there is one for each text that counts.
#[derive(Default)]
struct Recent {
    recorders: HashMap<String, Recorder>,
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
            recent: Arc::default(),
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
        let recorder = self.recorder(match type_ {
            EventType::Normal => &note,
            EventType::Warning => "",
        });
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(
                reason,
                error = chain(&error),
                "an event could not be written"
            );
        }
    }

    fn recorder(&self, text: &str) -> Recorder {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.written == REMEMBERED {
            *recent = Recent::default();
        }
        recent.written += 1;
        let recorder = recent.recorders.entry(text.to_owned());
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        recorder.or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use hyper::{Method, Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::Value;

    use super::*;

    /// An API server that keeps what it is sent.
    fn server(seen: Arc<Mutex<Vec<(Method, Value)>>>) -> Client {
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let seen = seen.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await?.to_bytes();
                let event: Value = serde_json::from_slice(&body).unwrap();
                seen.lock().unwrap().push((method, event));
                let answer = Response::builder().header("content-type", "application/json");
                Ok::<_, kube::Error>(answer.body(Full::new(body)).unwrap())
            }
        });
        Client::new(service, "n")
    }

    #[tokio::test]
    async fn the_same_words_are_counted_and_others_are_told() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = Events::new(server(seen.clone()), "r");
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".to_owned());
        pod.metadata.namespace = Some("n".to_owned());
        for note in [
            "somebody stopped it",
            "its guest shut down",
            "somebody stopped it",
        ] {
            events.normal(&pod, "SuccessfulDelete", note).await;
        }
        for note in ["p-a is forbidden", "p-b is forbidden"] {
            events.warning(&pod, "FailedCreate", note).await;
        }
        let seen = seen.lock().unwrap();
        let sent = seen
            .iter()
            .map(|(method, event)| (method.as_str(), event["note"].as_str()));
        assert_eq!(
            sent.collect::<Vec<_>>(),
            [
                ("POST", Some("somebody stopped it")),
                ("POST", Some("its guest shut down")),
                ("PATCH", Some("somebody stopped it")),
                ("POST", Some("p-a is forbidden")),
                ("PATCH", Some("p-a is forbidden")),
            ]
        );
    }
}
