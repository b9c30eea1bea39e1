//! Loads drivers: of everything below `/sys/devices` that says what driver it wants, until nothing new turns up.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::program;

/// Loaded whatever there is: disks and CDs ask for their drivers in words that the kernel does not always write down.
const ALWAYS: [&str; 5] = ["sd_mod", "sr_mod", "ahci", "virtio_scsi", "8021q"];
/// Looked so often for new devices, since buses are scanned behind our back: 6 s in all.
const ROUNDS: usize = 12;
/// So many rounds without anything new end it.
const QUIET_ROUNDS: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Loads the drivers of all devices. What can't be loaded is logged: a server works without its sound card.
pub fn load(sys: &Path) {
    for module in ALWAYS {
        modprobe(&[module]);
    }
    let mut done = BTreeSet::new();
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let mut found = BTreeSet::new();
        collect(&sys.join("devices"), &mut found);
        let new: Vec<&str> = found.difference(&done).map(String::as_str).collect();
        if new.is_empty() {
            quiet += 1;
        } else {
            quiet = 0;
            modprobe(&new);
        }
        done.extend(found);
        if quiet == QUIET_ROUNDS {
            break;
        }
        thread::sleep(PAUSE);
    }
    tracing::info!("drivers of {} kinds of devices were looked for", done.len());
}

/// busybox's modprobe says nothing of aliases without a module, which most are.
fn modprobe(names: &[&str]) {
    let arguments: Vec<&str> = ["-a", "-q", "-b"].iter().chain(names).copied().collect();
    if let Err(error) = program::run("modprobe", &arguments, "") {
        tracing::debug!("{error}");
    }
}

/// The aliases of all devices below a folder, without following links.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            collect(&entry.path(), found);
        } else if kind.is_file()
            && entry.file_name() == "modalias"
            && let Ok(alias) = fs::read_to_string(entry.path())
            && !alias.trim().is_empty()
        {
            found.insert(alias.trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn aliases_are_found_below_all_folders_but_not_behind_links() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("pci0000:00/0000:00:01.0");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("modalias"), "pci:v00008086d000010D3\n").unwrap();
        std::os::unix::fs::symlink(top.path(), deep.join("subsystem")).unwrap();
        std::fs::write(top.path().join("modalias"), "\n").unwrap();
        let mut found = BTreeSet::new();
        super::collect(top.path(), &mut found);
        assert_eq!(found, BTreeSet::from(["pci:v00008086d000010D3".to_owned()]));
    }
}
