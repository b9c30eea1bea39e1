//! Volumes that come and go while a machine runs: what a machine's template asks of its instance, and how far each volume is.
//!
//! ```text
//!            pod runs               mounted, plugged in
//!   Pending ─────────▶ AttachedToNode ────────────────▶ Ready
//!      │    controller                  node daemon       │ gone from the spec
//!      ▼                                                  ▼
//!   (none) ◀────────── UnMountedFromPod ◀──────────── Detaching
//!          controller                    node daemon
//! ```

use std::fmt;

use catamaran_api::{
    Disk, VirtualMachineInstance, VirtualMachineInstanceSpec, VirtualMachineInstanceStatus, Volume,
    VolumeStatus,
};

/// Reason of a volume that can't be plugged in or out, or that its pod does not hold; its message says why.
pub const HOTPLUG_FAILED: &str = "HotplugFailed";

/// How far a volume is, in the peer's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumePhase {
    /// Its pod does not run yet, or something is in its way.
    Pending,
    /// Its pod runs, so that the node has it.
    AttachedToNode,
    /// It is in the launcher's pod.
    MountedToPod,
    /// The guest has it.
    Ready,
    /// The guest was asked to let it go.
    Detaching,
    /// Nothing of the machine uses it any more.
    UnMountedFromPod,
}

impl VolumePhase {
    /// The word of a status; an unknown one counts as the first.
    #[must_use]
    pub fn parse(word: Option<&str>) -> Self {
        match word {
            Some("AttachedToNode") => Self::AttachedToNode,
            Some("MountedToPod") => Self::MountedToPod,
            Some("Ready") => Self::Ready,
            Some("Detaching") => Self::Detaching,
            Some("UnMountedFromPod") => Self::UnMountedFromPod,
            _ => Self::Pending,
        }
    }

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::AttachedToNode => "AttachedToNode",
            Self::MountedToPod => "MountedToPod",
            Self::Ready => "Ready",
            Self::Detaching => "Detaching",
            Self::UnMountedFromPod => "UnMountedFromPod",
        }
    }
}

impl fmt::Display for VolumePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Claim of a volume that may come and go; `None` for one that a machine starts with.
#[must_use]
pub fn hot_claim(volume: &Volume) -> Option<&str> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return (claim.hotpluggable == Some(true)).then_some(claim.claim_name.as_str());
    }
    let data = volume.data_volume.as_ref()?;
    (data.hotpluggable == Some(true)).then_some(data.name.as_str())
}

/// The status of a hotplugged volume.
#[must_use]
pub fn hot_status<'a>(
    status: &'a VirtualMachineInstanceStatus,
    name: &str,
) -> Option<&'a VolumeStatus> {
    let mut all = status.volume_status.iter();
    all.find(|volume| volume.name == name && volume.hotplug_volume.is_some())
}

/// A spec without the volumes that come and go: what a machine starts with.
#[must_use]
pub fn cold(spec: &VirtualMachineInstanceSpec) -> VirtualMachineInstanceSpec {
    let mut cold = spec.clone();
    keep(&mut cold, |volume| hot_claim(volume).is_none());
    cold
}

/// Removes volumes with their disks.
fn keep(spec: &mut VirtualMachineInstanceSpec, kept: impl Fn(&Volume) -> bool) {
    let gone: Vec<String> = spec
        .volumes
        .iter()
        .filter(|volume| !kept(volume))
        .map(|volume| volume.name.clone())
        .collect();
    spec.volumes.retain(|volume| !gone.contains(&volume.name));
    let disks = &mut spec.domain.devices.disks;
    disks.retain(|disk| !gone.contains(&disk.name));
}

