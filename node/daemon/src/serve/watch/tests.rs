//! What becomes of objects when files are changed, replaced, removed and wrong.

use std::cell::{Cell, RefCell};
use std::fs;

use super::*;
use crate::serve::store::{Store, Stored};

/// A store, with somebody who stops machines when the test says so.
struct Fake {
    folder: tempfile::TempDir,
    store: Store,
    /// A machine has the claims.
    claims_taken: Cell<bool>,
    complaints: RefCell<Vec<String>>,
}

impl Target for Fake {
    fn apply(&self, documents: &[Document]) -> Result<(), StoreError> {
        for document in documents {
            let object = document.object.clone();
            self.store
                .apply(&document.key, object, document.path.as_deref(), "now")?;
        }
        Ok(())
    }

    fn homes(&self) -> Vec<Home> {
        let home = |(key, stored): (Key, Stored)| Home {
            key,
            leaving: stored.deleting(),
            file: stored.source.unwrap(),
        };
        let all = Kind::ALL.into_iter().flat_map(|kind| self.store.list(kind));
        all.map(home).collect()
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        if key.kind.runs() {
            return self.store.mark_deleted(key, "now");
        }
        if key.kind == Kind::PersistentVolumeClaim && self.claims_taken.get() {
            return Err(StoreError::InUse {
                key: key.clone(),
                owner: key.with_kind(Kind::Pod),
            });
        }
        self.store.remove(key)
    }

    fn not_deleted(&self, _: &Key, why: &str) {
        self.complaints.borrow_mut().push(why.to_owned());
    }
}

impl Fake {
    fn new() -> (Self, Watch) {
        let folder = tempfile::tempdir().unwrap();
        let manifests = folder.path().canonicalize().unwrap().join("manifests");
        fs::create_dir(&manifests).unwrap();
        let fake = Self {
            store: Store::open(&folder.path().join("objects")).unwrap(),
            folder,
            claims_taken: Cell::new(false),
            complaints: RefCell::default(),
        };
        (fake, Watch::new(vec![manifests]))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("manifests").join(name)
    }

    fn write(&self, name: &str, documents: &[String]) {
        fs::write(self.file(name), documents.join("---\n")).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    /// All objects, `-` before those on their way out.
    fn objects(&self) -> Vec<String> {
        let mut all = Vec::new();
        for home in self.homes() {
            let leaving = if home.leaving { "-" } else { "" };
            all.push(format!("{leaving}{}", home.key.name));
        }
        all
    }

    /// Everything that was asked to stop has stopped.
    fn stopped(&self) {
        for home in self.homes().iter().filter(|home| home.leaving) {
            assert!(home.key.kind.runs(), "nobody finalizes {}", home.key);
            self.store.remove(&home.key).unwrap();
        }
    }
}

fn pod(name: &str, image: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: {image}}}]}}}}\n"
    )
}

fn map(name: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}, data: {{a: b}}}}\n")
}

fn claim(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}\n"
    )
}

#[test]
fn a_document_taken_out_of_a_file_is_gone_and_can_come_back() {
    let (fake, mut watch) = Fake::new();
    fake.write("a.yaml", &[map("m"), claim("d"), pod("p", "x")]);
    watch.look(&fake);
    assert_eq!(fake.objects(), ["m", "d", "p"]);
    fake.write("a.yaml", &[pod("p", "x")]);
    watch.look(&fake);
    watch.look(&fake);
    assert_eq!(fake.objects(), ["p"]);
    fake.write("a.yaml", &[map("m"), claim("d"), pod("p", "x")]);
    watch.look(&fake);
    assert_eq!(fake.objects(), ["m", "d", "p"]);
}

#[test]
fn a_file_that_is_replaced_or_written_in_two_steps_stops_nothing() {
    let (fake, mut watch) = Fake::new();
    fake.write("a.yaml", &[pod("p", "x")]);
    watch.look(&fake);
    watch.look(&fake);
    let text = fs::read(fake.file("a.yaml")).unwrap();
    fake.remove("a.yaml");
    watch.look(&fake);
    fs::write(fake.file("a.yaml"), &text).unwrap();
    watch.look(&fake);
    fs::write(fake.file("a.yaml"), "").unwrap();
    watch.look(&fake);
    fs::write(fake.file("a.yaml"), &text).unwrap();
    for _ in 0..3 {
        watch.look(&fake);
        assert_eq!(fake.objects(), ["p"]);
    }
}

#[test]
fn a_removed_file_that_is_back_while_its_pod_stops_is_applied_when_it_has_stopped() {
    for back in ["x", "y"] {
        let (fake, mut watch) = Fake::new();
        fake.write("a.yaml", &[pod("p", "x")]);
        watch.look(&fake);
        fake.remove("a.yaml");
        watch.look(&fake);
        watch.look(&fake);
        assert_eq!(fake.objects(), ["-p"]);
        fake.write("a.yaml", &[pod("p", back)]);
        watch.look(&fake);
        watch.look(&fake);
        assert_eq!(fake.objects(), ["-p"]);
        fake.stopped();
        watch.look(&fake);
        assert_eq!(fake.objects(), ["p"], "with {back}");
    }
}

#[test]
fn what_a_pod_runs_on_goes_after_it() {
    let (fake, mut watch) = Fake::new();
    fake.write("a.yaml", &[claim("d"), map("m"), pod("p", "x")]);
    watch.look(&fake);
    fake.remove("a.yaml");
    for _ in 0..4 {
        watch.look(&fake);
    }
    assert_eq!(fake.objects(), ["m", "d", "-p"]);
    assert!(fake.complaints.borrow().is_empty());
    fake.stopped();
    fake.claims_taken.set(true);
    for _ in 0..4 {
        watch.look(&fake);
    }
    assert_eq!(fake.objects(), ["d"]);
    assert_eq!(fake.complaints.borrow().len(), 1);
    fake.claims_taken.set(false);
    watch.look(&fake);
    assert!(fake.objects().is_empty());
}

#[test]
fn one_bad_file_keeps_no_other_down_and_its_objects_stay() {
    let (fake, mut watch) = Fake::new();
    fake.write("a.yaml", &[pod("a", "x")]);
    fake.write("b.yaml", &["a: [".to_owned()]);
    fake.write("c.yaml", &[map("c")]);
    fs::write(fake.file("d.yaml"), b"\xff\xfe").unwrap();
    watch.look(&fake);
    assert_eq!(fake.objects(), ["c", "a"]);
    fake.write("a.yaml", &["{kind: Pod}".to_owned()]);
    for _ in 0..3 {
        watch.look(&fake);
        assert_eq!(fake.objects(), ["c", "a"]);
    }
}

#[test]
fn an_object_has_one_file_and_moves_when_that_lets_it_go() {
    let (fake, mut watch) = Fake::new();
    fake.write("b.yaml", &[pod("p", "x")]);
    watch.look(&fake);
    // Its file is the first that has it.
    fake.write("c.yaml", &[pod("p", "y"), map("m")]);
    for _ in 0..3 {
        watch.look(&fake);
    }
    assert_eq!(fake.objects(), ["p"]);
    fake.write("b.yaml", &[map("other")]);
    for _ in 0..3 {
        watch.look(&fake);
        assert_eq!(fake.objects(), ["m", "other", "p"]);
    }
    let key = Key::new(Kind::Pod, "default", "p");
    let file = fake.file("c.yaml").canonicalize().unwrap();
    assert_eq!(fake.store.get(&key).unwrap().source, Some(file));
}
