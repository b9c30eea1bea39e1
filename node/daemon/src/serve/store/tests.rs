//! What the store promises: content acts once, restarts lose nothing, a full disk hides nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

fn object(cpu: u32) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "a", "namespace": "default"}, "spec": {"cpu": cpu}})
}

fn key() -> Key {
    Key::new(Kind::VirtualMachine, "default", "a")
}

#[test]
fn same_content_acts_once_and_verbs_survive_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(
        store.apply(&key(), object(1), None, "now").unwrap(),
        Applied::Created
    );
    store
        .edit(&key(), |o| o["spec"]["runStrategy"] = "Halted".into())
        .unwrap();
    assert_eq!(
        store.apply(&key(), object(1), None, "later").unwrap(),
        Applied::Unchanged
    );
    assert_eq!(
        store.get(&key()).unwrap().object["spec"]["runStrategy"],
        "Halted"
    );
    assert_eq!(
        store.apply(&key(), object(2), None, "later").unwrap(),
        Applied::Configured
    );
    let stored = store.get(&key()).unwrap();
    assert_eq!(stored.object["metadata"]["generation"], 2);
    assert_eq!(stored.object["metadata"]["creationTimestamp"], "now");
}

#[test]
fn the_same_content_from_another_place_undoes_no_verb_and_files_stay_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (one, two) = (Path::new("/m/one.yaml"), Path::new("/m/two.yaml"));
    store.apply(&key(), object(1), Some(one), "now").unwrap();
    store
        .edit(&key(), |o| o["spec"]["runStrategy"] = "Halted".into())
        .unwrap();
    let stopped = store.get(&key()).unwrap().object;
    for (source, home) in [(None, one), (Some(two), two), (None, two)] {
        let applied = store.apply(&key(), object(1), source, "later").unwrap();
        assert_eq!(applied, Applied::Unchanged);
        for store in [&store, &Store::open(folder.path()).unwrap()] {
            let stored = store.get(&key()).unwrap();
            assert_eq!(stored.object, stopped, "applied from {source:?}");
            assert_eq!(stored.source.as_deref(), Some(home));
        }
    }
    store.apply(&key(), object(2), None, "later").unwrap();
    let stored = store.get(&key()).unwrap();
    assert_eq!(stored.source.as_deref(), Some(two));
    assert!(stored.object["spec"].get("runStrategy").is_none());
}

#[test]
fn objects_are_there_after_a_restart_and_cut_off_writes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.apply(&key(), object(1), None, "now").unwrap();
    fs::write(folder.path().join("VirtualMachine/default/b.json.new"), "{").unwrap();
    let again = Store::open(folder.path()).unwrap();
    assert_eq!(
        again.list(Kind::VirtualMachine),
        store.list(Kind::VirtualMachine)
    );
}

#[test]
fn status_of_a_manifest_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut with_status = object(1);
    with_status["status"] = json!({"ready": true});
    store.apply(&key(), with_status, None, "now").unwrap();
    assert!(store.get(&key()).unwrap().object.get("status").is_none());
}

/// A file system of its own, full but for what it takes to make a folder. `None` without root.
fn full_disk() -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::create_dir(&path).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &path, "tmpfs", flags, Some(c"size=64k")).ok()?;
    Some((folder, path))
}

#[test]
fn a_status_is_seen_though_the_disk_is_full_and_written_when_it_no_longer_is() {
    let Some((_folder, disk)) = full_disk() else {
        eprintln!("skipped: needs root");
        return;
    };
    let store = Store::open(&disk).unwrap();
    store.apply(&key(), object(1), None, "now").unwrap();
    let filler = disk.join("filler");
    assert!(fs::write(&filler, vec![0; 1 << 20]).is_err());

    let told = store.edit(&key(), |o| o["status"] = json!({"phase": "Running"}));
    assert!(told.unwrap());
    let seen = store.get(&key()).unwrap();
    assert_eq!(seen.object["status"]["phase"], "Running");
    let asked = store.edit(&key(), |o| o["spec"]["runStrategy"] = "Halted".into());
    assert!(asked.unwrap_err().is_full());
    assert_eq!(store.get(&key()).unwrap(), seen);

    fs::remove_file(filler).unwrap();
    store.write_again();
    assert_eq!(Store::open(&disk).unwrap().get(&key()).unwrap(), seen);
    assert!(store.unwritten.borrow().is_empty());
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn object_on_its_way_out_is_not_applied() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.apply(&key(), object(1), None, "now").unwrap();
    store.mark_deleted(&key(), "now").unwrap();
    assert!(matches!(
        store.apply(&key(), object(2), None, "now"),
        Err(StoreError::Deleting(_))
    ));
}

#[test]
fn deletion_that_nobody_finishes_is_finished_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let config = Key::new(Kind::ConfigMap, "default", "c");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}});
    store.apply(&config, map.clone(), None, "now").unwrap();
    store.mark_deleted(&config, "now").unwrap();
    store.apply(&key(), object(1), None, "now").unwrap();
    store.mark_deleted(&key(), "now").unwrap();
    let again = Store::open(folder.path()).unwrap();
    assert!(again.get(&key()).unwrap().deleting());
    let applied = again.apply(&config, map, None, "later").unwrap();
    assert_eq!(applied, Applied::Created);
}
