//! The programs that machines run: copied into the state folder, one folder for each version, so that an update replaces them under running
//! guests. `current` is what new launchers run; a running launcher keeps its own version until init starts it anew.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::machine::record::ignore_missing;
use crate::serve::layout::Layout;

/// What machines run.
const PROGRAMS: [&str; 2] = ["catamaran-init", "catamaran-launcher"];
/// Hexadecimal digits of a version's name.
const DIGITS: usize = 16;
/// The link to the newest version.
const CURRENT: &str = "current";

/// Copies the programs into the folder named after their content, makes it the current one, and returns the folder of all versions.
///
/// # Errors
/// When a program can't be read or copied.
pub fn install(layout: &Layout, libexec: &Path) -> io::Result<PathBuf> {
    let code = layout.code();
    fs::create_dir_all(&code)?;
    let programs = PROGRAMS.map(|name| fs::read(libexec.join(name)).map(|bytes| (name, bytes)));
    let programs = programs.into_iter().collect::<io::Result<Vec<_>>>()?;
    let mut hash = Sha256::new();
    for (_, bytes) in &programs {
        hash.update(bytes);
    }
    let version = hex::encode(hash.finalize())[..DIGITS].to_owned();
    let folder = code.join(&version);
    // A power cut may have left anything under a good name: only the content counts.
    let good = |(name, bytes): &(&str, Vec<u8>)| {
        let path = folder.join(name);
        let executable = path
            .metadata()
            .is_ok_and(|found| found.mode() & 0o555 == 0o555);
        executable && fs::read(&path).is_ok_and(|found| found == *bytes)
    };
    if !programs.iter().all(good) {
        copy(&code, &folder, &programs)?;
    }
    if fs::read_link(code.join(CURRENT)).is_ok_and(|target| target == Path::new(&version)) {
        return Ok(code);
    }
    let fresh = code.join("current.new");
    ignore_missing(fs::remove_file(&fresh))?;
    symlink(&version, &fresh)?;
    fs::rename(&fresh, code.join(CURRENT))?;
    File::open(&code)?.sync_all()?;
    Ok(code)
}

/// All of it is on the disk before it gets its name.
fn copy(code: &Path, folder: &Path, programs: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let mut fresh = folder.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    ignore_missing(fs::remove_dir_all(&fresh))?;
    fs::create_dir(&fresh)?;
    for (name, bytes) in programs {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(fresh.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    File::open(&fresh)?.sync_all()?;
    ignore_missing(fs::remove_dir_all(folder))?;
    fs::rename(&fresh, folder)?;
    File::open(code)?.sync_all()
}

/// Removes versions that are not current and that no process runs.
pub fn collect(layout: &Layout) {
    let code = layout.code();
    let removed = unused(&code, &executed(Path::new("/proc")))
        .and_then(|folders| folders.iter().try_for_each(fs::remove_dir_all));
    if let Err(error) = removed {
        tracing::warn!(folder = %code.display(), %error, "unused programs were not removed");
    }
}

/// Device and inode of what each process executes; a process that ends meanwhile executes nothing.
fn executed(proc: &Path) -> BTreeSet<(u64, u64)> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.path().join("exe").metadata().ok())
        .map(|file| (file.dev(), file.ino()))
        .collect()
}

/// Folders of versions, and what an installation that was cut off has left, that nobody needs.
fn unused(code: &Path, executed: &BTreeSet<(u64, u64)>) -> io::Result<Vec<PathBuf>> {
    let current = fs::read_link(code.join(CURRENT))?;
    let mut folders = Vec::new();
    for entry in fs::read_dir(code)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let version = name.strip_suffix(".new").unwrap_or(name);
        let ours = version.len() == DIGITS && version.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !ours || Path::new(name) == current {
            continue;
        }
        let runs = PROGRAMS.iter().any(|program| {
            let file = path.join(program).metadata();
            file.is_ok_and(|file| executed.contains(&(file.dev(), file.ino())))
        });
        if !runs {
            folders.push(path);
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        layout: Layout,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::new(folder.path().join("state"));
            Self { folder, layout }
        }

        /// Installs programs that say `text`; returns the folder of their version.
        fn install(&self, text: &str) -> PathBuf {
            for program in PROGRAMS {
                fs::write(
                    self.folder.path().join(program),
                    format!("{program} {text}"),
                )
                .unwrap();
            }
            let code = install(&self.layout, self.folder.path()).unwrap();
            code.join(fs::read_link(code.join(CURRENT)).unwrap())
        }
    }

    #[test]
    fn an_empty_program_that_a_power_cut_left_is_installed_anew() {
        let place = Place::new();
        let version = place.install("one");
        let launcher = version.join("catamaran-launcher");
        File::create(&launcher).unwrap();
        // What older daemons took for a proof.
        File::create(version.join("complete")).unwrap();
        assert_eq!(place.install("one"), version);
        assert_eq!(
            fs::read_to_string(&launcher).unwrap(),
            "catamaran-launcher one"
        );
        assert_eq!(launcher.metadata().unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn versions_that_nobody_runs_are_removed() {
        let place = Place::new();
        let (old, running) = (place.install("one"), place.install("two"));
        let current = place.install("three");
        let half = place.layout.code().join("0123456789abcdef.new");
        fs::create_dir(&half).unwrap();
        let foreign = place.layout.code().join("notes");
        fs::create_dir(&foreign).unwrap();
        let file = running.join("catamaran-launcher").metadata().unwrap();
        let executed = BTreeSet::from([(file.dev(), file.ino())]);
        let mut found = unused(&place.layout.code(), &executed).unwrap();
        found.sort();
        let mut expected = vec![old.clone(), half];
        expected.sort();
        assert_eq!(found, expected);
        collect(&place.layout);
        assert!(!old.exists() && current.exists() && foreign.exists());
    }

    #[test]
    fn what_this_process_executes_is_found() {
        let own = std::env::current_exe().unwrap().metadata().unwrap();
        assert!(executed(Path::new("/proc")).contains(&(own.dev(), own.ino())));
    }
}
