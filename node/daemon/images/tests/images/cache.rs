//! The cache: shared pulls, policies, shared layers, collection.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use catamaran_images::{ImageError, ImageStore, Phase, Progress, PullPolicy};
use tokio::sync::watch;

use crate::build::{Layout, disk, disk_layer, gzip, layout_with};
use crate::fake::Fake;
use crate::setup::{config, held, mode, request, resolve, store};

fn served(folder: &Path, mark: &str) -> Fake {
    let layout = folder.join(mark);
    layout_with(&layout, &[gzip(&disk_layer(&disk(mark)))]);
    Fake::serving(&layout)
}

#[tokio::test]
async fn equal_requests_at_the_same_time_share_one_pull() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "shared");
    let store = store(folder.path());
    let reference = fake.reference("x:1");
    let all = futures::future::join_all((0..20).map(|_| resolve(&store, &reference))).await;
    let paths: BTreeSet<_> = all.into_iter().map(|r| r.unwrap().path).collect();
    assert_eq!(paths.len(), 1);
    assert_eq!(fake.asked("/manifests/").len(), 1);
    // Config and layer, once each.
    assert_eq!(fake.asked("/blobs/").len(), 2);
}

#[tokio::test]
async fn different_tags_of_one_layer_fetch_it_once_also_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "tags");
    let store = store(folder.path());
    let references: Vec<_> = (0..5).map(|n| fake.reference(&format!("x:{n}"))).collect();
    let all = futures::future::join_all(references.iter().map(|r| resolve(&store, r))).await;
    let paths: BTreeSet<_> = all.into_iter().map(|r| r.unwrap().path).collect();
    assert_eq!(paths.len(), 1);
    let layers: BTreeSet<_> = fake.asked("/blobs/").into_iter().map(|a| a.path).collect();
    let layer_fetches = fake.asked("/blobs/").len() - 5;
    assert_eq!(
        (layers.len(), layer_fetches),
        (2, 1),
        "five configs and one layer"
    );
    assert_eq!(held(folder.path()).len(), 1);
}

#[tokio::test]
async fn a_pull_goes_on_for_those_who_still_wait_and_ends_when_nobody_does() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "leaving");
    let store = store(folder.path());
    let reference = fake.reference("x:1");
    {
        let mut first = Box::pin(resolve(&store, &reference));
        let mut second = Box::pin(resolve(&store, &reference));
        assert!(futures::poll!(&mut first).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap();
    }
    let other = fake.reference("other:1");
    let mut alone = Box::pin(resolve(&store, &other));
    assert!(futures::poll!(&mut alone).is_pending());
    drop(alone);
    assert_eq!(held(folder.path()).len(), 1, "{:?}", held(folder.path()));
}

#[tokio::test]
async fn progress_ends_with_done_for_everyone() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "progress");
    let store = store(folder.path());
    let reference = fake.reference("x:1");
    let (one, mut seen_one) = watch::channel(Progress::default());
    let (two, seen_two) = watch::channel(Progress::default());
    let watching = async {
        let mut phases = Vec::new();
        while seen_one.changed().await.is_ok() {
            let now = seen_one.borrow_and_update().clone();
            assert!(now.total == 0 || now.done <= now.total, "{now:?}");
            phases.push(now.phase);
        }
        phases
    };
    let pulling = async {
        let both = futures::future::join(
            store.resolve(request(&reference), Some(one)),
            store.resolve(request(&reference), Some(two)),
        )
        .await;
        both.0.unwrap();
        both.1.unwrap();
    };
    let (phases, ()) = futures::future::join(watching, pulling).await;
    assert_eq!(phases.last(), Some(&Phase::Done), "{phases:?}");
    assert_eq!(seen_two.borrow().phase, Phase::Done);
}

#[tokio::test]
async fn pull_policies_ask_the_registry_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "policy");
    let store = store(folder.path());
    let reference = fake.reference("x:1");
    let with = |policy| {
        let mut wanted = request(&reference);
        wanted.policy = policy;
        store.resolve(wanted, None)
    };
    let error = with(PullPolicy::Never).await.unwrap_err();
    assert!(
        matches!(error, ImageError::NotPresent { .. }) && error.reason() == "ErrImageNeverPull"
    );
    assert!(fake.asked("/v2/").is_empty());
    with(PullPolicy::IfNotPresent).await.unwrap();
    with(PullPolicy::IfNotPresent).await.unwrap();
    with(PullPolicy::Never).await.unwrap();
    assert_eq!(fake.asked("/manifests/").len(), 1);
    with(PullPolicy::Always).await.unwrap();
    assert_eq!(fake.asked("/manifests/").len(), 2);
    assert_eq!(
        fake.asked("/blobs/").len(),
        2,
        "layers are not fetched again"
    );
}

