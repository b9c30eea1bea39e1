//! The sandbox's file system: a small read-only tmpfs with the machine's own files and the host's programs in it.
//!
//! Everything that comes from the host is opened first, as detached mounts; then the old root is gone, and what
//! follows happens inside the new one, where a link that a former guest may have left leads nowhere else.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use catamaran_plan::paths;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};

use super::{Bind, CAPABILITIES_SEED, FileId, SandboxError, SandboxSpec, Step};

/// Device nodes that every sandbox has.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
];
/// Folders of programs and libraries: real ones are shown, links are made again.
const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
/// Parts of `/etc` that are shown when the host has them: they say nothing about the host's users.
const ETC_FILES: [&str; 3] = [
    "/etc/ld.so.cache",
    "/etc/swtpm-localca.options",
    "/etc/localtime",
];
/// Files of `/proc` that are made read-only; without capabilities they could not be written anyway.
const PROC_READ_ONLY: [&str; 3] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq"];
/// Parts of `/sys` that are hidden.
const SYS_HIDDEN: [&str; 1] = ["/sys/firmware"];

/// Settings of the programs that make a TPM: the certificate authority of the machine's own TPM lives as long as the TPM's state.
pub(crate) const TPM_SETTINGS: [(&str, &str); 2] = [
    (
        "swtpm-localca.conf",
        "statedir = /state/tpm-ca\nsigningkey = /state/tpm-ca/signkey.pem\n\
         issuercert = /state/tpm-ca/issuercert.pem\ncertserial = /state/tpm-ca/certserial\n",
    ),
    (
        "swtpm_setup.conf",
        "create_certs_tool= /usr/bin/swtpm_localca\ncreate_certs_tool_config = /vm/home/config/swtpm-localca.conf\n\
         create_certs_tool_options = /etc/swtpm-localca.options\nactive_pcr_banks = sha256\n",
    ),
];

/// Something of the host, opened before the old root goes away.
struct Piece {
    tree: OwnedFd,
    inside: PathBuf,
    folder: bool,
    flags: MountFlags,
}

/// A device node to make again.
struct Node {
    path: PathBuf,
    device: u64,
    everyone: bool,
}

/// Builds the root and moves into it. Must be called by the first process of a new pid namespace, in a mount namespace
/// of its own.
///
/// # Errors
/// The first thing that is missing or refused, by its path.
pub fn build(spec: &SandboxSpec) -> Result<(), SandboxError> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .step(|| "cut the mounts off from the host's".into())?;
    let pieces = pieces(spec)?;
    let nodes = nodes(spec)?;
    let links = links();
    let etc = ETC_FILES
        .iter()
        .filter_map(|path| Some((*path, small_file(path)?)))
        .collect::<Vec<_>>();

    enter_new_root(&spec.run)?;
    for (path, target) in links {
        std::os::unix::fs::symlink(&target, path).step(|| format!("make the link {path}"))?;
    }
    write_etc(&etc, &spec.hostname)?;
    let no = MountFlags::NOSUID | MountFlags::NODEV;
    make_mount(
        "tmpfs",
        "/tmp",
        no | MountFlags::NOEXEC,
        "mode=1777,size=256m",
    )?;
    make_mount(
        "tmpfs",
        "/dev",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        "mode=0755,size=64k",
    )?;
    for node in nodes {
        make_node(&node)?;
    }
    make_mount(
        "tmpfs",
        "/dev/shm",
        no | MountFlags::NOEXEC,
        "mode=1777,size=64m",
    )?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(target, link).step(|| format!("make the link {link}"))?;
    }
    make_mount("proc", "/proc", no | MountFlags::NOEXEC, "")?;
    make_mount(
        "sysfs",
        "/sys",
        no | MountFlags::NOEXEC | MountFlags::RDONLY,
        "",
    )?;
    // Its own small file system, so that a disk that is plugged in later finds a place on the read-only root.
    make_mount(
        "tmpfs",
        paths::DISKS,
        no | MountFlags::NOEXEC,
        "mode=0755,size=64k",
    )?;
    for folder in [paths::CONFIG, "/boot", "/var/tmp", "/run"] {
        make_folder(Path::new(folder))?;
    }
    for piece in pieces {
        attach(&piece)?;
    }
    for path in PROC_READ_ONLY
        .into_iter()
        .filter(|path| Path::new(path).exists())
    {
        rustix::mount::mount_bind(path, path).step(|| format!("protect {path}"))?;
        mount_remount(
            path,
            MountFlags::BIND | MountFlags::RDONLY | no | MountFlags::NOEXEC,
            "",
        )
        .step(|| format!("protect {path}"))?;
    }
    for path in SYS_HIDDEN
        .into_iter()
        .filter(|path| Path::new(path).is_dir())
    {
        mount(
            "tmpfs",
            path,
            "tmpfs",
            no | MountFlags::RDONLY,
            c"mode=0755,size=0",
        )
        .step(|| format!("hide {path}"))?;
    }
    mount_remount("/", MountFlags::RDONLY | no, "").step(|| "make the root read-only".into())
}

