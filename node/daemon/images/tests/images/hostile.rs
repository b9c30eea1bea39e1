//! Images and registries that attack: each is refused with one clear message, in bounded time and space, and nothing is left.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use catamaran_images::{ImageError, ImageStore};
use tar::EntryType;

use crate::build::{Entry, disk, disk_layer, file, gzip, layer, layout_with, special, zstd};
use crate::fake::{Answer, Fake, from_layout};
use crate::setup::{config, held, resolve, store};

/// The error for an image with these layers (bottom first); checks that nothing is left.
async fn refused(layers: &[Vec<u8>]) -> ImageError {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout_with(&folder.path().join("layout"), layers);
    let error = resolve(&store(folder.path()), &reference)
        .await
        .unwrap_err();
    assert!(
        held(folder.path()).is_empty(),
        "{error}: {:?}",
        held(folder.path())
    );
    error
}

#[tokio::test]
async fn links_devices_and_paths_out_of_the_image_are_refused() {
    let good = disk("good");
    let with = |entry: Entry<'_>| layer(&[entry, file("disk/disk.img", &good)]);
    let setuid = Entry {
        mode: 0o4755,
        ..file("disk/disk.img", b"x")
    };
    for (bytes, words) in [
        (
            layer(&[special("disk/disk.img", EntryType::Symlink, "/etc/shadow")]),
            "symbolic link",
        ),
        (
            layer(&[special("disk/disk.img", EntryType::Link, "etc/shadow")]),
            "hard link",
        ),
        (
            layer(&[special("disk/disk.img", EntryType::Block, "")]),
            "device",
        ),
        (
            layer(&[special("disk/disk.img", EntryType::Char, "")]),
            "device",
        ),
        (
            layer(&[special("disk/disk.img", EntryType::Fifo, "")]),
            "FIFO",
        ),
        (
            with(special("disk", EntryType::Symlink, "/etc")),
            "folder is needed",
        ),
        (with(file("../../etc/cron.d/x", b"x")), ".."),
        (with(file("disk/../../x", b"x")), ".."),
        (with(file("/etc/passwd", b"x")), "absolute"),
        (with(file("disk/disk.img", b"x")), "twice"),
        (layer(&[setuid]), "setuid"),
        (layer(&[]), "no file in /disk"),
        (layer(&[file("disk/a", b"x"), file("disk/b", b"y")]), "a, b"),
    ] {
        let error = refused(&[gzip(&bytes)]).await.to_string();
        assert!(error.contains(words), "{error:?} should mention {words:?}");
    }
}

