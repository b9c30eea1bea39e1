//! The objects of one kind as they are, and what has changed in them lately. Pure.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kube::api::DynamicObject;
use serde_json::json;

use crate::backend::Name;

/// Changes that are kept for those who look on from an earlier version.
const CHANGES: usize = 4096;
/// Bytes of them.
const BYTES: usize = 16 * 1024 * 1024;

/// Changes that one who looks on is given at once.
const AT_ONCE: usize = 256;

/// Namespace, empty for objects without, and name.
type Id = (String, String);

/// A change.
#[derive(Debug, Clone)]
struct Change {
    version: u64,
    namespace: String,
    /// A watch event: a line of JSON.
    line: Bytes,
}

/// One kind.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Id, Bytes>,
    /// The objects are those of this version; none where they are not known.
    head: Option<u64>,
    /// The changes after this version are known.
    floor: u64,
    changes: VecDeque<Change>,
    /// Bytes of the changes.
    bytes: usize,
    /// Number of the first change that is kept: from 1, once something is known.
    first: u64,
}

/// What follows a place among the changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Lines, and the place after them.
    Lines(VecDeque<Bytes>, u64),
    /// It is too long ago: all must be listed anew.
    Gone,
}

fn version(object: &DynamicObject) -> u64 {
    let version = object.metadata.resource_version.as_deref();
    version.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn id(object: &DynamicObject) -> Id {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    (namespace, object.metadata.name.clone().unwrap_or_default())
}

/// The object as browsers get it: who wrote which field is as long as the rest, and nobody looks at it.
#[derive(Debug)]
pub(super) struct Bare {
    id: Id,
    version: u64,
    json: Bytes,
}

impl From<DynamicObject> for Bare {
    fn from(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let json = serde_json::to_vec(&object).unwrap_or_default();
        Self {
            id: id(&object),
            version: version(&object),
            // It is kept: without the room that a vector has left.
            json: json.into_boxed_slice().into(),
        }
    }
}

fn line(word: &str, object: &[u8]) -> Bytes {
    let line: [&[u8]; 5] = [
        b"{\"type\":\"",
        word.as_bytes(),
        b"\",\"object\":",
        object,
        b"}\n",
    ];
    line.concat().into()
}

/// The line that ends a watch.
pub(super) fn error(code: u16, message: &str) -> Bytes {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
    });
    line("ERROR", status.to_string().as_bytes())
}

/// The line that tells a version, so that a watch can go on from there.
pub(super) fn bookmark(version: u64) -> Bytes {
    let object = json!({"metadata": {"resourceVersion": version.to_string()}});
    line("BOOKMARK", object.to_string().as_bytes())
}

impl Store {
    /// Takes a list. What has changed since the one before is not known one by one: whoever looks on lists anew.
    pub(super) fn fill(&mut self, objects: Vec<Bare>, version: u64) {
        let objects = objects.into_iter();
        self.objects = objects.map(|bare| (bare.id, bare.json)).collect();
        self.head = Some(version);
        self.floor = version;
        // One more than there were: nobody's place is among them.
        self.first += self.changes.len() as u64 + 1;
        self.changes.clear();
        self.bytes = 0;
    }

    /// Nothing has changed up to a version.
    pub(super) fn reach(&mut self, version: u64) {
        self.head = self.head.map(|head| head.max(version));
    }

    /// An object was made or has changed.
    pub(super) fn apply(&mut self, object: DynamicObject) {
        let Bare { id, version, json } = object.into();
        let word = if self.objects.contains_key(&id) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.change(word, id.0.clone(), version, &json);
        self.objects.insert(id, json);
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, object: DynamicObject) {
        let Bare { id, version, json } = object.into();
        self.objects.remove(&id);
        self.change("DELETED", id.0, version, &json);
    }

    fn change(&mut self, word: &str, namespace: String, version: u64, json: &[u8]) {
        let line = line(word, json);
        self.head = self.head.map(|head| head.max(version));
        self.bytes += line.len();
        self.changes.push_back(Change {
            version,
            namespace,
            line,
        });
        while self.changes.len() > CHANGES || self.bytes > BYTES {
            let Some(oldest) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= oldest.line.len();
            self.floor = oldest.version;
            self.first += 1;
        }
    }

    /// The version that the objects are of; none where they are not known.
    pub(super) fn head(&self) -> Option<u64> {
        self.head
    }

    /// A list as pieces of JSON; none where the objects are not known.
    pub(super) fn list(&self, namespace: Option<&Name>) -> Option<Vec<Bytes>> {
        let head = self.head?;
        let start = format!(
            "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"{head}\"}},\"items\":["
        );
        let mut pieces = vec![Bytes::from(start)];
        for ((of, _), json) in &self.objects {
            if namespace.is_some_and(|namespace| namespace.as_str() != of) {
                continue;
            }
            if pieces.len() > 1 {
                pieces.push(Bytes::from_static(b","));
            }
            pieces.push(json.clone());
        }
        pieces.push(Bytes::from_static(b"]}"));
        Some(pieces)
    }

