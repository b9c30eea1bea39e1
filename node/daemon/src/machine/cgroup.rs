//! One control group for each machine: who is in it, and the proof that nobody is.
//!
//! Every process of a machine (init, launcher, QEMU, swtpm) is born in the machine's group and can't leave it: the sandbox does not show
//! the hierarchy. The kernel removes a group only when no process is in it, and a process leaves its group after it has closed its files. So *the
//! group is gone* proves that no QEMU of this machine has a disk open, also after the daemon was killed at any line, and also after the
//! machine was switched off (groups do not survive that). "pid not found" proves nothing of the kind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often a group is looked at while somebody waits for its end. Asking costs one system call.
const LOOK: Duration = Duration::from_millis(10);

/// The group of one machine.
#[derive(Debug, Clone)]
pub struct Cgroup {
    path: PathBuf,
}

/// Proof that no process of a machine is left. Only [`Cgroup::prove_dead`] makes it, and starting a machine takes it.
#[derive(Debug)]
pub struct Dead(());

/// No hierarchy in which groups can be made.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Nothing is mounted.
    #[error(
        "no control group hierarchy is mounted below /sys/fs/cgroup; without one it can't be proved that a machine is dead"
    )]
    NoHierarchy,
    /// A file operation failed.
    #[error("control group {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cgroup {
    /// The group of a machine: `catamaran/<state>/<machine>` in the unified hierarchy, or in a version 1 hierarchy where there is no other.
    ///
    /// `state` tells daemons with different state folders apart.
    ///
    /// # Errors
    /// When no hierarchy is mounted.
    pub fn of(state: &str, machine: &str) -> Result<Self, CgroupError> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").map_err(|source| CgroupError::Io {
                path: "/proc/self/mountinfo".into(),
                source,
            })?;
        let hierarchy = hierarchy(&mounts).ok_or(CgroupError::NoHierarchy)?;
        Ok(Self {
            path: hierarchy.join("catamaran").join(state).join(machine),
        })
    }

    /// Removes the groups above the machines' own where they are empty.
    ///
    /// # Errors
    /// When no hierarchy is mounted.
    pub fn forget(state: &str) -> Result<(), CgroupError> {
        let all = Self::of(state, "")?.path;
        for folder in [Some(all.as_path()), all.parent()].into_iter().flatten() {
            // Busy: other machines, or those of another daemon.
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    /// Makes the group, empty, and gives the file in which a process puts itself to join it. Takes the proof that nobody was in it.
    ///
    /// # Errors
    /// When the hierarchy can't be written.
    pub fn create(&self, _nobody: &Dead) -> Result<PathBuf, CgroupError> {
        fs::create_dir_all(&self.path).map_err(|source| self.error(source))?;
        Ok(self.path.join("cgroup.procs"))
    }

    /// Processes in the group, by their pids as the daemon sees them.
    ///
    /// # Errors
    /// When the group is there but can't be read.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        match fs::read_to_string(self.path.join("cgroup.procs")) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|line| line.trim().parse().ok())
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Proves that the machine is dead by removing its group; `None` = somebody is in it.
    ///
    /// # Errors
    /// When the group can't be removed for another reason.
    pub fn prove_dead(&self) -> Result<Option<Dead>, CgroupError> {
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(Some(Dead(()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Dead(()))),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                Ok(None)
            }
            Err(source) => Err(self.error(source)),
        }
    }

    /// Waits for the proof.
    ///
    /// # Errors
    /// When the group can't be removed for another reason than that somebody is in it.
    pub async fn dead(&self) -> Result<Dead, CgroupError> {
        loop {
            if let Some(dead) = self.prove_dead()? {
                return Ok(dead);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Kills everybody in the group, again until nobody is left.
    ///
    /// # Errors
    /// When the group can't be read or removed.
    pub async fn kill(&self) -> Result<Dead, CgroupError> {
        loop {
            for pid in self.processes()? {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            if let Ok(dead) = tokio::time::timeout(Duration::from_millis(500), self.dead()).await {
                return dead;
            }
        }
    }

    fn error(&self, source: io::Error) -> CgroupError {
        CgroupError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

/// Where groups are made: the unified hierarchy, else the first of the version 1 hierarchies that has no controller side effects.
fn hierarchy(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        Some((kind.split(' ').next()?, Path::new(place.split(' ').nth(4)?)))
    });
    let mut version1 = None;
    for (kind, path) in mounts {
        match kind {
            "cgroup2" => return Some(path.to_owned()),
            "cgroup" if path.ends_with("pids") || path.ends_with("freezer") => {
                version1 = Some(path.to_owned());
            }
            _ => {}
        }
    }
    version1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_hierarchy_is_preferred() {
        let hybrid = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n31 30 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(hierarchy(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            hierarchy("31 30 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"),
            Some("/sys/fs/cgroup/pids".into())
        );
        assert_eq!(hierarchy("31 30 0:27 / /proc rw - proc proc rw"), None);
    }

    #[tokio::test]
    async fn group_with_a_process_is_not_dead_and_without_one_it_is() {
        let Ok(group) = Cgroup::of("test", &format!("unit-{}", std::process::id())) else {
            return;
        };
        let Ok(Some(nobody)) = group.prove_dead() else {
            unreachable!("nobody made this group")
        };
        let Ok(procs) = group.create(&nobody) else {
            eprintln!("skipped: needs root");
            return;
        };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        fs::write(procs, child.id().to_string()).unwrap();
        assert!(group.prove_dead().unwrap().is_none());
        let (_, dead) = tokio::join!(
            async { tokio::task::spawn_blocking(move || child.wait()).await },
            group.kill()
        );
        dead.unwrap();
        assert!(group.processes().unwrap().is_empty());
    }
}
