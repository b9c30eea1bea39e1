//! Caches of the API server's objects that see our own writes at once.
//!
//! A watch tells of a write some milliseconds after it was answered. A reconciliation in between would see the object as it was and write
//! again; so what a write answered is kept until the watch has caught up. The answer may also come after the watch has told that the object is
//! gone: what is gone is remembered for a while, so that it does not come back.
//!
//! There may be thousands of objects of a kind, so that no more of one is kept than is read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};

/// Deletes the object of that UID, and none that has its name by now.
#[must_use]
pub fn only(uid: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

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

/// Annotation in which `kubectl apply` keeps the whole object a second time.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All objects of one kind.
#[derive(Debug)]
pub struct Objects<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<Guarded<K>>,
    recent: Mutex<Recent<K>>,
    /// Drops what is not read of an object.
    pare: fn(&mut K),
    /// What an object belongs to.
    group: fn(&K) -> Option<Key>,
    /// The objects that belong to something. Some may be gone, or belong elsewhere by now; none is missing.
    groups: Mutex<HashMap<Key, HashSet<Key>>>,
}

/// What the cache does not show yet, or may not show again.
#[derive(Debug)]
struct Recent<K> {
    /// Answers of writes. Boxed: a table keeps the room that it once had.
    written: HashMap<Key, (Box<K>, Instant)>,
    /// Versions at which objects went.
    gone: HashMap<Key, (u64, Instant)>,
    /// So many of these are looked through for old ones.
    full: usize,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Objects<K> {
    /// Over the cache of a watch.
    #[must_use]
    pub fn new(store: Store<Guarded<K>>) -> Self {
        Self::of_parts(store, |_| {}, |_| None)
    }

    /// Over the cache of a watch, with what `pare` leaves of each object, and [`Self::any_in`] what `group` says.
    #[must_use]
    pub fn of_parts(
        store: Store<Guarded<K>>,
        pare: fn(&mut K),
        group: fn(&K) -> Option<Key>,
    ) -> Self {
        Self {
            pare,
            group,
            groups: Mutex::default(),
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
        let mut recent = self.recent();
        // After the lock: what is forgotten of our answers under it stands in the cache by then.
        let cached = self.store.get(&key.reference());
        let readable = || cached.as_ref()?.0.as_ref().ok();
        let Some((ours, since)) = recent.written.get(key) else {
            drop(recent);
            return readable().cloned();
        };
        let newer = readable().is_some_and(|cached| version(cached) >= version(ours.as_ref()));
        if newer || since.elapsed() > APART {
            recent.written.remove(key);
            return readable().cloned();
        }
        Some(ours.as_ref().clone())
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

    /// Whether a readable object of the cache that belongs to something is so. However many there are, only these are looked at.
    #[must_use]
    pub fn any_in(&self, group: &Key, is_so: impl Fn(&K) -> bool) -> bool {
        let members: Vec<Key> = {
            let groups = self.groups();
            groups.get(group).into_iter().flatten().cloned().collect()
        };
        let mut found = members
            .iter()
            .filter_map(|key| self.store.get(&key.reference()));
        found.any(|guard| {
            let object = guard.0.as_ref();
            object.is_ok_and(|object| (self.group)(object).as_ref() == Some(group) && is_so(object))
        })
    }

    /// Takes an object in before the cache shows it: leaves of it what is kept.
    pub fn admit(&self, object: &mut Guarded<K>) {
        // Who wrote which field is of no use here and half of an object's size.
        let metadata = object.meta_mut();
        metadata.managed_fields = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(APPLIED);
        }
        let Ok(object) = &mut object.0 else { return };
        (self.pare)(object);
        if let Some(group) = (self.group)(object) {
            let key = Key::of(object);
            self.groups().entry(group).or_default().insert(key);
        }
    }

    /// The cache shows an object: an answer that is no newer is needed no more, whether or not somebody looks.
    pub fn shown(&self, object: &Guarded<K>) {
        let key = Key::of(object);
        let at = version(object);
        let mut recent = self.recent();
        let ours = recent.written.get(&key);
        if ours.is_some_and(|(ours, _)| version(ours.as_ref()) <= at) {
            recent.written.remove(&key);
        }
    }

    /// Remembers what a write has answered.
    pub fn put(&self, mut object: K) {
        (self.pare)(&mut object);
        let key = Key::of(&object);
        let mut recent = self.recent();
        let gone = recent.gone.get(&key).map_or(0, |(version, _)| *version);
        let cached = self.store.get(&key.reference());
        let shown = cached.map_or(0, |cached| version(cached.as_ref()));
        if version(&object) > gone.max(shown) {
            let written = (Box::new(object), Instant::now());
            recent.written.insert(key, written);
        }
    }

    /// The watch says that an object is gone.
    pub fn forget(&self, gone: &Guarded<K>) {
        let key = Key::of(gone);
        let at = version(gone);
        if let Ok(object) = &gone.0
            && let Some(group) = (self.group)(object)
        {
            let mut groups = self.groups();
            if let Some(members) = groups.get_mut(&group) {
                members.remove(&key);
                if members.is_empty() {
                    groups.remove(&group);
                }
            }
        }
        self.shown(gone);
        let mut recent = self.recent();
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
        self.groups().retain(|_, members| {
            members.retain(|key| self.store.get(&key.reference()).is_some());
            !members.is_empty()
        });
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<Key, HashSet<Key>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::collections::BTreeMap;

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
    fn an_answer_is_forgotten_when_the_cache_shows_it() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.put(object("7"));
        for (version, left) in [("6", 1), ("7", 0)] {
            let shown = DeserializeGuard(Ok(object(version)));
            writer.apply_watcher_event(&Event::Apply(shown.clone()));
            objects.shown(&shown);
            assert_eq!(objects.recent().written.len(), left, "{version}");
            assert_eq!(seen(&objects).as_deref(), Some("7"));
        }
    }

    #[test]
    fn an_older_deletion_does_not_hide_a_newer_object() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.put(object("9"));
        objects.forget(&DeserializeGuard(Ok(object("8"))));
        assert_eq!(seen(&objects).as_deref(), Some("9"));
        objects.forget(&DeserializeGuard(Ok(object("10"))));
        assert_eq!(seen(&objects), None);
    }

    #[test]
    fn an_answer_that_comes_after_the_end_brings_nothing_back() {
        let (store, mut writer) = reflector::store::<Guarded<ConfigMap>>();
        let objects = Objects::new(store);
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.forget(&DeserializeGuard(Ok(object("10"))));
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
    }

    /// Keeps no data, and belongs to what the label says.
    fn pared() -> (
        Objects<ConfigMap>,
        reflector::store::Writer<Guarded<ConfigMap>>,
    ) {
        let (store, writer) = reflector::store();
        let pare = |object: &mut ConfigMap| object.data = None;
        let group = |object: &ConfigMap| {
            let label = object.metadata.labels.as_ref()?.get("of")?;
            Some(Key::of(object).named(label))
        };
        (Objects::of_parts(store, pare, group), writer)
    }

    fn whole(version: &str, of: &str) -> ConfigMap {
        let mut whole = object(version);
        let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        whole.metadata.labels = Some(map("of", of));
        whole.metadata.annotations = Some(map(APPLIED, "all of it"));
        whole.metadata.managed_fields = Some(vec![Default::default()]);
        whole.data = Some(map("a", "b"));
        whole
    }

    #[test]
    fn of_an_object_only_what_is_read_is_kept_whoever_brings_it() {
        let (objects, _) = pared();
        let mut brought = DeserializeGuard(Ok(whole("7", "x")));
        objects.admit(&mut brought);
        let kept = brought.0.unwrap();
        assert_eq!(kept.data, None);
        assert_eq!(
            kept.metadata.annotations.as_ref().map(BTreeMap::len),
            Some(0)
        );
        assert_eq!(kept.metadata.managed_fields, None);
        objects.put(whole("8", "x"));
        assert!(
            objects
                .get(&Key::of(&kept))
                .is_some_and(|ours| ours.data.is_none())
        );
    }

    #[test]
    fn what_belongs_to_something_is_found_as_long_as_it_does() {
        let (objects, mut writer) = pared();
        let group = |name: &str| Key::of(&object("")).named(name);
        let bring =
            |writer: &mut reflector::store::Writer<_>, of: &str, event: fn(_) -> Event<_>| {
                let mut brought = DeserializeGuard(Ok(whole("7", of)));
                objects.admit(&mut brought);
                writer.apply_watcher_event(&event(brought));
            };
        writer.apply_watcher_event(&Event::Init);
        bring(&mut writer, "x", Event::InitApply);
        writer.apply_watcher_event(&Event::InitDone);
        objects.listed();
        assert!(objects.any_in(&group("x"), |_| true));
        assert!(!objects.any_in(&group("x"), |_| false));
        assert!(!objects.any_in(&group("y"), |_| true));
        bring(&mut writer, "y", Event::Apply);
        assert!(objects.any_in(&group("y"), |_| true));
        assert!(!objects.any_in(&group("x"), |_| true), "it went elsewhere");
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        objects.listed();
        assert!(!objects.any_in(&group("y"), |_| true), "it went unseen");
        assert!(objects.groups().is_empty());
        bring(&mut writer, "x", Event::Apply);
        let gone = DeserializeGuard(Ok(whole("9", "x")));
        writer.apply_watcher_event(&Event::Delete(gone.clone()));
        objects.forget(&gone);
        assert!(objects.groups().is_empty());
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
            objects.forget(&DeserializeGuard(Ok(named(name))));
        }
        for name in [0, 63, 64, 1999] {
            objects.put(named(name));
            assert!(objects.get(&Key::of(&named(name))).is_none(), "{name}");
        }
    }
}
