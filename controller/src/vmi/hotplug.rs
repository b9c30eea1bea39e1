//! Volumes that come and go while the guest runs: their attachment pods, and how far they are. Pure.
//!
//! A volume comes to the node with its pod and is handed over to the node daemon as AttachedToNode; the daemon gives it back as
//! UnMountedFromPod, and only then its pod goes. What is said of a volume goes last, so that nothing of it is forgotten.

use std::collections::BTreeMap;

use catamaran_api::{
    HotplugVolumeStatus, PersistentVolumeClaimInfo, VirtualMachineInstance, VolumeStatus,
};
use catamaran_lifecycle::{VolumePhase, hot_claim};
use k8s_openapi::api::core::v1::Pod;

use crate::vmi::build::ClaimMode;
use crate::vmi::scheduler;

/// Seconds between looks for a claim that is not there.
const MISSING: u64 = 3;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// The guest runs: volumes come and go.
    On,
    /// Not yet, or it is on its way out: nothing changes.
    Between,
    /// The launcher is gone, and with it the use of every volume.
    Over,
}

/// An attachment pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attachment {
    /// UID.
    pub(super) uid: String,
    /// It was asked to go.
    pub(super) deleting: bool,
    /// What it does.
    pub(super) state: AttachmentState,
}

/// What an attachment pod does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttachmentState {
    /// Not there yet: the words of who keeps it.
    Waits(String),
    /// The claim is on the node.
    Runs,
    /// It does not run any more.
    Ended,
}

impl Attachment {
    /// Of a pod as the API server has it.
    pub(super) fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.iter().flatten();
        let unscheduled = conditions
            .filter(|c| c.type_ == "PodScheduled" && c.status == "False")
            .find_map(|c| c.message.clone());
        let states = status.container_statuses.iter().flatten();
        let mut states = states.filter_map(|container| container.state.as_ref());
        let state = match (status.phase.as_deref(), states.next()) {
            (Some("Failed" | "Succeeded"), _) => AttachmentState::Ended,
            (_, Some(state)) if state.running.is_some() => AttachmentState::Runs,
            (_, Some(state)) => {
                let waiting = state.waiting.clone().unwrap_or_default();
                let words = waiting.message.or(waiting.reason);
                AttachmentState::Waits(words.unwrap_or_else(|| "it was restarted".to_owned()))
            }
            (_, None) => AttachmentState::Waits(
                unscheduled.unwrap_or_else(|| "it was not scheduled yet".to_owned()),
            ),
        };
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            state,
        }
    }
}

/// What is known of one volume besides the instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Name that its pod has, or would have.
    pub(super) pod_name: String,
    /// Its pod.
    pub(super) pod: Option<Attachment>,
    /// Its claim, where there is no pod: `None`: it is not there.
    pub(super) claim: Option<ClaimMode>,
}

/// A pod to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Create {
    /// Name of the volume.
    pub(super) volume: String,
    /// Name of its claim.
    pub(super) claim: String,
    /// What the claim is.
    pub(super) mode: ClaimMode,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The pods to make.
    pub(super) create: Vec<Create>,
    /// Volumes whose pods are to go.
    pub(super) delete: Vec<String>,
    /// `status.volumeStatus` from now on.
    pub(super) status: Vec<VolumeStatus>,
    /// Time alone changes the answer in so many seconds.
    pub(super) again_in: Option<u64>,
}

/// The names of all volumes that come and go, and the claims of those that are asked for.
pub(super) fn volumes(vmi: &VirtualMachineInstance) -> BTreeMap<String, Option<String>> {
    let said = vmi.status.iter().flat_map(|status| &status.volume_status);
    let said = said.filter(|volume| volume.hotplug_volume.is_some());
    let mut all: BTreeMap<String, Option<String>> =
        said.map(|volume| (volume.name.clone(), None)).collect();
    for volume in &vmi.spec.volumes {
        if let Some(claim) = hot_claim(volume) {
            all.insert(volume.name.clone(), Some(claim.to_owned()));
        }
    }
    all
}

/// Decides. `known`: of each of [`volumes`].
pub(super) fn decide(
    vmi: &VirtualMachineInstance,
    run: Run,
    known: &BTreeMap<String, Known>,
) -> Plan {
    let status = vmi.status.clone().unwrap_or_default().volume_status;
    let mut plan = Plan {
        status,
        ..Plan::default()
    };
    for (name, claim) in volumes(vmi) {
        let Some(known) = known.get(&name) else {
            continue;
        };
        match run {
            Run::On => plan.one(&name, claim.as_deref(), known),
            Run::Between => {}
            Run::Over => plan.end_pod(&name, known),
        }
    }
    plan
}

