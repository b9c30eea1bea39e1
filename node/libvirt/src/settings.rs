//! The driver's configuration file, `ROOT/etc/qemu.conf`, and the folders around it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// The account QEMU is to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The same as this process, which is not root.
    Own,
    /// Another one; this process is root.
    Other {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

/// How the embedded driver is set up. [`Settings::write`] must come before [`crate::Connection::open`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// The ROOT folder (absolute).
    pub root: PathBuf,
    /// The account QEMU is to run as.
    pub account: Account,
    /// A folder with QEMU capabilities found earlier by the same binaries, account and view of `/dev/kvm`; it is copied
    /// when ROOT has none yet, and saves 4 s at the first start.
    pub capabilities_seed: Option<PathBuf>,
}

impl Settings {
    /// Writes the configuration and makes the folders.
    ///
    /// # Errors
    /// When a folder or file under ROOT cannot be made. A seed that cannot be copied is only logged: the driver then
    /// finds the capabilities by itself.
    pub fn write(&self) -> Result<(), Error> {
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o750)
                .create(path)
                .map_err(|error| Error::io("make a folder of the libvirt root", path, &error))
        };
        let etc = self.root.join("etc");
        make(&etc)?;
        let conf = etc.join("qemu.conf");
        fs::write(&conf, self.text())
            .map_err(|error| Error::io("write the libvirt configuration", &conf, &error))?;
        if let Some(seed) = &self.capabilities_seed {
            let target = self.root.join("cache/qemu/capabilities");
            make(&target)?;
            if let Err(error) = copy_missing(seed, &target) {
                tracing::warn!(%error, seed = %seed.display(), "the QEMU capabilities could not be copied; probing takes 4 s");
            }
        }
        Ok(())
    }

    /// The text of `qemu.conf`. Everything that would reach outside the sandbox is off: the sandbox itself, the cgroup
    /// and the file ownership are the daemon's work.
    fn text(&self) -> String {
        let mut text = String::from(
            "stdio_handler = \"file\"\ncgroup_controllers = []\nsecurity_driver = \"none\"\nnamespaces = []\n\
             dynamic_ownership = 0\nremember_owner = 0\nmax_core = 0\nvnc_allow_host_audio = 0\n",
        );
        if let Account::Other { uid, gid } = self.account {
            text.push_str(&format!(
                "user = \"+{uid}\"\ngroup = \"+{gid}\"\nswtpm_user = \"+{uid}\"\nswtpm_group = \"+{gid}\"\n"
            ));
        }
        text
    }
}

/// Copies the files of `from` that `to` lacks; the modification times do not matter to libvirt.
fn copy_missing(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_file() && !target.exists() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_of_its_own_names_no_user() {
        let settings = Settings {
            root: "/r".into(),
            account: Account::Own,
            capabilities_seed: None,
        };
        assert!(!settings.text().contains("user ="));
        let other = Settings {
            account: Account::Other { uid: 107, gid: 107 },
            ..settings
        };
        assert!(other.text().contains("user = \"+107\""));
    }

    #[test]
    fn the_seed_does_not_replace_newer_files() {
        let dir = tempfile::tempdir().unwrap();
        let seed = dir.path().join("seed");
        fs::create_dir(&seed).unwrap();
        fs::write(seed.join("a.xml"), "seed").unwrap();
        fs::write(seed.join("b.xml"), "seed").unwrap();
        let root = dir.path().join("root");
        let cache = root.join("cache/qemu/capabilities");
        fs::create_dir_all(&cache).unwrap();
        fs::write(cache.join("a.xml"), "own").unwrap();
        Settings {
            root,
            account: Account::Own,
            capabilities_seed: Some(seed),
        }
        .write()
        .unwrap();
        assert_eq!(fs::read_to_string(cache.join("a.xml")).unwrap(), "own");
        assert_eq!(fs::read_to_string(cache.join("b.xml")).unwrap(), "seed");
    }
}