/// Gives the spec of a running instance the volumes that its machine's template has now.
///
/// A volume that became another one goes first, and comes back when nothing of it is left in the status.
pub(crate) fn follow_volumes(
    spec: &mut VirtualMachineInstanceSpec,
    template: &VirtualMachineInstanceSpec,
    vmi: &VirtualMachineInstance,
) {
    let wanted = |name: &str| {
        let volume = template.volumes.iter().find(|volume| volume.name == name);
        volume.filter(|volume| hot_claim(volume).is_some())
    };
    // Of the disk only the name is compared: admission fills defaults into that of an instance.
    keep(spec, |volume| {
        hot_claim(volume).is_none() || wanted(&volume.name) == Some(volume)
    });
    let leaving = |name: &str| {
        let status = vmi.status.as_ref();
        status.is_some_and(|status| hot_status(status, name).is_some())
            || vmi.spec.volumes.iter().any(|volume| volume.name == name)
    };
    for volume in &template.volumes {
        let there = spec.volumes.iter().any(|there| there.name == volume.name);
        if there || hot_claim(volume).is_none() || leaving(&volume.name) {
            continue;
        }
        let mut disks = template.domain.devices.disks.iter();
        let disk = disks.find(|disk| disk.name == volume.name).cloned();
        spec.volumes.push(volume.clone());
        // A volume that no disk names has one without further words.
        spec.domain.devices.disks.push(disk.unwrap_or_else(|| Disk {
            name: volume.name.clone(),
            ..Disk::default()
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::follow_template;
    use serde_json::{Value, json};

    fn spec(hot: &[(&str, &str)]) -> Value {
        let mut disks = vec![json!({"name": "root", "disk": {"bus": "virtio"}})];
        let mut volumes = vec![json!({"name": "root", "containerDisk": {"image": "i"}})];
        for (name, claim) in hot {
            disks.push(json!({"name": name, "disk": {"bus": "scsi"}}));
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}}));
        }
        json!({"domain": {"devices": {"disks": disks}}, "volumes": volumes})
    }

    fn template(hot: &[(&str, &str)]) -> VirtualMachineInstanceSpec {
        serde_json::from_value(spec(hot)).unwrap()
    }

    fn vmi(hot: &[(&str, &str)], said: &[&str]) -> VirtualMachineInstance {
        let said: Vec<Value> = said
            .iter()
            .map(|name| json!({"name": name, "target": "sda", "hotplugVolume": {"attachPodName": "p"}}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": spec(hot), "status": {"volumeStatus": said},
        }))
        .unwrap()
    }

    fn volumes(spec: Option<VirtualMachineInstanceSpec>) -> Option<String> {
        let spec = spec?;
        let disks: Vec<&str> = spec
            .domain
            .devices
            .disks
            .iter()
            .map(|disk| disk.name.as_str())
            .collect();
        let names: Vec<&str> = spec.volumes.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(disks, names);
        Some(names.join(" "))
    }

    #[test]
    fn an_instance_follows_the_volumes_of_its_template() {
        let (none, one, other) = (&[][..], &[("d", "c1")][..], &[("d", "c2")][..]);
        for (wanted, there, said, expected) in [
            (none, none, &[][..], None),
            (one, one, &[], None),
            (one, none, &[], Some("root d")),
            (none, one, &["d"], Some("root")),
            // It is still being unplugged.
            (one, none, &["d"], None),
            // Another claim: first the old one goes, then the new one comes.
            (other, one, &["d"], Some("root")),
            (other, none, &["d"], None),
            (other, none, &[], Some("root d")),
        ] {
            let found = follow_template(&template(wanted), &vmi(there, said));
            assert_eq!(volumes(found).as_deref(), expected, "{wanted:?} {there:?}");
        }
    }

    #[test]
    fn a_volume_that_needs_a_restart_is_left_alone() {
        let mut changed = template(&[]);
        changed.volumes[0].container_disk.as_mut().unwrap().image = "other".to_owned();
        assert_eq!(follow_template(&changed, &vmi(&[], &[])), None);
        // The name of a volume of the start can't be taken by another.
        changed.volumes[0] = template(&[("root", "c1")]).volumes[1].clone();
        changed.volumes[0].name = "root".to_owned();
        assert_eq!(follow_template(&changed, &vmi(&[], &[])), None);
    }

    #[test]
    fn what_a_machine_starts_with_knows_no_volume_that_comes_later() {
        assert_eq!(cold(&template(&[("d", "c1")])), template(&[]));
    }

    #[test]
    fn phases_are_the_peers_words() {
        for phase in [
            VolumePhase::Pending,
            VolumePhase::AttachedToNode,
            VolumePhase::MountedToPod,
            VolumePhase::Ready,
            VolumePhase::Detaching,
            VolumePhase::UnMountedFromPod,
        ] {
            assert_eq!(VolumePhase::parse(Some(&phase.to_string())), phase);
        }
        assert_eq!(VolumePhase::parse(None), VolumePhase::Pending);
    }
}
