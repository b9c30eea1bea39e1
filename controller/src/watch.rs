//! Watches: they fill the caches and wake the reconcilers.

use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, reflector};
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::error::chain;
use crate::objects::{Guarded, Objects};

/// What a watch has seen.
#[derive(Debug)]
pub enum Seen<'a, K> {
    /// One object was written or is gone.
    One(&'a K),
    /// Everything was listed anew, so that objects may have gone unseen.
    All,
}

/// Follows all objects of a kind for ever.
pub async fn follow<K>(
    api: Api<Guarded<K>>,
    config: watcher::Config,
    writer: Writer<Guarded<K>>,
    objects: &Objects<K>,
    seen: impl Fn(Seen<'_, Guarded<K>>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let events = watcher::watcher(api, config)
        .default_backoff()
        .modify(|object| objects.admit(object));
    let mut events = pin!(reflector(writer, events));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object)) => {
                objects.shown(&object);
                if let Err(error) = &object.0 {
                    tracing::warn!(kind = %K::kind(&()), namespace = object.namespace(), name = object.name_any(), %error, "unreadable object");
                }
                seen(Seen::One(&object));
            }
            Ok(Event::Delete(object)) => {
                objects.forget(&object);
                seen(Seen::One(&object));
            }
            // The cache shows what was listed when all of it is there.
            Ok(Event::Init | Event::InitApply(_)) => {}
            Ok(Event::InitDone) => {
                objects.listed();
                seen(Seen::All);
            }
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), error = chain(&error), "watch interrupted");
            }
        }
    }
}
