//! A daemon that dies in the middle of a pull leaves nothing that the next one would use.

use std::fs;
use std::process::{Command, Stdio};

use crate::build::{disk, disk_layer, gzip, layout_with};
use crate::fake::{Fake, from_layout};
use crate::setup::{config, held, resolve, store, wait_for};

#[tokio::test]
async fn residue_is_removed_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    drop(store(folder.path()));
    fs::write(folder.path().join("store/tmp/.tmpHALF"), "half a disk").unwrap();
    fs::create_dir_all(folder.path().join("store/tmp/sub/sub")).unwrap();
    drop(store(folder.path()));
    assert!(held(folder.path()).is_empty());
}

#[tokio::test]
async fn an_index_that_cannot_be_read_is_put_aside_and_its_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout_with(
        &folder.path().join("layout"),
        &[gzip(&disk_layer(&disk("x")))],
    );
    let found = resolve(&store(folder.path()), &reference).await.unwrap();
    fs::write(folder.path().join("store/index.json"), "{ half").unwrap();
    let store = store(folder.path());
    assert!(folder.path().join("store/index.json.bad").exists());
    assert!(found.path.exists());
    assert_eq!(
        resolve(&store, &reference).await.unwrap().sha256,
        found.sha256
    );
}

/// The process that is killed; run by the next test only.
#[tokio::test]
#[ignore = "started by a_killed_daemon_leaves_nothing_that_is_used"]
async fn killed_daemon() {
    let folder = std::env::var("CATAMARAN_TEST_STORE").unwrap();
    let store = catamaran_images::ImageStore::open(folder.as_ref(), config()).unwrap();
    let reference = std::env::var("CATAMARAN_TEST_REFERENCE").unwrap();
    let _ = resolve(&store, &reference).await;
}

#[tokio::test]
async fn a_killed_daemon_leaves_nothing_that_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("whole")))]);
    let whole = layout.clone();
    let stalling = Fake::start(move |asked| {
        let mut answer = from_layout(&whole, asked);
        if answer.body.len() > 1500 {
            answer.length = Some(answer.body.len() as u64);
            answer.body.truncate(1000);
            answer.stall = true;
        }
        answer
    });
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::killed_daemon", "--ignored"])
        .env("CATAMARAN_TEST_STORE", folder.path().join("store"))
        .env("CATAMARAN_TEST_REFERENCE", stalling.reference("x:1"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let downloading = || (stalling.asked("/blobs/").len() == 2).then_some(());
    wait_for("the download", downloading);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let good = Fake::serving(&layout);
    let store = store(folder.path());
    assert!(held(folder.path()).is_empty());
    let found = resolve(&store, &good.reference("x:1")).await.unwrap();
    assert_eq!(fs::read(found.path).unwrap(), disk("whole"));
}
