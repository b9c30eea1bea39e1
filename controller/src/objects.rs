//! Caches of the API server's objects that see our own writes at once.
//!
//! A watch tells of a write some milliseconds after it was answered. A reconciliation in between would see the object as it was and write
//! again; so what a write answered is kept until the watch has caught up.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

/// An object that may be unreadable, so that one bad object can't stop a watch.
pub type Guarded<K> = DeserializeGuard<K>;

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// Of an object.
    #[must_use]
    pub fn of<K: Resource>(object: &K) -> Self {
        Self {
            namespace: object.meta().namespace.clone().unwrap_or_default(),
            name: object.meta().name.clone().unwrap_or_default(),
        }
    }

    /// Of another object in the same namespace.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// As the caches have it.
    #[must_use]
    pub fn reference<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Guarded<K>>,
    written: Mutex<HashMap<Key, K>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Objects<K> {
    /// Over the cache of a watch.
    #[must_use]
    pub fn new(store: Store<Guarded<K>>) -> Self {
        Self {
            store,
            written: Mutex::default(),
        }
    }

    /// The cache.
    #[must_use]
    pub fn store(&self) -> Store<Guarded<K>> {
        self.store.clone()
    }

    /// The newest version that is known. An unreadable object counts as not there.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<K> {
        let cached = self.store.get(&key.reference());
        let cached = cached.and_then(|guard| guard.0.as_ref().ok().cloned());
        let mut written = self.written();
        let Some(ours) = written.get(key) else {
            return cached;
        };
        if cached
            .as_ref()
            .is_some_and(|cached| version(cached) >= version(ours))
        {
            written.remove(key);
            return cached;
        }
        Some(ours.clone())
    }

    /// Every readable object of the cache.
    #[must_use]
    pub fn all(&self) -> Vec<K> {
        self.store
            .state()
            .iter()
            .filter_map(|guard| guard.0.as_ref().ok().cloned())
            .collect()
    }

    /// Remembers what a write has answered.
    pub fn put(&self, object: K) {
        self.written().insert(Key::of(&object), object);
    }

    /// The watch says that an object is gone.
    pub fn forget<G: Resource>(&self, gone: &G) {
        let mut written = self.written();
        let key = Key::of(gone);
        if written
            .get(&key)
            .is_some_and(|ours| version(ours) <= version(gone))
        {
            written.remove(&key);
        }
    }

    /// The watch has listed everything anew.
    pub fn listed(&self) {
        self.written().clear();
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<Key, K>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of objects grow with each write (and have been ordered by promise since Kubernetes 1.35).
fn version<K: Resource>(object: &K) -> u64 {
    object
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    fn object(version: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some("a".to_owned());
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.resource_version = Some(version.to_owned());
        object
    }

    fn seen(objects: &Objects<ConfigMap>) -> Option<String> {
        let key = Key::of(&object(""));
        objects
            .get(&key)
            .and_then(|found| found.metadata.resource_version)
    }

    #[test]
    fn a_write_is_seen_until_the_watch_has_caught_up() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        assert_eq!(seen(&objects), None);
        objects.put(object("7"));
        assert_eq!(seen(&objects).as_deref(), Some("7"));
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(object("6")))));
        assert_eq!(seen(&objects).as_deref(), Some("7"));
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(object("8")))));
        assert_eq!(seen(&objects).as_deref(), Some("8"));
    }

    #[test]
    fn an_older_deletion_does_not_hide_a_newer_object() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.put(object("9"));
        objects.forget(&object("8"));
        assert_eq!(seen(&objects).as_deref(), Some("9"));
        objects.forget(&object("10"));
        assert_eq!(seen(&objects), None);
    }
}
