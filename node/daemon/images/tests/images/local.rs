//! Local disk files: what may be one, and making one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use catamaran_images::{ImageError, create_raw, ensure_raw, open_disk};
use nix::sys::stat::Mode;

use crate::setup::is_root;

#[test]
fn only_a_regular_file_with_one_name_is_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("good"), vec![0; 4096]).unwrap();
    symlink("/etc/passwd", path("link")).unwrap();
    symlink("good", path("inner-link")).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(path("socket")).unwrap();
    fs::write(path("first"), "x").unwrap();
    fs::hard_link(path("first"), path("second")).unwrap();
    fs::write(path("empty"), "").unwrap();
    assert_eq!(open_disk(folder.path(), "good").unwrap().size, 4096);
    let mut cases = vec![
        ("link", "symbolic link"),
        ("inner-link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("folder", "a folder"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
        ("first", "hard links"),
        ("empty", "empty"),
        ("missing", "no such file"),
        ("..", "plain file name"),
        ("../etc/passwd", "plain file name"),
        ("", "plain file name"),
    ];
    if is_root()
        && nix::sys::stat::mknod(
            &path("device"),
            nix::sys::stat::SFlag::S_IFCHR,
            Mode::S_IRWXU,
            nix::sys::stat::makedev(1, 3),
        )
        .is_ok()
    {
        cases.push(("device", "a device"));
    } else {
        eprintln!(
            "SKIPPED the device in only_a_regular_file_with_one_name_is_a_disk: needs root and mknod"
        );
    }
    for (name, words) in cases {
        let error = open_disk(folder.path(), name).unwrap_err();
        assert!(
            matches!(error, ImageError::LocalDisk { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains(words), "{name}: {error}");
        if name != "missing" {
            assert!(
                ensure_raw(folder.path(), name, 4096, (107, 107)).is_err(),
                "{name}"
            );
        }
    }
}

#[test]
fn a_made_disk_is_sparse_private_and_owned_by_the_vm() {
    let folder = tempfile::tempdir().unwrap();
    let made = create_raw(folder.path(), "disk.img", (1 << 30) + 1, (107, 107)).unwrap();
    assert_eq!((made.size, made.mode), ((1 << 30) + 4096, 0o600));
    let seen = fs::metadata(folder.path().join("disk.img")).unwrap();
    assert_eq!(seen.blocks(), 0);
    if is_root() {
        assert_eq!((made.uid, made.gid), (107, 107));
    }
    assert!(
        create_raw(folder.path(), "disk.img", 4096, (107, 107))
            .unwrap_err()
            .to_string()
            .contains("already")
    );
    let again = ensure_raw(folder.path(), "disk.img", 4096, (107, 107)).unwrap();
    assert_eq!(again.size, made.size, "an existing disk keeps its size");
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
    assert!(create_raw(folder.path(), "zero", 0, (107, 107)).is_err());
    assert!(create_raw(folder.path(), "huge", u64::MAX, (107, 107)).is_err());
}

#[test]
fn a_disk_that_qemu_cannot_read_is_named_with_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let disk = open_disk(folder.path(), "disk.img").unwrap();
    assert!(disk.check_access(disk.uid, 107, true).is_ok());
    assert!(disk.check_access(54321, disk.gid, false).is_ok());
    assert!(disk.check_access(54321, disk.gid, true).is_err());
    let error = disk
        .check_access(54321, 54321, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("0640") && error.contains("54321"), "{error}");
}

#[test]
fn a_disk_grows_by_a_hole_keeps_its_content_and_never_shrinks() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk.img"), vec![7; 8192]).unwrap();
    let size = |disk: &catamaran_images::DiskFile| {
        (
            disk.size,
            fs::File::open(disk.proc_path()).unwrap().metadata(),
        )
    };
    for (asked, wanted) in [
        (1, 8192),
        (8192, 8192),
        (1_000_000, 1_003_520),
        (4096, 1_003_520),
    ] {
        let disk = open_disk(folder.path(), "disk.img").unwrap();
        let (told, is) = size(&disk.grown(asked).unwrap());
        assert_eq!((told, is.unwrap().len()), (wanted, wanted), "{asked}");
    }
    let content = fs::read(folder.path().join("disk.img")).unwrap();
    assert!(content[..8192].iter().all(|byte| *byte == 7));
    assert!(content[8192..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_that_is_swapped_for_a_link_after_the_check_is_still_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    fs::write(&path, "the disk").unwrap();
    let disk = open_disk(folder.path(), "disk.img").unwrap();
    fs::rename(&path, folder.path().join("moved")).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert_eq!(
        std::io::read_to_string(fs::File::open(disk.proc_path()).unwrap()).unwrap(),
        "the disk"
    );
    assert_eq!(fs::read_to_string(disk.proc_path()).unwrap(), "the disk");
}

#[test]
fn swapping_links_in_a_race_never_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("real"), "real").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                symlink("/etc/passwd", path("new")).unwrap();
                fs::rename(path("new"), path("disk.img")).unwrap();
                fs::copy(path("real"), path("new")).unwrap();
                fs::rename(path("new"), path("disk.img")).unwrap();
            }
        });
        for _ in 0..20_000 {
            if let Ok(disk) = open_disk(folder.path(), "disk.img") {
                assert_eq!(disk.size, 4);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
