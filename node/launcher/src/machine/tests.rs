//! Tests of the machine's life.

use super::*;

fn generation() -> Generation {
    Generation {
        vmi_uid: Default::default(),
        counter: 1,
        spec_digest: "d".into(),
    }
}

/// A machine that runs since t = 0, with 30 s of grace.
fn running() -> Machine {
    let mut machine = Machine::idle(0);
    machine.expect_plan(30);
    assert_eq!(
        machine.request(Request::Start(generation()), 0).1,
        vec![Effect::Prepare]
    );
    assert_eq!(
        machine.step(Input::Prepared(Ok(())), 0),
        vec![Effect::Start]
    );
    assert_eq!(
        machine.step(Input::Started(Ok((Some(7), DomainState::Running))), 0),
        vec![]
    );
    assert_eq!(machine.state, VmState::Running);
    machine
}

fn ended(machine: &Machine) -> EndReason {
    match machine.state {
        VmState::Ended { reason } => reason,
        ref other => panic!("not ended: {other:?}"),
    }
}

fn stopped(orderly: bool, reason: &str) -> Input {
    Input::Event(Event::Stopped {
        orderly,
        reason: reason.into(),
    })
}

#[test]
fn a_guest_that_powers_off_has_shut_down() {
    let mut machine = running();
    machine.step(Input::Event(Event::ShuttingDown), 10);
    machine.step(stopped(true, "shutdown"), 11);
    assert_eq!(
        machine.state,
        VmState::Stopping,
        "the process is still there"
    );
    assert_eq!(
        machine.step(Input::ProcessGone("exit code 0".into()), 12),
        vec![Effect::RecordEnd]
    );
    assert_eq!(ended(&machine), EndReason::Shutdown);
}

#[test]
fn a_qemu_that_is_gone_without_a_word_has_crashed() {
    let mut machine = running();
    assert_eq!(
        machine.step(Input::ProcessGone("signal 11".into()), 100),
        vec![]
    );
    assert_eq!(machine.next_due(), Some(2100));
    assert_eq!(machine.step(Input::Tick, 2100), vec![Effect::RecordEnd]);
    assert_eq!(ended(&machine), EndReason::Crashed);
    assert!(machine.message.unwrap().contains("signal 11"));
}

#[test]
fn the_power_button_is_pressed_every_five_seconds_until_the_deadline() {
    let mut machine = running();
    let (verdict, effects) = machine.request(Request::Stop(Some(12)), 1000);
    assert_eq!((verdict, effects), (Verdict::Queued, vec![]));
    let power = vec![Effect::Press(Press::Power)];
    assert_eq!(machine.step(Input::Tick, 1000), power);
    assert_eq!(machine.step(Input::Tick, 3000), vec![]);
    assert_eq!(machine.next_due(), Some(6000));
    assert_eq!(machine.step(Input::Tick, 6000), power);
    assert_eq!(machine.step(Input::Tick, 11_000), power);
    assert_eq!(
        machine.step(Input::Tick, 13_000),
        vec![Effect::Press(Press::Destroy)]
    );
    machine.step(stopped(false, "destroyed"), 13_100);
    machine.step(Input::ProcessGone("signal 9".into()), 13_101);
    assert_eq!(ended(&machine), EndReason::Destroyed);
}

#[test]
fn a_shorter_grace_period_replaces_a_longer_one_only() {
    let mut machine = running();
    machine.request(Request::Stop(Some(60)), 0);
    machine.request(Request::Stop(Some(10)), 0);
    machine.request(Request::Stop(Some(90)), 0);
    machine.step(Input::Tick, 0);
    assert!(
        machine
            .step(Input::Tick, 10_000)
            .contains(&Effect::Press(Press::Destroy))
    );
}

#[test]
fn a_paused_guest_is_resumed_to_be_stopped() {
    let mut machine = running();
    machine.step(Input::Pressed(Press::Pause, Ok(())), 1);
    let (_, effects) = machine.request(Request::Stop(None), 2);
    assert_eq!(effects, vec![Effect::Press(Press::Resume)]);
}

#[test]
fn a_stop_while_preparing_ends_without_a_start() {
    let mut machine = Machine::idle(0);
    machine.request(Request::Start(generation()), 0);
    assert_eq!(machine.request(Request::Stop(None), 1).0, Verdict::Queued);
    assert_eq!(
        machine.step(Input::Prepared(Ok(())), 2),
        vec![Effect::RecordEnd]
    );
    assert_eq!(ended(&machine), EndReason::Destroyed);
}

