//! Every default of a machine, in one place.
//!
//! Source: the peer's mutating webhooks. What is not listed here has no default: absent stays absent in [`crate::MachineSpec`].

use catamaran_api::{Disk, VirtualMachineInstanceSpec};

use crate::disk::{Bus, PullPolicy};

/// Machine type of an x86 guest.
pub const MACHINE_TYPE: &str = "q35";
/// Sockets, cores and threads, each.
pub const TOPOLOGY: u32 = 1;
/// vCPUs that one machine may have, hotplug included.
pub const MAX_VCPUS: u64 = 512;
/// Seconds between the power button and the kill.
pub const GRACE_PERIOD_SECONDS: u32 = 30;
/// Bus of a hard disk.
pub const DISK_BUS: Bus = Bus::Virtio;
/// Bus of a CD-ROM drive.
pub const CDROM_BUS: Bus = Bus::Sata;
/// Name of the network and interface of a machine that names none.
pub const NETWORK_NAME: &str = "default";
/// Guest network behind masquerade.
pub const MASQUERADE_V4: &str = "10.0.2.0/24";
/// Guest network behind masquerade.
pub const MASQUERADE_V6: &str = "fd10:0:2::/120";
/// Probe: wait after Running, seconds.
pub const PROBE_INITIAL_DELAY: u32 = 0;
/// Probe: bound of one probe, seconds.
pub const PROBE_TIMEOUT: u32 = 1;
/// Probe: between two probes, seconds.
pub const PROBE_PERIOD: u32 = 10;
/// Probe: successes in a row that count.
pub const PROBE_SUCCESSES: u32 = 1;
/// Probe: failures in a row that count.
pub const PROBE_FAILURES: u32 = 3;
/// Retries of Hyper-V spinlocks.
pub const SPINLOCKS: u32 = 8191;
/// Longest inline user data or network data, bytes. The peer takes 2048; a Secret takes more in both.
pub const CLOUD_INIT_BYTES: usize = 16 * 1024;

/// Pull policy of an image that says nothing: `Always` for `:latest` and for no tag, as for containers.
#[must_use]
pub fn pull_policy(image: &str) -> PullPolicy {
    if image.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    // A colon before the last slash is a port.
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}

/// Gives each volume that no disk names a disk without further words, as the peer does; what its command line writes relies on it.
pub fn add_missing_disks(spec: &mut VirtualMachineInstanceSpec) {
    let disks = &mut spec.domain.devices.disks;
    for volume in &spec.volumes {
        if !volume.name.is_empty() && disks.iter().all(|disk| disk.name != volume.name) {
            disks.push(Disk {
                name: volume.name.clone(),
                ..Disk::default()
            });
        }
    }
}

/// Host name made from the name of a machine: its first label.
#[must_use]
pub fn hostname(name: &str) -> String {
    name.split('.')
        .next()
        .unwrap_or(name)
        .chars()
        .take(63)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{add_missing_disks, hostname, pull_policy};
    use crate::disk::PullPolicy;

    #[test]
    fn only_moving_tags_are_pulled_always() {
        for (image, policy) in [
            ("a/b", PullPolicy::Always),
            ("host:5000/a/b", PullPolicy::Always),
            ("a/b:latest", PullPolicy::Always),
            ("host:5000/a/b:1", PullPolicy::IfNotPresent),
            ("a/b@sha256:00", PullPolicy::IfNotPresent),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_dotted_name_gives_its_first_label() {
        assert_eq!(hostname("web.example"), "web");
    }

    #[test]
    fn a_volume_without_a_disk_gets_one() {
        let mut spec = serde_json::from_value(json!({
            "domain": {"devices": {"disks": [{"name": "b", "cdrom": {}}]}},
            "volumes": [{"name": "a"}, {"name": "b"}, {"name": "a"}, {"name": ""}],
        }))
        .unwrap();
        add_missing_disks(&mut spec);
        let disks = serde_json::to_value(&spec.domain.devices.disks).unwrap();
        assert_eq!(disks, json!([{"name": "b", "cdrom": {}}, {"name": "a"}]));
    }
}
