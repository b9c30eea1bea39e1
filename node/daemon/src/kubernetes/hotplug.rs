//! What is to be done about volumes that come and go, and what is said about them: pure functions of the instance.
//!
//! The controller says by which pod a volume came to this node; from there it is this daemon's, until nothing of the machine uses it any more.

pub mod pace;

use std::collections::HashMap;

use catamaran_api::{PersistentVolumeClaimInfo, VirtualMachineInstanceStatus, VolumeStatus};
use catamaran_lifecycle::{HOTPLUG_FAILED, VolumePhase, hot_claim};

use crate::kubernetes::instance::Instance;

/// Words about a launcher that can't plug anything in.
pub const NEEDS_RESTART: &str = "the machine runs in a launcher of an earlier version, which can't plug anything in; restart the machine";

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
    /// See whether a pod holds what the guest uses: it is not the one that the volume came with.
    Check {
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

impl Work {
    /// Name of the volume.
    #[must_use]
    pub fn volume(&self) -> &str {
        match self {
            Self::Plug { volume, .. } | Self::Check { volume, .. } | Self::Unplug { volume } => {
                volume
            }
        }
    }

    /// That it was not done, and why.
    #[must_use]
    pub fn failed(&self, why: &str) -> Outcome {
        let what = match self {
            Self::Plug { .. } => "plugging in failed",
            Self::Check { .. } => "its new pod can't hold it",
            Self::Unplug { .. } => "unplugging failed",
        };
        Outcome::Failed {
            words: format!("{what}: {why}; it is tried again"),
        }
    }
}

/// Everything that is to be done. `bound`: by volume, UID of the attachment pod that is known to hold what the guest uses.
#[must_use]
pub fn work(instance: &Instance, bound: &HashMap<String, String>) -> Vec<Work> {
    let status = instance.status();
    let hot = status.volume_status.iter();
    hot.filter_map(|said| one(instance, said, bound)).collect()
}

fn one(instance: &Instance, said: &VolumeStatus, bound: &HashMap<String, String>) -> Option<Work> {
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
        VolumePhase::Ready if stays => {
            let attachment = attachment?;
            (bound.get(&volume) != Some(&attachment)).then_some(Work::Check { volume, attachment })
        }
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
    /// Its pod holds what the guest uses.
    Bound,
    /// The guest has not let it go yet.
    Detaching {
        /// It was asked more than once.
        again: bool,
    },
    /// Nothing of the machine uses it any more.
    Left,
    /// The launcher is older than this daemon and can't do it.
    NeedsRestart,
    /// It is tried again.
    Failed {
        /// What, and why.
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
        Outcome::Detaching { .. } => Some(VolumePhase::Detaching),
        Outcome::Left => Some(VolumePhase::UnMountedFromPod),
        Outcome::Bound | Outcome::NeedsRestart | Outcome::Failed { .. } => None,
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
        Outcome::Bound => (Some("VolumeReady".to_owned()), None),
        Outcome::Detaching { again } => {
            let words = if *again {
                "The guest has not let the disk go, which it does once nothing in it uses the disk; it is asked again"
            } else {
                "The guest was asked to let the disk go"
            };
            (Some("Detaching".to_owned()), Some(words.to_owned()))
        }
        Outcome::Left => (Some("VolumeUnMountedFromPod".to_owned()), None),
        Outcome::NeedsRestart => (
            Some(HOTPLUG_FAILED.to_owned()),
            Some(NEEDS_RESTART.to_owned()),
        ),
        Outcome::Failed { words } => (Some(HOTPLUG_FAILED.to_owned()), Some(words.clone())),
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
            let bound = HashMap::from([("d".to_owned(), "0c-3".to_owned())]);
            let found = work(&with(phase, claim), &bound).pop();
            assert_eq!(found, expected, "{phase} {claim:?}");
        }
    }

    #[test]
    fn a_volume_whose_pod_is_another_one_is_looked_at_again() {
        let ready = with("Ready", Some("c"));
        let check = Some(Work::Check {
            volume: "d".into(),
            attachment: "0c-3".into(),
        });
        for (bound, expected) in [
            (None, check.clone()),
            (Some("0b-2"), check),
            (Some("0c-3"), None),
        ] {
            let bound = bound.map(|uid| ("d".to_owned(), uid.to_owned()));
            let found = work(&ready, &bound.into_iter().collect()).pop();
            assert_eq!(found, expected);
        }
        // Nobody waits for the look at one that is to go.
        let leaving = work(&with("Ready", None), &HashMap::new()).pop();
        assert_eq!(leaving, Some(Work::Unplug { volume: "d".into() }));
    }

    #[test]
    fn a_pod_that_does_not_hold_the_volume_is_told_and_the_volume_stays_ready() {
        let before = with("Ready", Some("c")).status();
        let check = Work::Check {
            volume: "d".into(),
            attachment: "0c-3".into(),
        };
        let failed = told(&before, "d", &check.failed("its folder is another one"));
        let said = &failed.volume_status[1];
        assert_eq!(said.phase.as_deref(), Some("Ready"));
        assert_eq!(
            said.message.as_deref(),
            Some("its new pod can't hold it: its folder is another one; it is tried again")
        );
        let bound = told(&failed, "d", &Outcome::Bound);
        let said = &bound.volume_status[1];
        assert_eq!(said.phase.as_deref(), Some("Ready"));
        assert_eq!(
            (said.reason.as_deref(), said.message.as_deref()),
            (Some("VolumeReady"), None)
        );
    }

    #[test]
    fn a_launcher_that_is_too_old_is_told_with_what_helps() {
        let before = with("AttachedToNode", Some("c")).status();
        let told = told(&before, "d", &Outcome::NeedsRestart);
        let said = &told.volume_status[1];
        assert_eq!(said.phase.as_deref(), Some("AttachedToNode"));
        assert!(
            said.message
                .as_deref()
                .unwrap()
                .ends_with("restart the machine")
        );
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