#[test]
fn a_stop_while_starting_takes_effect_after_the_start() {
    let mut machine = Machine::idle(0);
    machine.expect_plan(30);
    machine.request(Request::Start(generation()), 0);
    machine.step(Input::Prepared(Ok(())), 0);
    machine.request(Request::Stop(None), 1);
    let effects = machine.step(Input::Started(Ok((Some(7), DomainState::Running))), 2);
    assert_eq!(effects, vec![Effect::Press(Press::Power)]);
    assert_eq!(machine.state, VmState::Stopping);
}

#[test]
fn a_full_disk_pauses_and_goes_on_when_there_is_space() {
    let mut machine = running();
    let full = Event::DiskFailed {
        file: "/vm/overlays/a".into(),
        alias: "ua-a".into(),
        no_space: true,
    };
    machine.step(Input::Event(full), 0);
    machine.step(Input::Event(Event::Suspended { io_error: true }), 1);
    assert_eq!(
        machine.state,
        VmState::Paused {
            reason: PauseReason::NoSpace
        }
    );
    assert_eq!(
        machine.step(Input::Tick, 5000),
        vec![Effect::LookForSpace("/vm/overlays/a".into())]
    );
    assert_eq!(machine.step(Input::Space(false), 5001), vec![]);
    assert_eq!(
        machine.step(Input::Space(true), 5002),
        vec![Effect::Press(Press::Resume)]
    );
    machine.step(Input::Event(Event::Resumed), 5003);
    assert_eq!(machine.state, VmState::Running);
    assert_eq!(machine.next_due(), None);
}

#[test]
fn a_panic_keeps_the_log_before_qemu_is_ended() {
    let mut machine = running();
    assert_eq!(
        machine.step(Input::Event(Event::Panicked), 1),
        vec![Effect::KeepLog]
    );
    assert_eq!(
        machine.state,
        VmState::Paused {
            reason: PauseReason::Panicked
        }
    );
    assert_eq!(
        machine.step(Input::LogKept, 2),
        vec![Effect::Press(Press::Destroy)]
    );
    machine.step(stopped(false, "destroyed"), 3);
    machine.step(Input::ProcessGone("signal 15".into()), 4);
    assert_eq!(ended(&machine), EndReason::Panicked);
}

#[test]
fn a_failed_start_has_ended_with_its_reason() {
    let mut machine = Machine::idle(0);
    machine.request(Request::Start(generation()), 0);
    assert_eq!(
        machine.step(Input::Prepared(Err("no base".into())), 1),
        vec![Effect::RecordEnd]
    );
    assert_eq!(ended(&machine), EndReason::FailedToStart);
    assert_eq!(machine.message.as_deref(), Some("no base"));
}

#[test]
fn finishing_waits_for_the_end_and_tells_failure() {
    let mut machine = running();
    machine.request(Request::Finish, 0);
    assert_eq!(machine.finished(), None);
    machine.step(Input::ProcessGone("signal 11".into()), 0);
    machine.step(Input::Tick, 5000);
    assert_eq!(machine.finished(), Some(true));
}

#[test]
fn a_destroy_that_had_no_effect_is_repeated() {
    let mut machine = running();
    assert_eq!(
        machine.request(Request::Destroy, 0).1,
        vec![Effect::Press(Press::Destroy)]
    );
    assert_eq!(
        machine.step(Input::Pressed(Press::Destroy, Err("busy".into())), 1),
        vec![]
    );
    assert_eq!(machine.next_due(), Some(15_000));
    assert_eq!(
        machine.step(Input::Tick, 15_000),
        vec![Effect::Press(Press::Destroy)]
    );
}

#[test]
fn an_adopted_machine_that_was_paused_stays_so() {
    let (machine, effects) = Machine::adopted(
        generation(),
        30,
        Some(7),
        DomainState::Paused { io_error: false },
        0,
    );
    assert_eq!(
        machine.state,
        VmState::Paused {
            reason: PauseReason::User
        }
    );
    assert_eq!(effects, vec![]);
}

#[test]
fn a_disk_that_stays_full_is_tried_less_and_less_often() {
    let mut machine = running();
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..10 {
        let full = Event::DiskFailed {
            file: "/vm/overlays/a".into(),
            alias: "ua-a".into(),
            no_space: true,
        };
        machine.step(Input::Event(full), now);
        let due = machine.next_due().unwrap();
        pauses.push(due - now);
        now = due;
        machine.step(Input::Tick, now);
        machine.step(Input::Space(true), now);
        machine.step(Input::Event(Event::Resumed), now + 1);
        now += 2;
    }
    assert_eq!(pauses[..3], [5_000, 10_000, 20_000]);
    assert_eq!(pauses.last(), Some(&320_000));
}