#[tokio::test]
async fn disks_that_reach_outside_themselves_are_refused() {
    let mut backed = vec![0; 1 << 16];
    backed[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    backed[8..16].copy_from_slice(&512u64.to_be_bytes());
    backed[16..20].copy_from_slice(&11u32.to_be_bytes());
    backed[512..523].copy_from_slice(b"/etc/shadow");
    for (content, words) in [
        (backed, "backing file"),
        (b"KDMV rest".to_vec(), "VMDK"),
        (b"vhdxfile rest".to_vec(), "VHDX"),
        (Vec::new(), "empty"),
    ] {
        let error = refused(&[gzip(&disk_layer(&content))]).await;
        assert!(matches!(error, ImageError::Format { .. }), "{error}");
        assert!(
            error.to_string().contains(words) && error.to_string().contains("/disk/disk.img"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn real_qcow2_images_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let make = |arguments: &[&str]| {
        let made = Command::new("qemu-img")
            .current_dir(folder.path())
            .args(arguments)
            .output();
        made.is_ok_and(|o| o.status.success())
    };
    if !make(&["create", "-f", "qcow2", "plain.qcow2", "3G"]) {
        eprintln!("SKIPPED real_qcow2_images_are_told_apart: qemu-img is not installed");
        return;
    }
    assert!(make(&["create", "-f", "raw", "base.img", "1M"]));
    assert!(make(&[
        "create",
        "-f",
        "qcow2",
        "-b",
        "base.img",
        "-F",
        "raw",
        "backed.qcow2"
    ]));
    assert!(make(&[
        "create",
        "-f",
        "qcow2",
        "-o",
        "data_file=data.raw",
        "data.qcow2",
        "1M"
    ]));
    assert!(make(&[
        "create",
        "-f",
        "qcow2",
        "-o",
        "compat=0.10",
        "old.qcow2",
        "1M"
    ]));
    assert!(make(&[
        "create",
        "-f",
        "qcow2",
        "-o",
        "compression_type=zstd,extended_l2=on,cluster_size=128k",
        "new.qcow2",
        "2G"
    ]));
    assert!(make(&[
        "create",
        "-f",
        "qcow2",
        "--object",
        "secret,id=s,data=x",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s",
        "luks.qcow2",
        "1M"
    ]));
    assert!(make(&["create", "-f", "vmdk", "a.vmdk", "1M"]));
    assert!(make(&["create", "-f", "vdi", "a.vdi", "1M"]));
    assert!(make(&["create", "-f", "vpc", "a.vhd", "1M"]));
    let store = store(folder.path());
    for (name, size) in [
        ("plain.qcow2", 3u64 << 30),
        ("old.qcow2", 1 << 20),
        ("new.qcow2", 2 << 30),
    ] {
        let bytes = fs::read(path(name)).unwrap();
        let reference = layout_with(&path(&format!("{name}.d")), &[disk_layer(&bytes)]);
        let found = resolve(&store, &reference)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            (found.format, found.virtual_size),
            (catamaran_images::Format::Qcow2, size),
            "{name}"
        );
    }
    for (name, words) in [
        ("backed.qcow2", "backing file"),
        ("data.qcow2", "external data file"),
        ("luks.qcow2", "encrypt"),
        ("a.vmdk", "VMDK"),
        ("a.vdi", "VDI"),
        ("a.vhd", "VHD"),
    ] {
        let bytes = fs::read(path(name)).unwrap();
        let reference = layout_with(&path(&format!("{name}.d")), &[disk_layer(&bytes)]);
        let error = resolve(&store, &reference).await.unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
    }
}

/// A tar stream of one file of zeros, compressed on the fly.
fn bomb(zeros: u64, zstd: bool) -> Vec<u8> {
    use std::io::{Read, Write};
    let mut header = tar::Header::new_gnu();
    header.set_path("disk/disk.img").unwrap();
    header.set_mode(0o644);
    header.set_size(zeros);
    header.set_cksum();
    let mut content = header
        .as_bytes()
        .chain(std::io::repeat(0).take(zeros + 1024));
    if zstd {
        return zstd::stream::encode_all(content, 1).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut content, &mut encoder).unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_decompression_bomb_ends_at_the_limit_and_early() {
    for zstd in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let reference = layout_with(&folder.path().join("layout"), &[bomb(400 << 20, zstd)]);
        let mut config = config();
        config.limits.expansion_floor = 64 << 20;
        config.limits.expansion = 20;
        config.limits.worker_memory = 128 << 20;
        let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
        let started = Instant::now();
        let error = resolve(&store, &reference).await.unwrap_err();
        assert!(matches!(error, ImageError::Limit { .. }), "{error}");
        assert!(error.to_string().contains("expands"), "{error}");
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        assert!(held(folder.path()).is_empty());
    }
}

#[tokio::test]
async fn a_bomb_that_hides_behind_the_disk_ends_at_the_limit_too() {
    let folder = tempfile::tempdir().unwrap();
    let junk = vec![0; 100 << 20];
    let bytes = layer(&[file("disk/disk.img", &disk("x")), file("junk", &junk)]);
    let reference = layout_with(&folder.path().join("layout"), &[zstd(&bytes)]);
    let mut config = config();
    config.limits.expansion_floor = 32 << 20;
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    let error = resolve(&store, &reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Limit { .. }), "{error}");
    assert!(held(folder.path()).is_empty());
}

#[tokio::test]
async fn sizes_and_counts_beyond_the_limits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // A header that promises 8 EiB.
    let mut huge = tar::Header::new_gnu();
    huge.set_path("disk/disk.img").unwrap();
    huge.set_mode(0o644);
    huge.set_size(i64::MAX as u64);
    huge.set_cksum();
    let mut long_name = tar::Header::new_gnu();
    long_name.set_path("././@LongLink").unwrap();
    long_name.set_entry_type(EntryType::GNULongName);
    long_name.set_size(4 << 30);
    long_name.set_cksum();
    let many: Vec<_> = (0..2000).map(|n| format!("d/{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| file(name, b"")).collect();
    let mut config = config();
    config.limits.entries = 1000;
    config.limits.layers = 10;
    config.limits.disk_size = 512 << 10;
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    let eleven: Vec<_> = (0..11)
        .map(|n| layer(&[file(&format!("f{n}"), b"")]))
        .collect();
    for (name, layers, words) in [
        (
            "huge",
            vec![huge.as_bytes().to_vec()],
            "9223372036854775807",
        ),
        ("entries", vec![layer(&many)], "1000 entries"),
        ("layers", eleven, "11 layers"),
        (
            "disk",
            vec![disk_layer(&disk("too large"))],
            "allowed are 524288",
        ),
        (
            "cut",
            vec![disk_layer(&[7; 100_000])[..4096].to_vec()],
            "cut off",
        ),
        ("noise", vec![vec![0x5a; 4096]], "tar"),
        (
            "gzip noise",
            vec![[&b"\x1f\x8b\x08"[..], &[0xff; 500]].concat()],
            "tar",
        ),
        (
            "long name",
            vec![gzip(
                &[long_name.as_bytes().to_vec(), vec![b'a'; 1 << 20]].concat(),
            )],
            "tar",
        ),
    ] {
        let reference = layout_with(&folder.path().join(name), &layers);
        let error = resolve(&store, &reference).await.unwrap_err().to_string();
        assert!(
            error.contains(words),
            "{name}: {error:?} should mention {words:?}"
        );
        assert!(held(folder.path()).is_empty(), "{name}");
    }
}

fn good(folder: &Path) -> std::path::PathBuf {
    let layout = folder.join("layout");
    layout_with(&layout, &[gzip(&disk_layer(&disk("good")))]);
    layout
}

#[tokio::test]
async fn a_registry_cannot_send_us_to_this_host_or_its_link() {
    let folder = tempfile::tempdir().unwrap();
    let secret_service = Fake::start(|_| Answer::ok("internal"));
    let port = secret_service.port;
    for target in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/shadow".to_owned(),
    ] {
        for part in ["/manifests/", "/blobs/"] {
            let layout = good(folder.path());
            let (part, location) = (part.to_owned(), target.clone());
            let fake = Fake::start(move |asked| {
                if asked.path.contains(&part) {
                    return Answer::status(307).header("Location", location.clone());
                }
                from_layout(&layout, asked)
            });
            let store_folder = tempfile::tempdir().unwrap();
            let error = resolve(&store(store_folder.path()), &fake.reference("x:1"))
                .await
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    ImageError::Registry {
                        transient: false,
                        ..
                    }
                ),
                "{target}: {error}"
            );
            assert!(held(store_folder.path()).is_empty());
        }
    }
    let realm = format!("http://127.0.0.1:{port}/token");
    let fake = Fake::start(move |_| {
        Answer::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
    });
    assert!(
        resolve(&store(folder.path()), &fake.reference("x:1"))
            .await
            .is_err()
    );
    assert!(
        secret_service.asked("").is_empty(),
        "{:?}",
        secret_service.asked("")
    );
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|asked| Answer::status(307).header("Location", asked.path.clone()));
    let error = resolve(&store(folder.path()), &fake.reference("x:1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
}

#[tokio::test]
async fn an_endless_manifest_is_cut_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    for declared in [None, Some(1 << 40)] {
        let fake = Fake::start(move |asked| {
            if asked.path == "/v2/" {
                return Answer::ok("{}");
            }
            Answer {
                length: declared,
                ..Answer::ok(vec![b' '; 5 << 20])
            }
        });
        let error = resolve(&store(folder.path()), &fake.reference("x:1"))
            .await
            .unwrap_err();
        assert!(matches!(error, ImageError::Limit { .. }), "{error}");
    }
}
