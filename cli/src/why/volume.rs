//! Why a volume is not plugged into a running machine, or not out of it. Pure.

use catamaran_api::VolumeStatus;
use catamaran_lifecycle::{HOTPLUG_FAILED, VolumePhase};

use super::answer::clause;
use super::facts::Facts;

/// Reasons of the kubelet for a volume that can't be mounted.
const MOUNT: [&str; 2] = ["FailedMount", "FailedAttachVolume"];

/// The first volume that is on its way, and what it waits for.
pub(super) fn stuck(facts: &Facts) -> Option<String> {
    let mut volumes = facts.status()?.volume_status.iter();
    volumes.find_map(|volume| of(facts, volume))
}

fn of(facts: &Facts, volume: &VolumeStatus) -> Option<String> {
    let pod = volume.hotplug_volume.as_ref()?.attach_pod_name.as_deref();
    let name = &volume.name;
    let phase = VolumePhase::parse(volume.phase.as_deref());
    let failed = volume.reason.as_deref() == Some(HOTPLUG_FAILED);
    let failed = volume.message.as_deref().filter(|_| failed).map(clause);
    match (phase, failed) {
        (VolumePhase::UnMountedFromPod, _) | (VolumePhase::Ready, None) => None,
        (VolumePhase::Ready, Some(words)) => Some(format!(
            "its volume {name:?}, which is plugged in, needs a look: {words}"
        )),
        (VolumePhase::Detaching, Some(words)) => {
            Some(format!("its volume {name:?} is not unplugged yet: {words}"))
        }
        (VolumePhase::Detaching, None) => Some(format!(
            "its guest has not let volume {name:?} go yet; it must not be mounted there"
        )),
        (VolumePhase::Pending | VolumePhase::AttachedToNode | VolumePhase::MountedToPod, _) => {
            let said = pod.and_then(|pod| facts.warning("Pod", pod, &MOUNT));
            let words = said.or(volume.message.as_deref());
            let words = words.unwrap_or("its node is at it");
            Some(format!(
                "its volume {name:?} is not plugged in yet: {}",
                clause(words)
            ))
        }
    }
}
