//! Devices of claims in a launcher's pod: nodes that uid 107 may open, and the rules of the container's control group about them.
//!
//! A container may open what its control group's rules name. Those of claims that its pod began with are among them. For a device that comes later, in
//! version 1 of control groups a rule is added and taken away with it; in version 2 the rules are programs, which step aside while it is opened.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use catamaran_guest_memory::device_window::Window;
use catamaran_plan::paths::{GID, UID};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat, major, minor, mknodat, unlinkat};
use rustix::io::Errno;

use crate::kubernetes::inside::Inside;

/// Where control groups are mounted: the hierarchy of version 2, or those of version 1.
const GROUPS: &str = "/sys/fs/cgroup";
/// The hierarchy of version 1 that rules devices.
const DEVICES: &str = "devices";
/// Levels of groups that are looked through for a pod's: the kubelet's, its class, the pod, its container, and one more.
const DEPTH: u32 = 6;

/// Makes a node of a block device, as uid 107's own, in place of what has that name.
///
/// # Errors
/// The system's.
pub fn make(folder: &OwnedFd, name: &str, number: u64, writable: bool) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = Mode::from_raw_mode(if writable { 0o600 } else { 0o400 });
    mknodat(folder, name, FileType::BlockDevice, mode, number)?;
    let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(GID));
    Ok(chownat(
        folder,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// That a container may open a device; it has to be kept until it has done so.
#[derive(Debug)]
pub struct Allowed(#[expect(dead_code, reason = "its end is what counts")] Option<Window>);

impl Allowed {
    /// For what needs no rule.
    #[must_use]
    pub fn anyway() -> Self {
        Self(None)
    }
}

/// Lets a launcher's container open a block device.
///
/// # Errors
/// Its control group is not found, or the kernel refuses.
pub fn allow(launcher: &Inside, number: u64, writable: bool) -> io::Result<Allowed> {
    let (version, group) = group(launcher)?;
    match version {
        Version::One => {
            let access = if writable { "rw" } else { "r" };
            fs::write(group.join("devices.allow"), rule(number, access))?;
            Ok(Allowed::anyway())
        }
        Version::Two => {
            let group = File::open(group)?.into();
            Window::open(group, (major(number), minor(number))).map(Allowed)
        }
    }
}

/// Takes it away, where it does not go by itself.
///
/// # Errors
/// As those of [`allow`].
pub fn deny(launcher: &Inside, number: u64) -> io::Result<()> {
    match group(launcher)? {
        (Version::One, group) => fs::write(group.join("devices.deny"), rule(number, "rw")),
        (Version::Two, _) => Ok(()),
    }
}

fn rule(number: u64, access: &str) -> String {
    format!("b {}:{} {access}", major(number), minor(number))
}

/// Of control groups.
#[derive(Debug, Clone, Copy)]
enum Version {
    /// With lists of devices.
    One,
    /// With programs.
    Two,
}

/// The group that rules the devices of a launcher's container.
fn group(launcher: &Inside) -> io::Result<(Version, PathBuf)> {
    let all = Path::new(GROUPS);
    let first = all.join(DEVICES);
    let (version, groups) = if first.join("devices.list").exists() {
        (Version::One, first.as_path())
    } else {
        (Version::Two, all)
    };
    let pid = launcher.process()?;
    let group = find(groups, pid, DEPTH)?.ok_or_else(|| {
        let words = format!("no group below {} has process {pid}", groups.display());
        io::Error::new(io::ErrorKind::NotFound, words)
    })?;
    Ok((version, group))
}

/// The group that a process is in. Names say nothing: this daemon's container may have a view of its own.
fn find(group: &Path, pid: i32, depth: u32) -> io::Result<Option<PathBuf>> {
    let processes = fs::read_to_string(group.join("cgroup.procs"))?;
    if processes.lines().any(|line| line.parse() == Ok(pid)) {
        return Ok(Some(group.to_owned()));
    }
    if depth == 0 {
        return Ok(None);
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        match find(&entry.path(), pid, depth - 1) {
            Ok(None) => {}
            // A group may go meanwhile, and one of threads (of other virtual machines, say) has no list of processes.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || [Errno::NODEV, Errno::OPNOTSUPP]
                        .iter()
                        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {}
            found => return found,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use rustix::fs::makedev;

    use super::*;

    #[test]
    fn a_rule_names_the_device_by_its_numbers() {
        let number = makedev(7, 3);
        assert_eq!(rule(number, "rw"), "b 7:3 rw");
        assert_eq!(rule(makedev(259, 1 << 12), "r"), "b 259:4096 r");
    }

    #[test]
    fn the_group_of_a_process_is_found_wherever_it_is() {
        let groups = tempfile::tempdir().unwrap();
        let group = |name: &str, processes: &str| {
            let group = groups.path().join(name);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.procs"), processes).unwrap();
            group
        };
        group("", "1\n");
        group("kubepods", "");
        group("kubepods/pod1", "");
        group("kubepods/pod1/other", "412\n");
        let wanted = group("kubepods/pod1/launcher", "11\n12\n");
        let found = |pid| find(groups.path(), pid, DEPTH).unwrap();
        assert_eq!(found(12), Some(wanted));
        assert_eq!(found(1), Some(groups.path().to_owned()));
        assert_eq!(found(41), None);
    }
}