fn pieces(spec: &SandboxSpec) -> Result<Vec<Piece>, SandboxError> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    let read_only = safe | MountFlags::RDONLY;
    let mut list = Vec::new();
    for path in PROGRAMS {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
            list.push(piece(Path::new(path), Path::new(path), read_only)?);
        }
    }
    if Path::new("/etc/alternatives").is_dir() {
        list.push(piece(
            Path::new("/etc/alternatives"),
            Path::new("/etc/alternatives"),
            read_only,
        )?);
    }
    let writable = safe | MountFlags::NOEXEC;
    list.push(piece(&spec.run, Path::new(paths::RUN), writable)?);
    list.push(piece(&spec.state, Path::new(paths::STATE), writable)?);
    list.push(piece(&spec.code, Path::new(paths::CODE), read_only)?);
    if let Some(seed) = &spec.capabilities {
        list.push(piece(
            seed,
            Path::new(CAPABILITIES_SEED),
            read_only | MountFlags::NOEXEC,
        )?);
    }
    for Bind {
        host,
        inside,
        writable: may_write,
        file,
    } in &spec.binds
    {
        let flags = if *may_write {
            writable
        } else {
            read_only | MountFlags::NOEXEC
        };
        list.push(checked_piece(host, *file, inside, flags)?);
    }
    Ok(list)
}

fn piece(host: &Path, inside: &Path, flags: MountFlags) -> Result<Piece, SandboxError> {
    checked_piece(host, None, inside, flags)
}

/// What is looked at is what is shown: everything goes through one descriptor.
fn checked_piece(
    host: &Path,
    file: Option<FileId>,
    inside: &Path,
    flags: MountFlags,
) -> Result<Piece, SandboxError> {
    let what = || format!("find {}", host.display());
    let mut how = OFlags::PATH | OFlags::CLOEXEC;
    if file.is_some() {
        how |= OFlags::NOFOLLOW;
    }
    let handle = rustix::fs::open(host, how, Mode::empty()).step(what)?;
    let stat = rustix::fs::fstat(&handle).step(what)?;
    let found = FileId {
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    if file.is_some_and(|checked| checked != found) {
        return Err(SandboxError::Step {
            step: what(),
            source: std::io::Error::other("it was replaced after it had been checked"),
        });
    }
    let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let plain = inside.is_absolute()
        && inside
            .components()
            .all(|c| !matches!(c, std::path::Component::ParentDir));
    if !plain {
        return Err(SandboxError::Step {
            step: format!("{} must be an absolute path without `..`", inside.display()),
            source: std::io::ErrorKind::InvalidInput.into(),
        });
    }
    let tree = open_tree(
        &handle,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .step(|| format!("take {} into the sandbox", host.display()))?;
    Ok(Piece {
        tree,
        inside: inside.to_owned(),
        folder,
        flags,
    })
}

fn nodes(spec: &SandboxSpec) -> Result<Vec<Node>, SandboxError> {
    let always = DEVICES.iter().map(|path| (PathBuf::from(path), true));
    let asked = spec.devices.iter().map(|path| (path.clone(), false));
    always
        .chain(asked)
        .map(|(path, everyone)| {
            let device = std::fs::metadata(&path)
                .step(|| format!("find the device {}", path.display()))?
                .rdev();
            Ok(Node {
                path,
                device,
                everyone,
            })
        })
        .collect()
}

fn links() -> Vec<(&'static str, PathBuf)> {
    PROGRAMS
        .iter()
        .filter_map(|path| Some((*path, std::fs::read_link(path).ok()?)))
        .collect()
}

fn small_file(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(4 << 20)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Puts an empty tmpfs over `place` (any folder that is sure to be there) and makes it the root.
fn enter_new_root(place: &Path) -> Result<(), SandboxError> {
    mount(
        "catamaran",
        place,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755,size=16m",
    )
    .step(|| "make the new root".into())?;
    rustix::process::chdir(place).step(|| "enter the new root".into())?;
    rustix::process::pivot_root(".", ".").step(|| "move into the new root".into())?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the old root".into())?;
    rustix::process::chdir("/").step(|| "enter the new root".into())
}

fn write_etc(files: &[(&str, Vec<u8>)], hostname: &str) -> Result<(), SandboxError> {
    let (uid, gid) = (paths::UID, paths::GID);
    make_folder(Path::new("/etc"))?;
    let own = [
        (
            "/etc/passwd",
            format!(
                "root:x:0:0:root:/:/usr/sbin/nologin\nqemu:x:{uid}:{gid}:qemu:/vm/home:/usr/sbin/nologin\n"
            ),
        ),
        ("/etc/group", format!("root:x:0:\nqemu:x:{gid}:\n")),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n".into(),
        ),
        (
            "/etc/hosts",
            format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n"),
        ),
    ];
    for (name, text) in TPM_SETTINGS {
        let path = format!("/etc/{name}");
        // Under `play` the settings' own folder is /etc.
        let text = text.replace(super::stage::CONFIG_HOME, "/etc");
        std::fs::write(&path, text).step(|| format!("write {path}"))?;
    }
    for (path, bytes) in files
        .iter()
        .map(|(path, bytes)| (*path, bytes.as_slice()))
        .chain(own.iter().map(|(path, text)| (*path, text.as_bytes())))
    {
        std::fs::write(path, bytes).step(|| format!("write {path}"))?;
    }
    Ok(())
}

fn make_mount(kind: &str, at: &str, flags: MountFlags, options: &str) -> Result<(), SandboxError> {
    make_folder(Path::new(at))?;
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::other)
        .step(|| "write options".into())?;
    mount(kind, at, kind, flags, options.as_c_str()).step(|| format!("mount {kind} at {at}"))
}

fn make_node(node: &Node) -> Result<(), SandboxError> {
    let path = &node.path;
    let what = || format!("make the device {}", path.display());
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    let mode = if node.everyone { 0o666 } else { 0o600 };
    rustix::fs::mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(mode),
        node.device,
    )
    .step(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).step(what)?;
    if !node.everyone {
        std::os::unix::fs::chown(path, Some(paths::UID), Some(paths::GID)).step(what)?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), SandboxError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .step(|| format!("make the folder {} in the sandbox", path.display()))
}