    /// The place among the changes from which one who knows a version looks on; none where too much has happened since.
    pub(super) fn place(&self, version: u64) -> Option<u64> {
        if self.head.is_none() || version < self.floor {
            return None;
        }
        let known = self
            .changes
            .iter()
            .take_while(|change| change.version <= version);
        Some(self.first + known.count() as u64)
    }

    /// What has changed since a place, some of it if it is much.
    pub(super) fn since(&self, place: u64, namespace: Option<&Name>) -> Next {
        let Some(skip) = place.checked_sub(self.first) else {
            return Next::Gone;
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let new = self.changes.iter().skip(skip).take(AT_ONCE);
        let after = place + new.len() as u64;
        let of = |change: &&Change| {
            namespace.is_none_or(|namespace| namespace.as_str() == change.namespace)
        };
        let lines = new.filter(of).map(|change| change.line.clone()).collect();
        Next::Lines(lines, after)
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::{AT_ONCE, CHANGES, Next, Store};
    use crate::backend::Name;

    fn object(namespace: &str, name: &str, version: u64) -> DynamicObject {
        let object = json!({
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": version.to_string(),
                "managedFields": [{"manager": "somebody"}]},
            "spec": {"version": version},
        });
        serde_json::from_value(object).unwrap()
    }

    fn filled() -> Store {
        let mut store = Store::default();
        store.fill(
            vec![object("a", "one", 3).into(), object("b", "two", 5).into()],
            7,
        );
        store
    }

    fn list(store: &Store, namespace: Option<&str>) -> Value {
        let namespace = namespace.and_then(Name::parse);
        let pieces = store.list(namespace.as_ref()).unwrap();
        serde_json::from_slice(&pieces.concat()).unwrap()
    }

    fn lines(next: Next) -> (Vec<Value>, u64) {
        match next {
            Next::Lines(lines, place) => {
                let lines = lines
                    .iter()
                    .map(|line| serde_json::from_slice(line).unwrap());
                (lines.collect(), place)
            }
            Next::Gone => panic!("it is gone"),
        }
    }

    #[test]
    fn a_list_has_the_objects_of_its_namespace_without_their_writers() {
        let all = list(&filled(), None);
        assert_eq!(all["metadata"]["resourceVersion"], "7");
        assert_eq!(all["items"].as_array().unwrap().len(), 2);
        assert_eq!(all["items"][0]["metadata"].get("managedFields"), None);
        let one = list(&filled(), Some("b"));
        assert_eq!(one["items"][0]["metadata"]["name"], "two");
        assert_eq!(one["items"].as_array().unwrap().len(), 1);
        assert_eq!(list(&filled(), Some("c"))["items"], json!([]));
    }

    #[test]
    fn nothing_is_told_of_what_is_not_known() {
        let store = Store::default();
        assert_eq!(store.list(None), None);
        assert_eq!(store.place(7), None);
    }

    #[test]
    fn what_was_deleted_before_the_list_is_not_kept_by_one_who_knew_it() {
        // He knows `two`, which was deleted at 6; no object that is left says so.
        let mut store = Store::default();
        store.fill(vec![object("a", "one", 3).into()], 6);
        assert_eq!(store.place(5), None);
        assert!(store.place(6).is_some());
        store.reach(9);
        assert_eq!(list(&store, None)["metadata"]["resourceVersion"], "9");
        assert!(store.place(9).is_some());
    }

    #[test]
    fn one_who_knows_a_version_gets_what_came_after_it() {
        let mut store = filled();
        store.apply(object("a", "one", 8));
        store.apply(object("b", "three", 9));
        store.delete(object("b", "two", 10));
        let (all, place) = lines(store.since(store.place(7).unwrap(), None));
        let words: Vec<_> = all.iter().map(|line| &line["type"]).collect();
        assert_eq!(words, ["MODIFIED", "ADDED", "DELETED"]);
        assert_eq!(lines(store.since(place, None)), (Vec::new(), place));
        let namespace = Name::parse("b");
        let (some, _) = lines(store.since(store.place(8).unwrap(), namespace.as_ref()));
        assert_eq!(some.len(), 2);
        assert_eq!(
            store.place(6),
            None,
            "the list does not say what came before it"
        );
        // From another replica, which is ahead of this one.
        assert!(store.place(12).is_some());
    }

    #[test]
    fn whoever_falls_behind_or_looks_on_over_a_new_list_lists_anew() {
        let mut store = filled();
        let place = store.place(7).unwrap();
        for version in 0..=CHANGES as u64 {
            store.apply(object("a", "one", 8 + version));
        }
        assert_eq!(store.since(place, None), Next::Gone);
        assert_eq!(store.place(7), None);
        let place = store.place(9000).unwrap();
        store.fill(vec![object("a", "one", 9000).into()], 9000);
        assert_eq!(store.since(place, None), Next::Gone);
        assert!(store.place(9000).is_some());
    }

    #[test]
    fn much_is_told_in_parts() {
        let mut store = filled();
        for version in 0..=AT_ONCE as u64 {
            store.apply(object("a", "one", 8 + version));
        }
        let (first, place) = lines(store.since(store.place(7).unwrap(), None));
        let (second, place) = lines(store.since(place, None));
        assert_eq!((first.len(), second.len()), (AT_ONCE, 1));
        assert_eq!(lines(store.since(place, None)), (Vec::new(), place));
    }
}
