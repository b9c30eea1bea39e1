//! How often a machine was started again because its guest had ended, and how it ended last: for people, in `status.catamaran` of the machine.
//!
//! Called by the machine's task, and by what shows machines. It is counted when the run strategy puts the ended instance away to make another.

use catamaran_lifecycle::{Phase, RunStrategy, VmView, VmiView};
use serde_json::{Value, json};

/// Field of the status.
const FIELD: &str = "catamaran";

/// Whether the run strategy makes another instance where this one has ended.
#[must_use]
pub fn follows(vm: &VmView, vmi: &VmiView) -> bool {
    !vm.deleting
        && match vm.run_strategy {
            RunStrategy::Always => vmi.phase.is_final(),
            RunStrategy::RerunOnFailure => vmi.phase == Phase::Failed,
            RunStrategy::Manual | RunStrategy::Once | RunStrategy::Halted => false,
        }
}

/// Counts the end of a run, once.
pub fn note(vm: &mut Value, uid: &str, end: &str) {
    let known = &vm["status"][FIELD];
    if known["ended"] == uid {
        return;
    }
    let restarts = count(vm) + 1;
    vm["status"][FIELD] = json!({"restarts": restarts, "lastEnd": end, "ended": uid});
}

/// Takes what is known from an older status into a new one.
pub fn keep(old: &Value, new: &mut Value) {
    if let Some(known) = old.get(FIELD) {
        new[FIELD] = known.clone();
    }
}

/// How often it was started again.
#[must_use]
pub fn count(vm: &Value) -> u64 {
    vm["status"][FIELD]["restarts"].as_u64().unwrap_or(0)
}

/// How its guest ended before it was started again; `None` when that never was.
#[must_use]
pub fn last_end(vm: &Value) -> Option<&str> {
    vm["status"][FIELD]["lastEnd"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(run_strategy: RunStrategy) -> VmView {
        let vm = serde_json::from_value(json!({
            "metadata": {}, "spec": {"runStrategy": run_strategy.as_str(), "template": {"spec": {"domain": {"devices": {}}}}}
        }));
        VmView::of(&vm.unwrap(), "", catamaran_lifecycle::BackOff::default()).unwrap()
    }

    fn ended(phase: Phase) -> VmiView {
        VmiView {
            phase,
            ..VmiView::default()
        }
    }

    #[test]
    fn only_a_run_that_is_followed_by_another_counts() {
        let (failed, succeeded) = (ended(Phase::Failed), ended(Phase::Succeeded));
        assert!(follows(&view(RunStrategy::Always), &failed));
        assert!(follows(&view(RunStrategy::Always), &succeeded));
        assert!(!follows(&view(RunStrategy::Always), &ended(Phase::Running)));
        assert!(follows(&view(RunStrategy::RerunOnFailure), &failed));
        assert!(!follows(&view(RunStrategy::RerunOnFailure), &succeeded));
        assert!(!follows(&view(RunStrategy::Manual), &failed));
        let leaving = VmView {
            deleting: true,
            ..view(RunStrategy::Always)
        };
        assert!(!follows(&leaving, &failed));
    }

    #[test]
    fn each_end_counts_once_and_outlives_a_new_status() {
        let mut vm = json!({"spec": {}});
        assert_eq!((count(&vm), last_end(&vm)), (0, None));
        note(&mut vm, "a", "QEMU is gone");
        note(&mut vm, "a", "QEMU is gone");
        assert_eq!((count(&vm), last_end(&vm)), (1, Some("QEMU is gone")));
        let mut status = json!({"printableStatus": "Running"});
        keep(&vm["status"], &mut status);
        vm["status"] = status;
        note(&mut vm, "b", "it powered off");
        assert_eq!((count(&vm), last_end(&vm)), (2, Some("it powered off")));
    }
}
