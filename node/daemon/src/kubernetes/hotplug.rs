//! What is to be done about volumes that come and go, and what is said about them: pure functions of the instance.
//!
//! The controller says by which pod a volume came to this node; from there it is this daemon's, until nothing of the machine uses it any more.

use catamaran_api::{PersistentVolumeClaimInfo, VirtualMachineInstanceStatus, VolumeStatus};
use catamaran_lifecycle::{VolumePhase, hot_claim};

use crate::kubernetes::instance::Instance;

/// Reason of a volume that can't be plugged in or out.
pub const FAILED: &str = "HotplugFailed";

/// What is to be done about one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Bring it to the guest.
    Plug {
        /// Name.
        volume: String,
        /// UID of its attachment pod.
        attachment: String,
    },
    /// Take it from the guest.
    Unplug {
        /// Name.
        volume: String,
    },
}

/// Everything that is to be done.
#[must_use]
pub fn work(instance: &Instance) -> Vec<Work> {
    let status = instance.status();
    let hot = status.volume_status.iter();
    hot.filter_map(|said| one(instance, said)).collect()
}

fn one(instance: &Instance, said: &VolumeStatus) -> Option<Work> {
    let attachment = said.hotplug_volume.as_ref()?.attach_pod_uid.clone();
    let volume = said.name.clone();
    let claim = said.persistent_volume_claim_info.as_ref();
    let claim = claim.and_then(|claim| claim.claim_name.as_deref());
    let volumes = &instance.object.spec.volumes;
    let wanted = volumes.iter().find(|wanted| wanted.name == volume);
    let wanted = wanted.and_then(hot_claim);
    let stays = wanted.is_some() && (claim.is_none() || claim == wanted);
    match VolumePhase::parse(said.phase.as_deref()) {
        VolumePhase::AttachedToNode | VolumePhase::MountedToPod if stays => Some(Work::Plug {
            volume,
            attachment: attachment?,
        }),
        VolumePhase::Ready if stays => None,
        VolumePhase::AttachedToNode
        | VolumePhase::MountedToPod
        | VolumePhase::Ready
        | VolumePhase::Detaching => Some(Work::Unplug { volume }),
        VolumePhase::Pending | VolumePhase::UnMountedFromPod => None,
    }
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The guest has it.
    Ready {
        /// `sda`, …
        target: String,
        /// Bytes.
        size: u64,
        /// Its claim.
        claim: Box<PersistentVolumeClaimInfo>,
    },
    /// The guest has not let it go yet.
    Detaching,
    /// Nothing of the machine uses it any more.
    Left,
    /// It is tried again.
    Failed {
        /// Why.
        words: String,
    },
}

/// The status with what has come of one volume.
#[must_use]
pub fn told(
    before: &VirtualMachineInstanceStatus,
    volume: &str,
    outcome: &Outcome,
) -> VirtualMachineInstanceStatus {
    let mut status = before.clone();
    let mut all = status.volume_status.iter_mut();
    let Some(said) = all.find(|said| said.name == volume && said.hotplug_volume.is_some()) else {
        return status;
    };
    let phase = match outcome {
        Outcome::Ready { .. } => Some(VolumePhase::Ready),
        Outcome::Detaching => Some(VolumePhase::Detaching),
        Outcome::Left => Some(VolumePhase::UnMountedFromPod),
        Outcome::Failed { .. } => None,
    };
    if let Some(phase) = phase {
        said.phase = Some(phase.as_str().to_owned());
    }
    (said.reason, said.message) = match outcome {
        Outcome::Ready {
            target,
            size,
            claim,
        } => {
            said.target.clone_from(target);
            said.size = i64::try_from(*size).ok();
            said.persistent_volume_claim_info = Some((**claim).clone());
            (Some("VolumeReady".to_owned()), None)
        }
        Outcome::Detaching => (
            Some("Detaching".to_owned()),
            Some("The guest was asked to let the disk go".to_owned()),
        ),
        Outcome::Left => (Some("VolumeUnMountedFromPod".to_owned()), None),
        Outcome::Failed { words } => (Some(FAILED.to_owned()), Some(words.clone())),
    };
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::instance::tests::instance;
    use serde_json::json;

    fn with(phase: &str, claim: Option<&str>) -> Instance {
        let volumes: Vec<_> = claim
            .map(|claim| json!({"name": "d", "persistentVolumeClaim": {"claimName": claim, "hotpluggable": true}}))
            .into_iter()
            .collect();
        let said = json!({
            "name": "d", "target": "", "phase": phase, "persistentVolumeClaimInfo": {"claimName": "c"},
            "hotplugVolume": {"attachPodName": "p", "attachPodUID": "0c-3"},
        });
        let root = json!({"name": "root", "target": "vda"});
        instance(
            "Running",
            json!({"spec": {"volumes": volumes}, "status": {"volumeStatus": [root, said]}}),
        )
    }

    #[test]
    fn a_volume_is_plugged_in_and_out_by_what_its_status_and_the_spec_say() {
        let plug = || {
            Some(Work::Plug {
                volume: "d".into(),
                attachment: "0c-3".into(),
            })
        };
        let unplug = || Some(Work::Unplug { volume: "d".into() });
        for (phase, claim, expected) in [
            ("Pending", Some("c"), None),
            ("AttachedToNode", Some("c"), plug()),
            ("MountedToPod", Some("c"), plug()),
            ("Ready", Some("c"), None),
            ("Pending", None, None),
            // It may be half way in.
            ("AttachedToNode", None, unplug()),
            ("Ready", None, unplug()),
            ("Ready", Some("another"), unplug()),
            // Added again before it had gone: first it goes.
            ("Detaching", Some("c"), unplug()),
            ("UnMountedFromPod", Some("c"), None),
        ] {
            let found = work(&with(phase, claim)).pop();
            assert_eq!(found, expected, "{phase} {claim:?}");
        }
    }

    #[test]
    fn a_failure_keeps_the_phase_and_a_success_clears_the_words() {
        let before = with("AttachedToNode", Some("c")).status();
        let failed = Outcome::Failed {
            words: "no room".into(),
        };
        let failed = told(&before, "d", &failed);
        let said = &failed.volume_status[1];
        assert_eq!(said.phase.as_deref(), Some("AttachedToNode"));
        assert_eq!(said.message.as_deref(), Some("no room"));
        let ready = Outcome::Ready {
            target: "sda".into(),
            size: 7,
            claim: Box::default(),
        };
        let ready = told(&failed, "d", &ready);
        let said = &ready.volume_status[1];
        assert_eq!(
            (said.phase.as_deref(), said.target.as_str(), said.size),
            (Some("Ready"), "sda", Some(7))
        );
        assert_eq!(said.message, None);
        assert_eq!(ready.volume_status[0], before.volume_status[0]);
    }
}
