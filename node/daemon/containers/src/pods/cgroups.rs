//! The cgroups that hold our Pods in a private runtime.

use std::path::Path;

use super::Shared;
use crate::pod::PodKey;

impl Shared {
    pub(super) fn cgroup_parent(&self, key: Option<&PodKey>) -> String {
        let all = format!("/catamaran/pods-{}", self.instance);
        key.map_or_else(|| all.clone(), |key| format!("{all}/{}", key.folder_name()))
    }

    /// The runtime makes the Pod's parent cgroups and leaves them.
    pub(super) fn remove_cgroups(&self, key: &PodKey) {
        if !self.runtime.is_private() {
            return;
        }
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = text
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .filter_map(|line| line.split(' ').nth(4));
        for mount in mounts.map(Path::new) {
            for group in [
                self.cgroup_parent(Some(key)),
                self.cgroup_parent(None),
                "/catamaran".to_owned(),
            ] {
                let path = mount.join(group.trim_start_matches('/'));
                // Those that others still use are not empty, and stay.
                if std::fs::remove_dir(&path).is_err() {
                    break;
                }
            }
        }
    }
}