impl Plan {
    fn one(&mut self, name: &str, wanted: Option<&str>, known: &Known) {
        let said = self
            .status
            .iter()
            .find(|said| said.name == name && said.hotplug_volume.is_some());
        let phase = said.map(|said| VolumePhase::parse(said.phase.as_deref()));
        let claim = said.and_then(|said| said.persistent_volume_claim_info.as_ref());
        let claim = claim.and_then(|claim| claim.claim_name.as_deref());
        let going = matches!(
            phase,
            Some(VolumePhase::Detaching | VolumePhase::UnMountedFromPod)
        );
        match wanted {
            Some(wanted) if !going && (claim.is_none() || claim == Some(wanted)) => {
                self.bring(name, wanted, phase, known);
            }
            _ => self.take(name, phase, known),
        }
    }

    /// The volume is wanted.
    fn bring(&mut self, name: &str, claim: &str, phase: Option<VolumePhase>, known: &Known) {
        let pending = phase.is_none_or(|phase| phase == VolumePhase::Pending);
        let Some(pod) = &known.pod else {
            match known.claim {
                None => {
                    self.again_in = Some(MISSING);
                    let words = format!("PersistentVolumeClaim {claim} is not there");
                    self.pending(name, claim, known, "FailedPvcNotFound", &words);
                }
                Some(mode) => {
                    self.create.push(Create {
                        volume: name.to_owned(),
                        claim: claim.to_owned(),
                        mode,
                    });
                    if pending {
                        let words = format!("Pod {} is being made", known.pod_name);
                        self.pending(name, claim, known, "AttachmentPodCreated", &words);
                    }
                }
            }
            return;
        };
        match &pod.state {
            _ if pod.deleting => {}
            AttachmentState::Ended => self.delete.push(name.to_owned()),
            AttachmentState::Waits(words) if pending => {
                let words = format!("Pod {} does not run yet: {words}", known.pod_name);
                self.pending(name, claim, known, "AttachmentPodWaits", &words);
            }
            AttachmentState::Waits(_) => {}
            AttachmentState::Runs => {
                let said = self.entry(name, claim);
                said.hotplug_volume = Some(HotplugVolumeStatus {
                    attach_pod_name: Some(known.pod_name.clone()),
                    attach_pod_uid: Some(pod.uid.clone()),
                });
                if pending {
                    said.phase = Some(VolumePhase::AttachedToNode.as_str().to_owned());
                    said.reason = Some("AttachedToNode".to_owned());
                    said.message = None;
                }
            }
        }
    }

    /// The volume is not wanted any more.
    fn take(&mut self, name: &str, phase: Option<VolumePhase>, known: &Known) {
        match phase {
            None | Some(VolumePhase::Pending | VolumePhase::UnMountedFromPod) => {
                if known.pod.is_some() {
                    self.end_pod(name, known);
                } else {
                    self.status
                        .retain(|said| said.name != name || said.hotplug_volume.is_none());
                }
            }
            // The node daemon's.
            Some(_) => {}
        }
    }

    fn end_pod(&mut self, name: &str, known: &Known) {
        if known.pod.as_ref().is_some_and(|pod| !pod.deleting) {
            self.delete.push(name.to_owned());
        }
    }

    fn pending(&mut self, name: &str, claim: &str, known: &Known, reason: &str, words: &str) {
        let said = self.entry(name, claim);
        said.hotplug_volume = Some(HotplugVolumeStatus {
            attach_pod_name: Some(known.pod_name.clone()),
            attach_pod_uid: None,
        });
        said.phase = Some(VolumePhase::Pending.as_str().to_owned());
        let known = said.message.as_deref();
        let known = known.filter(|_| said.reason.as_deref() == Some(reason));
        if !known.is_some_and(|known| scheduler::same(known, words)) {
            said.message = Some(words.to_owned());
        }
        said.reason = Some(reason.to_owned());
    }

    /// The pod of a volume can't be made: said of a volume that is not there yet.
    pub(super) fn failed(&mut self, name: &str, words: &str) {
        let pending = VolumePhase::Pending.as_str();
        let said = self
            .status
            .iter_mut()
            .find(|said| said.name == name && said.phase.as_deref() == Some(pending));
        if let Some(said) = said {
            said.reason = Some("FailedCreate".to_owned());
            said.message = Some(words.to_owned());
        }
    }

    fn entry(&mut self, name: &str, claim: &str) -> &mut VolumeStatus {
        let found = self.status.iter().position(|said| said.name == name);
        let at = found.unwrap_or_else(|| {
            self.status.push(VolumeStatus {
                name: name.to_owned(),
                persistent_volume_claim_info: Some(PersistentVolumeClaimInfo {
                    claim_name: Some(claim.to_owned()),
                    ..PersistentVolumeClaimInfo::default()
                }),
                ..VolumeStatus::default()
            });
            self.status.len() - 1
        });
        &mut self.status[at]
    }
}

#[cfg(test)]
mod tests;
