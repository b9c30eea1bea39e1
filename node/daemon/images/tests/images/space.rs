//! A full disk: checked before the download where sizes are known, and survived where they are not.

use std::path::Path;

use catamaran_images::{ImageError, ImageStore};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::build::{disk_layer, gzip, layout_with};
use crate::fake::Fake;
use crate::setup::{config, held, is_root, resolve};

/// Runs `test` in a mount namespace of its own thread, with a tmpfs of so many MiB at the folder that it gets.
fn with_small_disk(name: &str, mib: u32, test: impl AsyncFnOnce(&Path)) {
    if !is_root() {
        eprintln!("SKIPPED {name}: needs root to mount a small tmpfs");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .unwrap();
    let options = format!("size={mib}m");
    mount(
        Some("tmpfs"),
        folder.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .unwrap();
    // Its helper threads are children of this thread and see the same mounts.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test(folder.path()));
    drop(runtime);
    nix::mount::umount(folder.path()).unwrap();
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out
}

#[test]
fn a_layer_that_does_not_fit_is_not_even_fetched() {
    with_small_disk(
        "a_layer_that_does_not_fit_is_not_even_fetched",
        4,
        async |small| {
            let folder = tempfile::tempdir().unwrap();
            layout_with(folder.path(), &[gzip(&disk_layer(&noise(8 << 20)))]);
            let fake = Fake::serving(folder.path());
            let store = ImageStore::open(&small.join("store"), config()).unwrap();
            let error = resolve(&store, &fake.reference("x:1")).await.unwrap_err();
            assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
            assert!(error.to_string().contains("needed"), "{error}");
            assert_eq!(fake.asked("/blobs/").len(), 1, "the config only");
            assert!(held(small).is_empty());
        },
    );
}

#[test]
fn a_disk_that_does_not_fit_leaves_no_half_image() {
    with_small_disk(
        "a_disk_that_does_not_fit_leaves_no_half_image",
        12,
        async |small| {
            let folder = tempfile::tempdir().unwrap();
            // The layer fits, layer and disk together do not.
            layout_with(folder.path(), &[disk_layer(&noise(8 << 20))]);
            let fake = Fake::serving(folder.path());
            let store = ImageStore::open(&small.join("store"), config()).unwrap();
            let error = resolve(&store, &fake.reference("x:1")).await.unwrap_err();
            assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
            assert!(
                error.to_string().contains("no space left") && error.is_transient(),
                "{error}"
            );
            assert!(held(small).is_empty(), "{:?}", held(small));

            // The same store works again with a smaller image.
            layout_with(folder.path(), &[disk_layer(&noise(1 << 20))]);
            let mut always = crate::setup::request(&fake.reference("x:1"));
            always.policy = catamaran_images::PullPolicy::Always;
            store.resolve(always, None).await.unwrap();
        },
    );
}

#[test]
fn a_pull_leaves_the_reserve_free() {
    with_small_disk("a_pull_leaves_the_reserve_free", 100, async |small| {
        let folder = tempfile::tempdir().unwrap();
        let reference = layout_with(folder.path(), &[disk_layer(&noise(60 << 20))]);
        let mut config = config();
        config.limits.keep_free = 60 << 20;
        let store = ImageStore::open(&small.join("store"), config).unwrap();
        let error = resolve(&store, &reference).await.unwrap_err();
        assert!(matches!(error, ImageError::NoSpace { .. }), "{error}");
        assert!(held(small).is_empty());
    });
}
