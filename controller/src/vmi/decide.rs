//! What is to be done about an instance now, and what its status is from now on. Pure.

use catamaran_api::{
    VirtualMachineInstance, VirtualMachineInstancePhaseTransitionTimestamp,
    VirtualMachineInstanceStatus,
};
use catamaran_lifecycle::{
    ConditionStatus, Phase, Seconds, VmiView, instance_ready, set_instance_condition, to_time,
};
use catamaran_plan::paths;

use crate::finalizers;
use crate::node_states::NodeState;
use crate::vmi::fate::{self, Fate};
use crate::vmi::hotplug::Run;
use crate::vmi::pod_view::{PodState, PodView};
use crate::vmi::scheduler;

/// Seconds that a pod has longer than its guest: for the launcher to end after it.
const AFTER_GRACE: u32 = 15;
/// Age in seconds from which a pod that does not run is worth a write. Timestamps have whole seconds, so it is between one and two.
const SLOW: Seconds = 2;
/// Seconds that the node daemon has to say how a run ended, before the pod's word is taken.
const DAEMON: Seconds = 3;
/// Seconds after the end of a run from which a pod that still runs is ended.
const LINGERING: Seconds = 10;
/// Seconds between looks at the node of a guest whose end is not proved.
const UNPROVED: u64 = 5;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    /// The status from now on.
    pub(super) status: VirtualMachineInstanceStatus,
    /// The node whose daemon the instance is handed over to.
    pub(super) hand_over: Option<String>,
    /// The instance may go.
    pub(super) release: bool,
    /// What is to be done about the pod.
    pub(super) pod: PodAction,
    /// The pod's readiness gate, where it has to change.
    pub(super) gate: Option<bool>,
    /// Time alone changes the answer in so many seconds.
    pub(super) again_in: Option<u64>,
    /// A Warning event: (reason, message).
    pub(super) warning: Option<(String, String)>,
}

/// What is to be done about the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodAction {
    /// Nothing.
    Nothing,
    /// Make it.
    Create,
    /// Ask it to go.
    Delete {
        /// Seconds that it has.
        grace: u32,
    },
}

/// Whether a guest may run without a pod that says so: it was handed over to a node, and nobody has said that it has ended.
pub(super) fn may_run(phase: Phase) -> bool {
    phase == Phase::Scheduled || !(phase.is_starting() || phase.is_final())
}

/// Decides. `fate`: of the guest, where its pod is gone and it [`may_run`]; `node`: the one that its pod was given to, as far as the cluster has it.
///
/// Invariants: no second pod for an instance that was handed over; it is over, and its finalizer goes, only when it is proved that it does not run.
pub(super) fn decide(
    vmi: &VirtualMachineInstance,
    pod: Option<&PodView>,
    fate: Option<&Fate>,
    node: Option<NodeState>,
    now: Seconds,
) -> Decision {
    let view = VmiView::of(vmi);
    let mut decision = Decision {
        status: vmi.status.clone().unwrap_or_default(),
        hand_over: None,
        release: false,
        pod: PodAction::Nothing,
        gate: None,
        again_in: None,
        warning: None,
    };
    if view.deleting {
        decision.leave(vmi, &view, pod, fate, now);
        return decision;
    }
    if view.phase.is_final() {
        decision.finish(&view, pod, now);
        return decision;
    }
    let Some(pod) = pod else {
        if matches!(view.phase, Phase::Unset | Phase::Pending) {
            decision.pod = PodAction::Create;
            decision.enter(Phase::Pending, now);
        } else if may_run(view.phase) {
            decision.vanished(fate, now);
        } else {
            decision.end(Phase::Failed, "The launcher pod is gone", now);
        }
        return decision;
    };
    match &pod.state {
        PodState::Ended { well, words, at } => {
            let waited = at.map_or(DAEMON, |at| now - at);
            if view.phase.is_starting() && view.phase != Phase::Scheduled {
                decision.end(Phase::Failed, words, now);
            } else if waited >= DAEMON {
                decision.end(final_phase(*well), words, now);
            } else {
                decision.again_in = u64::try_from(DAEMON - waited).ok();
            }
        }
        PodState::Running if pod.has_address && pod.node.is_some() => {
            if view.phase.is_starting() && view.phase != Phase::Scheduled {
                decision.hand_over(pod, now);
            } else if view.phase == Phase::Running {
                decision.follow(vmi, &view, pod, node, now);
            }
            if pod.deleting.is_some() {
                decision.evicted(now);
            }
        }
        PodState::Running | PodState::Waiting => decision.wait(&view, pod, now),
    }
    decision
}

