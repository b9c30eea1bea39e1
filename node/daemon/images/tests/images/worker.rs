//! The worker process: shut in before it reads, and harmless when it fails.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use catamaran_images::{ImageError, ImageStore};

use crate::build::{disk, disk_layer, layout_with};
use crate::setup::{config, held, is_root, resolve, wait_for};

/// A request as the daemon makes it, for a layer of `length` bytes.
fn layer_request(root: &Path, length: u64) -> String {
    serde_json::json!({
        "confine": {"uid": 107, "gid": 107, "root": root, "memory": 512 << 20, "cpu_seconds": 60, "file_size": 1u64 << 40},
        "task": {"Layer": {
            "offset": 0, "length": length, "wanted": {"folder": "disk", "name": null}, "hidden": [], "extract": true, "inspect": true,
            "max_entries": 1000, "max_expanded": 1u64 << 40, "max_file_size": 1u64 << 40, "max_virtual_size": 1u64 << 40,
        }},
    })
    .to_string()
}

#[test]
fn the_worker_is_shut_in_while_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // A layer with a disk of 8 GiB, nearly all holes: long enough to be looked at.
    let size = 8u64 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_path("disk/disk.img").unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let blob = File::create_new(folder.path().join("blob")).unwrap();
    blob.write_all_at(header.as_bytes(), 0).unwrap();
    blob.set_len(512 + size + 1024).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_image-worker-for-tests"))
        .arg(layer_request(&empty, 512 + size + 1024))
        .env_clear()
        .stdin(File::open(folder.path().join("blob")).unwrap())
        .stdout(
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(folder.path().join("out"))
                .unwrap(),
        )
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let proc = format!("/proc/{}", child.id());
    // The filter is the last step.
    let status = wait_for("the filter", || {
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        assert!(!status.contains("State:\tZ"), "the worker ended early");
        status.contains("Seccomp:\t2").then_some(status)
    });
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    if is_root() {
        assert_eq!(field("Uid:"), "107 107 107 107");
        assert_eq!(field("Gid:"), "107 107 107 107");
        assert_eq!(field("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            fs::read_link(format!("{proc}/root")).unwrap(),
            empty.canonicalize().unwrap()
        );
        for namespace in ["net", "ipc", "uts"] {
            let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{namespace}")).unwrap();
            assert_ne!(of(&child.id().to_string()), of("self"), "{namespace}");
        }
    } else {
        eprintln!(
            "SKIPPED the user and namespaces of the_worker_is_shut_in_while_it_works: needs root"
        );
    }
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    assert!(limits.contains(&(512u64 << 20).to_string()), "{limits}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_worker_reads_nothing_when_it_cannot_shut_itself_in() {
    if !is_root() {
        eprintln!("SKIPPED the_worker_reads_nothing_when_it_cannot_shut_itself_in: needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (request, words) in [
        (layer_request(&folder.path().join("missing"), 10), "chroot"),
        (
            layer_request(folder.path(), 10).replace("\"uid\":107", "\"uid\":0"),
            "must not be root",
        ),
        ("{}".to_owned(), "request cannot be read"),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_image-worker-for-tests"))
            .arg(request)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(!out.status.success());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(said.contains("Confine") && said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_or_talks_nonsense_is_reported_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let reference = layout_with(&folder.path().join("layout"), &[disk_layer(&disk("x"))]);
    for (name, script, words) in [
        ("dies", "kill -9 $$", "signal 9"),
        ("nonsense", "echo boo >&2", "boo"),
        (
            "lies",
            r#"echo '{"Done":{"Archive":[]}}' >&2"#,
            "another question",
        ),
        (
            "short",
            r#"echo '{"Done":{"Layer":{"findings":{"files":["d"],"whiteouts":[],"hides_rest":false},"file":{"name":"d","size":5,"sha256":"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","inspection":{"format":"raw","virtual_size":5}}}}}' >&2"#,
            "said 5",
        ),
    ] {
        let mut config = config();
        config.worker.program = "/bin/sh".into();
        config.worker.arguments = vec!["-c".into(), script.into()];
        let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
        let error = resolve(&store, &reference).await.unwrap_err();
        assert!(
            matches!(error, ImageError::Worker { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(held(folder.path()).is_empty(), "{name}");
    }
    let mut config = config();
    config.worker.program = "/bin/sh".into();
    config.worker.arguments = vec!["-c".into(), "exec sleep 1000".into()];
    config.limits.worker_time = std::time::Duration::from_millis(100);
    let store = ImageStore::open(&folder.path().join("store"), config).unwrap();
    let error = resolve(&store, &reference).await.unwrap_err();
    assert!(matches!(error, ImageError::Limit { .. }), "{error}");
}
