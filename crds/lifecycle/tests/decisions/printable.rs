//! The one word that people see.

use catamaran_lifecycle::{
    BackOff, Phase, PrintableFacts, PrintableStatus, RunStrategy, VmView, VmiView, VolumeProblem,
    printable_status,
};

use crate::{run, vm};

#[test]
fn printable_status_has_the_peers_precedence() {
    let none = PrintableFacts::default();
    let failing = BackOff {
        consecutive: 1,
        ..BackOff::default()
    };
    let with = |vmi: VmiView| Some(vmi);
    let sync = |reason: &str| {
        with(VmiView {
            sync_failure: Some(reason.to_owned()),
            ..run(Phase::Pending)
        })
    };
    let volumes = |problem| PrintableFacts {
        volumes: Some(problem),
        ..none
    };
    let always = vm(RunStrategy::Always);
    let crashing = VmView {
        back_off: failing,
        ..always.clone()
    };
    let table = [
        (
            VmView {
                deleting: true,
                ..always.clone()
            },
            with(run(Phase::Running)),
            none,
            PrintableStatus::Terminating,
        ),
        (
            always.clone(),
            with(VmiView {
                deleting: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Stopping,
        ),
        (
            always.clone(),
            with(run(Phase::Running)),
            PrintableFacts {
                deleting: true,
                ..none
            },
            PrintableStatus::Stopping,
        ),
        (
            always.clone(),
            with(VmiView {
                migrating: true,
                paused: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Migrating,
        ),
        (
            always.clone(),
            with(VmiView {
                paused: true,
                ..run(Phase::Running)
            }),
            none,
            PrintableStatus::Paused,
        ),
        (
            always.clone(),
            with(run(Phase::Running)),
            volumes(VolumeProblem::Failed),
            PrintableStatus::Running,
        ),
        (
            always.clone(),
            sync("FailedPvcNotFound"),
            none,
            PrintableStatus::ErrorPvcNotFound,
        ),
        (
            always.clone(),
            sync("ErrImagePull"),
            volumes(VolumeProblem::Failed),
            PrintableStatus::DataVolumeError,
        ),
        (
            always.clone(),
            with(VmiView {
                unschedulable: true,
                ..run(Phase::Scheduling)
            }),
            none,
            PrintableStatus::ErrorUnschedulable,
        ),
        (
            always.clone(),
            None,
            volumes(VolumeProblem::Provisioning),
            PrintableStatus::Provisioning,
        ),
        (
            always.clone(),
            None,
            volumes(VolumeProblem::Unbound),
            PrintableStatus::WaitingForVolumeBinding,
        ),
        (
            vm(RunStrategy::Halted),
            None,
            volumes(VolumeProblem::Unbound),
            PrintableStatus::Stopped,
        ),
        (
            always.clone(),
            sync("ErrImagePull"),
            none,
            PrintableStatus::ErrImagePull,
        ),
        (
            always.clone(),
            sync("ImagePullBackOff"),
            none,
            PrintableStatus::ImagePullBackOff,
        ),
        (
            always.clone(),
            with(run(Phase::Pending)),
            none,
            PrintableStatus::Starting,
        ),
        (
            crashing.clone(),
            None,
            PrintableFacts {
                creating: true,
                ..none
            },
            PrintableStatus::Starting,
        ),
        (
            crashing.clone(),
            None,
            none,
            PrintableStatus::CrashLoopBackOff,
        ),
        (
            crashing.clone(),
            with(run(Phase::Failed)),
            none,
            PrintableStatus::CrashLoopBackOff,
        ),
        (
            VmView {
                run_strategy: RunStrategy::Manual,
                ..crashing
            },
            None,
            none,
            PrintableStatus::Stopped,
        ),
        (
            always.clone(),
            with(run(Phase::Succeeded)),
            none,
            PrintableStatus::Stopped,
        ),
        (
            always,
            with(run(Phase::Unknown)),
            none,
            PrintableStatus::Unknown,
        ),
    ];
    for (vm, vmi, facts, expected) in table {
        assert_eq!(
            printable_status(&vm, vmi.as_ref(), &facts),
            expected,
            "{vm:?} {vmi:?}"
        );
    }
}