fn final_phase(well: bool) -> Phase {
    if well {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

/// No instance migrates. Those of machines are born with that word, so that it costs no write of the machine's status later.
pub(crate) fn not_migratable(status: &mut VirtualMachineInstanceStatus, now: Seconds) {
    set_instance_condition(
        &mut status.conditions,
        "LiveMigratable",
        ConditionStatus::False,
        "LiveMigrationNotSupported",
        "Guests are restarted on another node, not migrated",
        now,
    );
}

impl Decision {
    /// Where the run is for the volumes that come and go.
    pub(super) fn run(&self, vmi: &VirtualMachineInstance, pod: Option<&PodView>) -> Run {
        let phase = Phase::parse(self.status.phase.as_deref());
        match pod.map(|pod| (&pod.state, pod.deleting)) {
            None if may_run(phase) => Run::Between,
            None | Some((PodState::Ended { .. }, _)) => Run::Over,
            Some((PodState::Running, None))
                if phase == Phase::Running && vmi.metadata.deletion_timestamp.is_none() =>
            {
                Run::On
            }
            Some(_) => Run::Between,
        }
    }

    /// The instance is being deleted.
    fn leave(
        &mut self,
        vmi: &VirtualMachineInstance,
        view: &VmiView,
        pod: Option<&PodView>,
        fate: Option<&Fate>,
        now: Seconds,
    ) {
        let grace = view.grace_seconds.saturating_add(AFTER_GRACE);
        if let Some(pod) = pod {
            match &pod.state {
                PodState::Waiting | PodState::Running => {
                    // A stop with a shorter grace period comes after the deletion has begun.
                    if pod.deleting.is_none_or(|left| left > i64::from(grace)) {
                        self.pod = PodAction::Delete { grace };
                    }
                    return;
                }
                PodState::Ended { well, words, .. } => {
                    if pod.deleting.is_none() {
                        self.pod = PodAction::Delete { grace: 0 };
                    }
                    if !view.phase.is_final() {
                        self.end(final_phase(*well), words, now);
                    }
                }
            }
        } else if may_run(view.phase) {
            if !self.vanished(fate, now) {
                return;
            }
        } else if !view.phase.is_final() {
            // It never ran.
            self.end(Phase::Succeeded, "Deleted", now);
        }
        self.release = finalizers::has(&vmi.metadata, finalizers::INSTANCE);
    }

    /// The pod of a guest that was handed over is not there any more. Whether that was its end.
    fn vanished(&mut self, fate: Option<&Fate>, now: Seconds) -> bool {
        match fate {
            Some(Fate::Over { words }) => {
                self.end(Phase::Failed, words, now);
                true
            }
            Some(Fate::Unknown { reason, words }) => {
                self.cannot(reason, words, now);
                let ready = ConditionStatus::False;
                let conditions = &mut self.status.conditions;
                set_instance_condition(conditions, "Ready", ready, reason, words, now);
                self.again_in = Some(UNPROVED);
                false
            }
            None => {
                self.again_in = Some(UNPROVED);
                false
            }
        }
    }

    /// The run is over and the instance stays.
    fn finish(&mut self, view: &VmiView, pod: Option<&PodView>, now: Seconds) {
        let Some(pod) = pod else { return };
        if matches!(pod.state, PodState::Ended { .. }) || pod.deleting.is_some() {
            return;
        }
        let left = view.ended_at.unwrap_or(now) + LINGERING - now;
        match u64::try_from(left) {
            Ok(left @ 1..) => self.again_in = Some(left),
            _ => {
                self.pod = PodAction::Delete { grace: AFTER_GRACE };
            }
        }
    }

    /// The pod does not run yet.
    fn wait(&mut self, view: &VmiView, pod: &PodView, now: Seconds) {
        let age = now - pod.created;
        let slow = age >= SLOW;
        if slow && !matches!(view.phase, Phase::Scheduling | Phase::Scheduled) {
            self.enter(Phase::Scheduling, now);
        }
        match &pod.unschedulable {
            Some(words) if slow => self.unschedulable(words, now),
            Some(_) => {}
            None => self.drop_condition("PodScheduled"),
        }
        match &pod.image_failure {
            Some((reason, words)) => {
                self.enter(Phase::Scheduling, now);
                // The kubelet alternates between trying and waiting; the second word stays, or each try would cost a write.
                let known = self.sync_failure();
                if known.as_deref() != Some("ImagePullBackOff") {
                    self.cannot(reason, words, now);
                    if known.is_some() {
                        self.warning = None;
                    }
                }
            }
            None if self.sync_failure().is_some() => self.drop_condition("Synchronized"),
            None => {}
        }
        if !slow {
            self.again_in = u64::try_from(SLOW - age).ok().filter(|left| *left > 0);
        }
    }

    /// No node takes the pod. The words stay as long as their reasons do.
    fn unschedulable(&mut self, words: &str, now: Seconds) {
        let type_ = "PodScheduled";
        let mut conditions = self.status.conditions.iter();
        let said = conditions.find(|c| c.type_ == type_ && c.status == "False");
        let said = said.and_then(|condition| condition.message.as_deref());
        if said.is_some_and(|said| scheduler::same(said, words)) {
            return;
        }
        let (conditions, holds) = (&mut self.status.conditions, ConditionStatus::False);
        set_instance_condition(conditions, type_, holds, "Unschedulable", words, now);
    }

    /// The pod runs: from here on the node's daemon drives.
    fn hand_over(&mut self, pod: &PodView, now: Seconds) {
        let node = pod.node.clone().unwrap_or_default();
        self.drop_condition("PodScheduled");
        self.drop_condition("Synchronized");
        not_migratable(&mut self.status, now);
        self.enter(Phase::Scheduled, now);
        let status = &mut self.status;
        status.active_pods.insert(pod.uid.clone(), node.clone());
        status.node_name = Some(node.clone());
        status.qos_class.clone_from(&pod.qos);
        status
            .launcher_container_image_version
            .clone_from(&pod.image);
        status.runtime_user = Some(i64::from(paths::UID));
        self.hand_over = Some(node);
    }

    /// Somebody has deleted the pod, such as a drain: the guest powers off, and has not failed.
    fn evicted(&mut self, now: Seconds) {
        set_instance_condition(
            &mut self.status.conditions,
            "EvictionRequested",
            ConditionStatus::True,
            "PodDeleted",
            "The launcher pod is being deleted; the guest is asked to power off",
            now,
        );
    }

    /// The guest runs: Ready and the pod's gate follow.
    fn follow(
        &mut self,
        vmi: &VirtualMachineInstance,
        view: &VmiView,
        pod: &PodView,
        node: Option<NodeState>,
        now: Seconds,
    ) {
        let probe = vmi.spec.readiness_probe.as_ref().map(|_| pod.ready);
        let (holds, reason, message) = match fate::doubt(node) {
            None => instance_ready(view.phase, view.paused, probe),
            Some(words) => (ConditionStatus::False, fate::NOT_READY, words),
        };
        set_instance_condition(
            &mut self.status.conditions,
            "Ready",
            holds,
            reason,
            message,
            now,
        );
        let wanted = !view.paused;
        if pod.gate != Some(wanted) && (wanted || pod.gate.is_some()) {
            self.gate = Some(wanted);
        }
    }

    /// The instance can't be brought further now; it is tried again.
    pub(super) fn cannot(&mut self, reason: &str, words: &str, now: Seconds) {
        if self.sync_failure().as_deref() != Some(reason) {
            self.warning = Some((reason.to_owned(), words.to_owned()));
        }
        set_instance_condition(
            &mut self.status.conditions,
            "Synchronized",
            ConditionStatus::False,
            reason,
            words,
            now,
        );
    }

    /// The instance can never be: its spec, which nobody may change, is refused.
    pub(super) fn refuse(&mut self, words: &str, now: Seconds) {
        self.cannot("FailedCreate", words, now);
        self.end(Phase::Failed, words, now);
    }

    fn end(&mut self, phase: Phase, words: &str, now: Seconds) {
        self.enter(phase, now);
        self.status.reason = Some(words.to_owned());
        self.drop_condition("Paused");
        self.drop_condition("AgentConnected");
    }

    fn enter(&mut self, phase: Phase, now: Seconds) {
        let status = &mut self.status;
        if status.phase.as_deref() == Some(phase.as_str()) {
            return;
        }
        status.phase = Some(phase.as_str().to_owned());
        status
            .phase_transition_timestamps
            .push(VirtualMachineInstancePhaseTransitionTimestamp {
                phase: status.phase.clone(),
                phase_transition_timestamp: Some(to_time(now)),
            });
        let (holds, reason, message) = instance_ready(phase, false, None);
        set_instance_condition(&mut status.conditions, "Ready", holds, reason, message, now);
    }

    fn sync_failure(&self) -> Option<String> {
        let mut conditions = self.status.conditions.iter();
        let found = conditions.find(|c| c.type_ == "Synchronized" && c.status == "False");
        found.and_then(|condition| condition.reason.clone())
    }

    fn drop_condition(&mut self, type_: &str) {
        self.status.conditions.retain(|c| c.type_ != type_);
    }
}

#[cfg(test)]
mod tests;