fn attach(piece: &Piece) -> Result<(), SandboxError> {
    let inside = &piece.inside;
    if piece.folder {
        make_folder(inside)?;
    } else {
        if let Some(parent) = inside.parent() {
            make_folder(parent)?;
        }
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(inside)
            .step(|| format!("make {} in the sandbox", inside.display()))?;
    }
    move_mount(
        &piece.tree,
        "",
        CWD,
        inside,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .step(|| format!("show {} in the sandbox", inside.display()))?;
    mount_remount(inside, MountFlags::BIND | piece.flags, "")
        .step(|| format!("protect {} in the sandbox", inside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(path: &Path) -> FileId {
        let metadata = std::fs::metadata(path).unwrap();
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    fn show(path: &Path, file: Option<FileId>) -> Result<Piece, SandboxError> {
        checked_piece(path, file, Path::new("/disks/a"), MountFlags::NOSUID)
    }

    #[test]
    fn a_disk_that_was_replaced_after_its_check_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, foreign) = (folder.path().join("disk"), folder.path().join("foreign"));
        std::fs::write(&disk, "mine").unwrap();
        std::fs::write(&foreign, "another machine's").unwrap();
        let checked = id(&disk);
        if rustix::process::geteuid().is_root() {
            show(&disk, Some(checked)).unwrap();
        }
        std::fs::rename(&disk, folder.path().join("away")).unwrap();
        std::os::unix::fs::symlink(&foreign, &disk).unwrap();
        for trial in ["a link", "another file"] {
            let Err(error) = show(&disk, Some(checked)) else {
                unreachable!("{trial} was shown");
            };
            let text = error.to_string();
            assert!(
                text.contains("replaced after it had been checked"),
                "{text}"
            );
            std::fs::rename(&foreign, &disk).unwrap();
            std::fs::write(&foreign, "").unwrap();
        }
        // A link to the checked file itself is not followed either.
        std::fs::remove_file(&disk).unwrap();
        std::os::unix::fs::symlink("away", &disk).unwrap();
        assert!(show(&disk, Some(checked)).is_err());
    }
}
