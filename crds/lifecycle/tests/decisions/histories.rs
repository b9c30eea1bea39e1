//! What no history of a machine can bring about.

use catamaran_lifecycle::{
    Action, BackOff, Change, Facts, Phase, RunStrategy, Seconds, Verdict, VmView, VmiView, decide,
    restart, start, stop,
};
use proptest::prelude::*;

use crate::{NOW, vm};

/// What happens to a machine in a random history.
#[derive(Debug, Clone)]
enum Event {
    Pass(Seconds),
    Phase(Phase),
    Strategy(RunStrategy),
    Start,
    Stop,
    Restart,
    Edit(u8),
    Delete,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0i64..400).prop_map(Event::Pass),
        4 => prop::sample::select(Phase::ALL.to_vec()).prop_map(Event::Phase),
        2 => prop::sample::select(RunStrategy::ALL.to_vec()).prop_map(Event::Strategy),
        1 => Just(Event::Start),
        1 => Just(Event::Stop),
        1 => Just(Event::Restart),
        1 => any::<u8>().prop_map(Event::Edit),
        1 => Just(Event::Delete),
    ]
}

/// A shell that carries out decisions at once, and stores what they say.
struct Shell {
    vm: VmView,
    vmi: Option<VmiView>,
    now: Seconds,
    runs: u32,
    /// A process outlives its instance until the next tick.
    alive: bool,
}

impl Shell {
    fn apply(&mut self, verdict: Verdict) {
        let Verdict::Accepted(changes) = verdict else {
            return;
        };
        for change in changes {
            match change {
                Change::RunStrategy(strategy) => self.vm.run_strategy = strategy,
                Change::Requests(requests) => self.vm.requests = requests,
                Change::ClearBackOff => self.vm.back_off = BackOff::default(),
                _ => {}
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Pass(seconds) => self.now += seconds,
            Event::Phase(phase) => {
                let now = self.now;
                if let Some(vmi) = self.vmi.as_mut().filter(|v| !v.phase.is_final()) {
                    if *phase == Phase::Running && vmi.running_since.is_none() {
                        vmi.running_since = Some(now);
                    }
                    vmi.ended_at = phase.is_final().then_some(now);
                    vmi.phase = *phase;
                }
            }
            Event::Strategy(strategy) => self.vm.run_strategy = *strategy,
            Event::Start => self.apply(start(&self.vm, self.vmi.as_ref(), false)),
            Event::Stop => self.apply(stop(&self.vm, self.vmi.as_ref(), None)),
            Event::Restart => self.apply(restart(&self.vm, self.vmi.as_ref(), None)),
            Event::Edit(digest) => self.vm.spec_digest = digest.to_string(),
            Event::Delete => self.vm.deleting = true,
        }
    }

    fn tick(&mut self) -> Result<Action, TestCaseError> {
        let facts = Facts {
            earlier_run_alive: self.alive,
            jitter_permille: 500,
        };
        let before = (self.vmi.clone(), self.vm.clone());
        let decision = decide(&self.vm, self.vmi.as_ref(), &facts, self.now);
        prop_assert_eq!(
            &decision,
            &decide(&self.vm, self.vmi.as_ref(), &facts, self.now),
            "pure"
        );
        match &decision.action {
            Action::Create { .. } => {
                prop_assert!(
                    before.0.is_none() && !self.alive,
                    "created beside a live run: {:?}",
                    before
                );
                prop_assert!(!self.vm.deleting);
                prop_assert!(self.vm.run_strategy != RunStrategy::Halted);
                prop_assert!(
                    !self.vm.run_strategy.starts_by_itself()
                        || decision
                            .back_off
                            .retry_after
                            .is_none_or(|at| at <= self.now),
                    "created during back-off"
                );
                self.runs += 1;
                self.vmi = Some(VmiView {
                    uid: format!("u{}", self.runs),
                    ..VmiView::default()
                });
            }
            Action::Delete { uid, .. } => {
                let vmi = self.vmi.as_mut().expect("only an instance is deleted");
                prop_assert_eq!(uid, &vmi.uid);
                prop_assert!(!vmi.deleting, "deleted twice");
                vmi.deleting = true;
            }
            Action::Finalize => prop_assert!(self.vm.deleting && self.vmi.is_none() && !self.alive),
            Action::Nothing | Action::Wait { .. } => {}
        }
        if let Action::Wait { reason } = &decision.action {
            prop_assert!(!reason.is_empty());
        }
        if let Some(at) = decision.back_off.retry_after {
            prop_assert!(
                at <= self.now + 300,
                "nobody waits longer than five minutes"
            );
        }
        self.vm.requests = decision.requests;
        self.vm.back_off = decision.back_off;
        self.vm.observed_run_strategy = decision.observed_run_strategy;
        if let Some(strategy) = decision.rewrite {
            self.vm.run_strategy = strategy;
        }
        Ok(decision.action)
    }

    /// An instance that has been asked to go is gone, and a moment later its processes too.
    fn reap(&mut self) {
        self.alive = false;
        if self.vmi.as_ref().is_some_and(|v| v.deleting) {
            self.vmi = None;
            self.alive = true;
        }
    }
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(strategy in prop::sample::select(RunStrategy::ALL.to_vec()), events in prop::collection::vec(event(), 0..60)) {
        let mut shell = Shell { vm: VmView { observed_run_strategy: None, ..vm(strategy) }, vmi: None, now: NOW, runs: 0, alive: false };
        for event in &events {
            shell.event(event);
            shell.tick()?;
            shell.reap();
        }
        // Left alone, with every run ending badly at once or staying up, it comes to rest or waits for a time.
        shell.vm.deleting = false;
        for _ in 0..8 {
            shell.tick()?;
            shell.reap();
            shell.now += 301;
        }
        let at_rest = shell.tick()?;
        let live = shell.vmi.is_some();
        match shell.vm.run_strategy {
            RunStrategy::Halted => prop_assert!(!live, "{at_rest:?}"),
            RunStrategy::Always | RunStrategy::Once => prop_assert!(live, "{at_rest:?}"),
            RunStrategy::Manual | RunStrategy::RerunOnFailure => prop_assert!(matches!(at_rest, Action::Nothing), "{at_rest:?}"),
        }
    }
}
