//! Names of devices inside libvirt and QEMU, and the way back from them.
//!
//! Disks and interfaces may share a name in a manifest. Disk names are DNS labels and hold no `_`, so the prefix of the others can't be
//! mistaken for a disk.

/// Alias of a disk: `ua-<name>`.
#[must_use]
pub fn disk(name: &str) -> String {
    format!("ua-{name}")
}

/// Alias of an interface: `ua-nic_<name>`.
#[must_use]
pub fn nic(name: &str) -> String {
    format!("ua-nic_{name}")
}

/// Alias of an input device: `ua-input_<name>`.
#[must_use]
pub fn input(name: &str) -> String {
    format!("ua-input_{name}")
}

/// Alias of the watchdog: `ua-watchdog_<name>`.
#[must_use]
pub fn watchdog(name: &str) -> String {
    format!("ua-watchdog_{name}")
}

/// Name of the disk with that alias.
#[must_use]
pub fn disk_of(alias: &str) -> Option<&str> {
    alias.strip_prefix("ua-").filter(|name| !name.contains('_'))
}

/// Name of the interface with that alias.
#[must_use]
pub fn nic_of(alias: &str) -> Option<&str> {
    alias.strip_prefix("ua-nic_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_and_an_interface_of_one_name_have_two_aliases() {
        assert_ne!(disk("default"), nic("default"));
        assert_eq!(disk_of(&disk("default")), Some("default"));
        assert_eq!(nic_of(&nic("default")), Some("default"));
        assert_eq!(disk_of(&nic("default")), None);
    }
}
