//! Images in OCI layouts and archives, and in the folders that `play --images` names.

use std::fs;
use std::process::Command;

use catamaran_images::{Digest, ImageError, ImageStore, PullPolicy};
use serde_json::json;

use crate::build::{Layout, disk, disk_layer, file, gzip, layer, layout_with};
use crate::setup::{config, held, missing, request, resolve, run, store};

#[tokio::test]
async fn a_layout_and_the_archive_of_it_give_the_same_disk() {
    if missing("a_layout_and_the_archive_of_it_give_the_same_disk") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let reference = layout_with(&layout, &[gzip(&disk_layer(&disk("local")))]);
    let archive = folder.path().join("x.tar");
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--preserve-digests"])
        .args([
            format!("oci:{}:x:1", layout.display()),
            format!("oci-archive:{}:x:1", archive.display()),
        ]));
    let from_layout = resolve(&store(folder.path()), &reference).await.unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let from_archive = resolve(
        &store(&other),
        &format!("oci-archive:{}", archive.display()),
    )
    .await
    .unwrap();
    assert_eq!(from_layout.digest, from_archive.digest);
    assert_eq!(from_layout.sha256, from_archive.sha256);
    assert_eq!(fs::read(&from_archive.path).unwrap(), disk("local"));
}

#[tokio::test]
async fn an_archive_that_is_compressed_or_no_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for (name, bytes, words) in [
        (
            "gz.tar",
            gzip(&layer(&[file("index.json", b"{}")])),
            "compressed",
        ),
        ("text.tar", vec![b'x'; 2000], "tar"),
        ("none.tar", layer(&[file("readme", b"x")]), "index.json"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = resolve(&store, &format!("oci-archive:{}", path.display()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn an_ordinary_reference_is_found_in_a_local_layout_whatever_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let mut layout = Layout::new(&images.join("minimal"));
    let digest = layout.image(
        "catamaran.local/minimal:dev",
        &[gzip(&disk_layer(&disk("dev")))],
    );
    let mut config = config();
    config.local_layouts = vec![folder.path().join("missing"), images];
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    for policy in [
        PullPolicy::Always,
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
    ] {
        let mut wanted = request("catamaran.local/minimal:dev");
        wanted.policy = policy;
        assert_eq!(store.resolve(wanted, None).await.unwrap().digest, digest);
    }
    let pinned = format!("catamaran.local/minimal@{digest}");
    assert_eq!(resolve(&store, &pinned).await.unwrap().digest, digest);
    let mut other = request("catamaran.local/other:dev");
    other.policy = PullPolicy::Never;
    let error = store.resolve(other, None).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImageNeverPull");
    let error = resolve(&store, "catamaran.local/other:dev")
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("is never a registry"),
        "{error}"
    );

    // A new build under the same name is used at once.
    let mut layout = Layout::new(&folder.path().join("images/minimal"));
    let newer = layout.image(
        "catamaran.local/minimal:dev",
        &[gzip(&disk_layer(&disk("newer")))],
    );
    let found = resolve(&store, "catamaran.local/minimal:dev")
        .await
        .unwrap();
    assert_eq!(found.digest, newer);
    assert!(fs::read(found.path).unwrap().starts_with(b"newer"));
}

#[tokio::test]
async fn a_layout_with_several_images_wants_a_name_and_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let mut layout = Layout::new(&path);
    layout.image("a:1", &[disk_layer(&disk("a"))]);
    layout.image("b:1", &[disk_layer(&disk("b"))]);
    let store = store(folder.path());
    let error = resolve(&store, &format!("oci:{}", path.display()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a:1, b:1"), "{error}");
    let error = resolve(&store, &format!("oci:{}:c:1", path.display()))
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::NotFound { .. }), "{error}");
    assert!(
        resolve(&store, &format!("oci:{}:b:1", path.display()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_image_for_this_machine_is_taken_from_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let mut layout = Layout::new(&path);
    let (other, other_size) = layout.manifest(&[disk_layer(&disk("s390x"))], "s390x");
    let (ours, our_size) = layout.manifest(&[disk_layer(&disk("ours"))], "amd64");
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
        {"mediaType": kind, "digest": other, "size": other_size, "platform": {"os": "linux", "architecture": "s390x"}},
        {"mediaType": kind, "digest": ours, "size": our_size, "platform": {"os": "linux", "architecture": "amd64"}},
    ]})
    .to_string();
    let digest = layout.blob(index.as_bytes());
    layout.name(
        "x:1",
        &digest,
        index.len(),
        "application/vnd.oci.image.index.v1+json",
    );
    layout.name("s390x:1", &other, other_size, kind);
    let store = store(folder.path());
    let found = resolve(&store, &format!("oci:{}:x:1", path.display()))
        .await
        .unwrap();
    assert_eq!(found.digest, ours);
    assert!(fs::read(found.path).unwrap().starts_with(b"ours"));
    // Without an index the config tells.
    let error = resolve(&store, &format!("oci:{}:s390x:1", path.display()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("s390x"), "{error}");
}

#[tokio::test]
async fn kernel_and_initrd_come_from_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let lower = layer(&[
        file("boot/vmlinuz", b"old kernel"),
        file("boot/initrd.img", b"initrd"),
    ]);
    let upper = layer(&[file("boot/vmlinuz", b"new kernel")]);
    let reference = layout_with(&path, &[gzip(&lower), gzip(&upper)]);
    let store = store(folder.path());
    let image = || {
        (
            reference.parse().unwrap(),
            PullPolicy::IfNotPresent,
            catamaran_images::PullAuth::none(),
        )
    };
    let part = |text: &str| Some(text.parse().unwrap());
    let found = store
        .resolve_kernel(
            image(),
            part("/boot/vmlinuz"),
            part("/boot/initrd.img"),
            None,
        )
        .await
        .unwrap();
    assert_eq!(fs::read(found.kernel.unwrap().1).unwrap(), b"new kernel");
    assert_eq!(fs::read(found.initrd.unwrap().1).unwrap(), b"initrd");
    let only = store
        .resolve_kernel(image(), None, part("/boot/initrd.img"), None)
        .await
        .unwrap();
    assert!(only.kernel.is_none() && only.initrd.is_some());
    let error = store
        .resolve_kernel(image(), part("/boot/none"), None, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/boot/none"), "{error}");
    assert!(
        store
            .resolve_kernel(image(), None, None, None)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_blob_that_was_changed_in_a_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let bytes = gzip(&disk_layer(&disk("genuine")));
    let reference = layout_with(&path, std::slice::from_ref(&bytes));
    let blob = path.join("blobs/sha256").join(Digest::of(&bytes).hex());
    let mut changed = bytes.clone();
    changed[40] ^= 1;
    fs::write(&blob, &changed).unwrap();
    let error = resolve(&store(folder.path()), &reference)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ImageError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(held(folder.path()).is_empty());
}

#[tokio::test]
async fn blobs_that_are_links_or_fifos_are_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let bytes = disk_layer(&disk("x"));
    let reference = layout_with(&path, std::slice::from_ref(&bytes));
    let blob = path.join("blobs/sha256").join(Digest::of(&bytes).hex());
    fs::remove_file(&blob).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &blob).unwrap();
    let store = store(folder.path());
    assert!(resolve(&store, &reference).await.is_err());
    fs::remove_file(&blob).unwrap();
    nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(resolve(&store, &reference).await.is_err());
}

#[tokio::test]
async fn host_paths_are_refused_where_they_are_not_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.local_references = false;
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    let error = resolve(&store, "oci:/etc").await.unwrap_err();
    assert_eq!(error.reason(), "InvalidImageName");
}
