//! The objects through which the API server trusts us, and when they change.

use std::fmt::Debug;
use std::pin::Pin;

use futures::stream::{self, Stream, StreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use crate::answer::chain;
use crate::{GROUP, VERSIONS};

/// Name of both webhook configurations.
pub(super) const WEBHOOKS: &str = "catamaran";

/// Name of the APIService of a version.
pub(super) fn api_service(version: &str) -> String {
    format!("{version}.{GROUP}")
}

/// Something for each time that one of them was made, written or removed. An installation makes them after us, and may write over them.
pub(super) fn changes(client: &Client) -> Pin<Box<dyn Stream<Item = ()> + Send>> {
    let mut all = vec![
        follow::<ValidatingWebhookConfiguration>(client, WEBHOOKS),
        follow::<MutatingWebhookConfiguration>(client, WEBHOOKS),
    ];
    for version in VERSIONS {
        all.push(follow::<APIService>(client, &api_service(version)));
    }
    stream::select_all(all).boxed()
}

fn follow<K>(client: &Client, name: &str) -> Pin<Box<dyn Stream<Item = ()> + Send>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events =
        watcher::watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), only).default_backoff();
    let changed = |event| async move {
        match event {
            Ok(Event::Apply(_) | Event::InitApply(_) | Event::Delete(_)) => Some(()),
            Ok(Event::Init | Event::InitDone) => None,
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), error = chain(&error), "watch interrupted");
                None
            }
        }
    };
    events.filter_map(changed).boxed()
}