#[tokio::test]
async fn a_moved_tag_is_seen_by_always_only() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("old")))]);
    let fake = Fake::serving(&layout);
    let store = store(folder.path());
    let reference = fake.reference("x:1");
    let old = resolve(&store, &reference).await.unwrap();
    layout_with(&layout, &[gzip(&disk_layer(&disk("new")))]);
    assert_eq!(
        resolve(&store, &reference).await.unwrap().digest,
        old.digest
    );
    let mut always = request(&reference);
    always.policy = PullPolicy::Always;
    let new = store.resolve(always, None).await.unwrap();
    assert_ne!(new.digest, old.digest);
    assert!(fs::read(&new.path).unwrap().starts_with(b"new"));
    assert!(
        fs::read(&old.path).unwrap().starts_with(b"old"),
        "the file of a running VM stays"
    );
    assert_eq!(
        resolve(&store, &reference).await.unwrap().digest,
        new.digest
    );
}

#[tokio::test]
async fn the_cache_survives_a_restart_and_notices_missing_files() {
    let folder = tempfile::tempdir().unwrap();
    let fake = served(folder.path(), "restart");
    let reference = fake.reference("x:1");
    let first = resolve(&store(folder.path()), &reference).await.unwrap();
    let again = resolve(&store(folder.path()), &reference).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(fake.asked("/manifests/").len(), 1);
    fs::remove_file(&first.path).unwrap();
    let third = resolve(&store(folder.path()), &reference).await.unwrap();
    assert_eq!(fs::read(third.path).unwrap(), disk("restart"));
}

#[tokio::test]
async fn one_store_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let open = store(folder.path());
    let error = ImageStore::open(&folder.path().join("store"), config()).unwrap_err();
    assert!(matches!(error, ImageError::Locked { .. }), "{error}");
    drop(open);
    store(folder.path());
}

#[tokio::test]
async fn other_users_have_no_way_to_the_disks() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let disks = folder.path().join("store/disks");
    // As an older version made it.
    fs::create_dir_all(&disks).unwrap();
    fs::set_permissions(&disks, fs::Permissions::from_mode(0o755)).unwrap();
    store(folder.path());
    let mode = disks.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn holes_in_a_disk_take_no_space() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let mut content = vec![0; 32 << 20];
    content[20 << 20] = 1;
    let reference = layout_with(
        &folder.path().join("layout"),
        &[gzip(&disk_layer(&content))],
    );
    let found = resolve(&store(folder.path()), &reference).await.unwrap();
    assert_eq!(fs::read(&found.path).unwrap(), content);
    assert!(fs::metadata(&found.path).unwrap().blocks() * 512 < 1 << 20);
}

#[tokio::test]
async fn collection_removes_what_is_unused_and_old_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let mut layout = Layout::new(&path);
    for name in ["used:1", "unused:1", "fresh:1"] {
        layout.image(name, &[gzip(&disk_layer(&disk(name)))]);
    }
    let store = store(folder.path());
    let get = |name: &str| resolve_owned(&store, format!("oci:{}:{name}", path.display()));
    let used = get("used:1").await;
    let unused = get("unused:1").await;
    let orphan = folder.path().join("store/disks/feed.img");
    fs::write(&orphan, vec![1; 8192]).unwrap();
    let in_use = BTreeSet::from([used.id.clone()]);
    let now = SystemTime::now();

    let report = store.gc(&in_use, now, Duration::from_secs(3600)).unwrap();
    assert!(report.removed.is_empty(), "all are fresh: {report:?}");

    let later = now + Duration::from_secs(7200);
    let report = store.gc(&in_use, later, Duration::from_secs(3600)).unwrap();
    assert_eq!(
        BTreeSet::from_iter(report.removed),
        BTreeSet::from([unused.id.clone(), "feed".to_owned()])
    );
    assert!(report.freed >= 8192 + 4096, "{}", report.freed);
    assert!(used.path.exists() && !unused.path.exists() && !orphan.exists());

    // What is gone is pulled again, what stayed is not.
    let fresh = get("fresh:1").await;
    assert_eq!(get("unused:1").await, unused);
    assert_eq!(get("used:1").await, used);
    assert_eq!(mode(&unused.path), 0o444);
    // A clock that went back removes nothing.
    let report = store
        .gc(
            &BTreeSet::new(),
            SystemTime::UNIX_EPOCH,
            Duration::from_secs(1),
        )
        .unwrap();
    assert!(report.removed.is_empty() && fresh.path.exists());
}

async fn resolve_owned(store: &ImageStore, reference: String) -> catamaran_images::DiskImage {
    resolve(store, &reference).await.unwrap()
}
