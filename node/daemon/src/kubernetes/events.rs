//! Events of instances. The same words about one instance are said once in ten minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use uuid::Uuid;

use crate::kubernetes::instance::Instance;
use crate::kubernetes::world::World;
use crate::serve::events::LEFT_OUT;

/// How long the same words are not repeated.
const QUIET: Duration = Duration::from_secs(600);
/// Longest message that the API server takes.
const LONGEST: usize = 1024;

/// Severity, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Something is wrong.
    Warning,
}

/// What one instance's task has said.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashMap<(String, String), Instant>>);

impl Said {
    fn first(&self, reason: &str, message: &str) -> bool {
        let mut said = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        said.retain(|_, at| at.elapsed() < QUIET);
        said.insert((reason.to_owned(), message.to_owned()), Instant::now())
            .is_none()
    }
}

/// Tells people; nothing waits for it.
pub fn tell(
    world: &Arc<World>,
    said: &Said,
    instance: &Instance,
    kind: Kind,
    reason: &str,
    message: &str,
) {
    if !said.first(reason, message) {
        return;
    }
    let event = event(&world.node, instance, kind, reason, message);
    let api: Api<Event> = Api::namespaced(world.client.0.clone(), &instance.key.namespace);
    world.streams.spawn(async move {
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(error = %error, "an event was not written");
        }
    });
}

/// Tells what a plan leaves out of the manifest on this node.
pub fn left_out(world: &Arc<World>, said: &Said, instance: &Instance, notes: &[String]) {
    for note in notes {
        tell(world, said, instance, Kind::Warning, LEFT_OUT, note);
    }
}

fn event(node: &str, instance: &Instance, kind: Kind, reason: &str, message: &str) -> Event {
    let now = Time(Timestamp::now());
    let key = &instance.key;
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{}", key.name, Uuid::new_v4().simple())),
            namespace: Some(key.namespace.clone()),
            ..Default::default()
        },
        involved_object: ObjectReference {
            api_version: Some("kubevirt.io/v1".to_owned()),
            kind: Some("VirtualMachineInstance".to_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: Some(instance.uid.to_string()),
            resource_version: Some(instance.version.clone()),
            ..Default::default()
        },
        type_: Some(
            match kind {
                Kind::Normal => "Normal",
                Kind::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(reason.to_owned()),
        message: Some(message.chars().take(LONGEST).collect()),
        source: Some(EventSource {
            component: Some("virt-handler".to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some("virt-handler".to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        count: Some(1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::instance::tests::instance;

    #[test]
    fn the_same_words_are_said_once() {
        let said = Said::default();
        assert!(said.first("Started", "a") && said.first("Started", "b"));
        assert!(!said.first("Started", "a"));
    }

    #[test]
    fn an_event_names_the_run_and_fits() {
        let vmi = instance("Running", json!({}));
        let event = event("n1", &vmi, Kind::Warning, "FailedCreate", &"x".repeat(5000));
        assert_eq!(event.involved_object.uid, Some(vmi.uid.to_string()));
        assert_eq!(event.message.map(|message| message.len()), Some(LONGEST));
    }
}
