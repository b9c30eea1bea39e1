//! Caches of the API server's objects that see our own writes at once.
//!
//! A watch tells of a write some milliseconds after it was answered. A reconciliation in between would see the object as it was and write
//! again; so what a write answered is kept until the watch has caught up. The answer may also come after the watch has told that the object is
//! gone: what is gone is remembered for a while, so that it does not come back.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Longest that an answer and the watch are apart.
const APART: Duration = Duration::from_secs(60);

/// So many objects that are gone are remembered however long ago they went.
const FEW: usize = 64;

/// All objects of one kind.
#[derive(Debug)]
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Guarded<K>>,
    recent: Mutex<Recent<K>>,
}

/// What the cache does not show yet, or may not show again.
#[derive(Debug)]
struct Recent<K> {
    /// Answers of writes.
    written: HashMap<Key, (K, Instant)>,
    /// Versions at which objects went.
    gone: HashMap<Key, (u64, Instant)>,
    /// So many of these are looked through for old ones.
    full: usize,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Objects<K> {
    /// Over the cache of a watch.
    #[must_use]
    pub fn new(store: Store<Guarded<K>>) -> Self {
        Self {
            store,
            recent: Mutex::new(Recent {
                written: HashMap::new(),
                gone: HashMap::new(),
                full: FEW,
            }),
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
        let mut recent = self.recent();
        let Some((ours, since)) = recent.written.get(key) else {
            return cached;
        };
        let seen = cached
            .as_ref()
            .is_some_and(|cached| version(cached) >= version(ours));
        if seen || since.elapsed() > APART {
            recent.written.remove(key);
            return cached;
        }
        Some(ours.clone())
    }

    /// A copy of every readable object of the cache: of kinds of which there are few.
    #[must_use]
    pub fn all(&self) -> Vec<K> {
        self.each(|object| Some(object.clone()))
    }

    /// What a look at each readable object of the cache gives. There may be thousands: only what is asked for is copied.
    #[must_use]
    pub fn each<T>(&self, look: impl Fn(&K) -> Option<T>) -> Vec<T> {
        let all = self.store.state();
        let readable = all.iter().filter_map(|guard| guard.0.as_ref().ok());
        readable.filter_map(look).collect()
    }

    /// Whether a readable object of the cache is so. Nothing is copied.
    #[must_use]
    pub fn any(&self, is_so: impl Fn(&K) -> bool) -> bool {
        let found = self.store.find(|guard| guard.0.as_ref().is_ok_and(&is_so));
        found.is_some()
    }

    /// Remembers what a write has answered.
    pub fn put(&self, object: K) {
        let key = Key::of(&object);
        let mut recent = self.recent();
        let gone = recent.gone.get(&key).map_or(0, |(version, _)| *version);
        if version(&object) > gone {
            recent.written.insert(key, (object, Instant::now()));
        }
    }

    /// The watch says that an object is gone.
    pub fn forget<G: Resource>(&self, gone: &G) {
        let key = Key::of(gone);
        let at = version(gone);
        let mut recent = self.recent();
        if recent
            .written
            .get(&key)
            .is_some_and(|(ours, _)| version(ours) <= at)
        {
            recent.written.remove(&key);
        }
        // Not each time: when thousands go at once, each would look at all that went before it.
        if recent.gone.len() >= recent.full {
            recent.gone.retain(|_, (_, since)| since.elapsed() < APART);
            recent.full = FEW.max(recent.gone.len() * 2);
        }
        recent.gone.insert(key, (at, Instant::now()));
    }

    /// The watch has listed everything anew.
    pub fn listed(&self) {
        self.recent().written.clear();
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent<K>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn an_answer_that_comes_after_the_end_brings_nothing_back() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.forget(&object("10"));
        objects.put(object("9"));
        assert_eq!(seen(&objects), None);
        objects.put(object("11"));
        assert_eq!(
            seen(&objects).as_deref(),
            Some("11"),
            "a new one of that name"
        );
    }

    #[test]
    fn a_look_at_all_objects_copies_only_what_is_asked_for() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitApply(DeserializeGuard(Ok(object("7")))));
        writer.apply_watcher_event(&Event::InitDone);
        let version = |found: &ConfigMap| found.metadata.resource_version.clone();
        assert_eq!(objects.each(version), ["7"]);
        assert!(objects.any(|found| version(found).as_deref() == Some("7")));
        assert!(!objects.any(|found| version(found).is_none()));
    }

    #[test]
    fn thousands_that_go_at_once_are_all_remembered() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let named = |name: usize| {
            let mut object = object("10");
            object.metadata.name = Some(name.to_string());
            object
        };
        for name in 0..2000 {
            objects.forget(&named(name));
        }
        for name in [0, 63, 64, 1999] {
            objects.put(named(name));
            assert!(objects.get(&Key::of(&named(name))).is_none(), "{name}");
        }
    }
}
