//! Where things are below the state folder.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use catamaran_plan::paths::{GID, UID};

use crate::serve::store::{Key, Kind};

/// The state folder. All of Catamaran's files on a machine are below it, apart from network namespaces.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A layout below that folder.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The state folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the daemon as long as it lives.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Opens [`Layout::lock`], to be locked.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn open_lock(&self) -> io::Result<fs::File> {
        fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock())
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("api.sock")
    }

    /// Stored objects.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    /// Image cache.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Facts of this host and libvirt's capabilities cache.
    #[must_use]
    pub fn host(&self) -> PathBuf {
        self.root.join("host")
    }

    /// Network namespaces, addresses, the zone of names.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.root.join("network")
    }

    /// Versions of the programs that machines run.
    #[must_use]
    pub fn code(&self) -> PathBuf {
        self.root.join("code")
    }

    /// Pods' volumes and logs, and the private container runtime.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Folder of a claim's disk.
    #[must_use]
    pub fn claim(&self, namespace: &str, claim: &str) -> PathBuf {
        self.root.join("volumes").join(namespace).join(claim)
    }

    /// Folder of one machine.
    #[must_use]
    pub fn machine(&self, key: &Key) -> MachineLayout {
        MachineLayout {
            root: self
                .root
                .join("vms")
                .join(format!("{}_{}", key.namespace, key.name)),
        }
    }

    /// Machines that have files here, as keys of their instances.
    #[must_use]
    pub fn machines(&self) -> Vec<Key> {
        let entries = fs::read_dir(self.root.join("vms"));
        let key = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let (namespace, name) = name.to_str()?.split_once('_')?;
            Some(Key::new(Kind::VirtualMachineInstance, namespace, name))
        };
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(key)
            .collect()
    }

    /// Makes the folders that the daemon itself needs.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn create(&self) -> io::Result<()> {
        for folder in [
            self.root.clone(),
            self.objects(),
            self.root.join("vms"),
            self.host(),
            self.network(),
            self.containers(),
            self.images(),
        ] {
            // Others may pass through (uid 107 reads images and run folders), but not list.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(&folder)?;
        }
        // Secrets and user data are for root alone, those too that an older version wrote for everybody.
        fs::set_permissions(self.objects(), fs::Permissions::from_mode(0o700))
    }
}

/// Where things of one machine are.
#[derive(Debug, Clone)]
pub struct MachineLayout {
    root: PathBuf,
}

impl MachineLayout {
    /// The machine's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Lives with one run (`/vm` in the sandbox).
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Outlives runs (`/state` in the sandbox).
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Files of Secrets and ConfigMaps of this run.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// The record of the run: who is init, which plan.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// The plan of the run.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }

    /// Resolved hardware.
    #[must_use]
    pub fn hardware(&self) -> PathBuf {
        self.root.join("hardware.json")
    }

    /// Makes the machine's folders; those shown in the sandbox belong to its user.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&self.root)?;
        for folder in [self.run(), self.state()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)?;
            chown(&folder, Some(UID), Some(GID))?;
        }
        Ok(())
    }
}

/// Writes a file that root alone can read, so that a reader sees the old or the new content, also after a crash.
///
/// # Errors
/// When the folder can't be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(folder)?;
    }
    catamaran_host::file::replace(path, bytes, 0o600)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;
    use crate::serve::store::Kind;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    /// A state folder as an older version left it: objects for everybody.
    fn state() -> (tempfile::TempDir, Layout, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let layout = Layout::new(folder.path().join("state"));
        fs::create_dir_all(layout.objects()).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(layout.objects(), open).unwrap();
        layout.create().unwrap();
        let secret = layout.objects().join("Secret/default/key.json");
        write_atomically(&secret, b"secret").unwrap();
        (folder, layout, secret)
    }

    #[test]
    fn what_is_stored_is_for_root_alone() {
        let (_folder, layout, secret) = state();
        assert_eq!(mode(&layout.objects()), 0o700);
        assert_eq!(mode(&secret), 0o600);
        write_atomically(&secret, b"changed").unwrap();
        assert_eq!(mode(&secret), 0o600);
        assert_eq!(fs::read(&secret).unwrap(), b"changed");
    }

    #[test]
    fn another_user_reads_no_secret_but_passes_to_the_machines() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (_folder, layout, secret) = state();
        let key = Key::new(Kind::VirtualMachineInstance, "default", "a");
        let machine = layout.machine(&key);
        machine.create().unwrap();
        let as_other = |program: &str, path: &Path| {
            let mut command = Command::new(program);
            command.arg(path).uid(65534).gid(65534);
            command.output().unwrap().status.success()
        };
        assert!(!as_other("cat", &secret));
        assert!(!as_other("ls", &layout.objects()));
        let passable = machine.root().join("passable");
        fs::write(&passable, "").unwrap();
        assert!(as_other("cat", &passable));
    }
}
