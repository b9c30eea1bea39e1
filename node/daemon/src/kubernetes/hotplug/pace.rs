//! When each volume is brought a step further: pauses double as long as the same step has to be taken again. Pure; the caller brings the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Outcome, Work};

/// First pause of a step that failed, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The same between looks at a guest that was asked to let a disk go.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// The same between times that it is asked: it may have been booting.
const ASK: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(240));

/// What was tried, and when it is tried again.
#[derive(Debug, Default)]
pub struct Paces(HashMap<String, Pace>);

#[derive(Debug)]
struct Pace {
    /// Another step than this one is due at once.
    work: Work,
    tries: u32,
    not_before: Instant,
    /// How often the guest was asked, and when it is asked again.
    asks: u32,
    ask: Instant,
}

impl Paces {
    /// The step to take now: of those that are due, the one that has waited longest. What is not to be done any more is forgotten.
    pub fn due(&mut self, works: &[Work], now: Instant) -> Option<Work> {
        self.0.retain(|_, pace| works.contains(&pace.work));
        let first = works.iter().min_by_key(|work| self.not_before(work))?;
        (self.not_before(first) <= Some(now)).then(|| first.clone())
    }

    /// When the next step is due; `None` when there is nothing to be done.
    #[must_use]
    pub fn next(&self, works: &[Work], now: Instant) -> Option<Instant> {
        let due = works.iter().map(|work| self.not_before(work));
        due.map(|at| at.unwrap_or(now)).min()
    }

    /// Whether the guest is to be asked now.
    pub fn asks(&mut self, work: &Work, now: Instant) -> bool {
        self.of(work, now).ask <= now
    }

    /// The guest was asked.
    pub fn asked(&mut self, work: &Work, now: Instant) {
        let pace = self.of(work, now);
        pace.ask = now + pause(ASK, pace.asks);
        pace.asks = pace.asks.saturating_add(1);
    }

    /// Whether the guest was asked more than once.
    #[must_use]
    pub fn was_asked_again(&self, work: &Work) -> bool {
        let pace = self.0.get(work.volume());
        pace.is_some_and(|pace| pace.work == *work && pace.asks > 1)
    }

    /// A step was taken.
    pub fn took(&mut self, work: &Work, outcome: &Outcome, now: Instant) {
        let pace = self.of(work, now);
        pace.not_before = now
            + match outcome {
                Outcome::Detaching { .. } => pause(LOOK, pace.tries),
                // Until the machine is restarted nothing changes.
                Outcome::NeedsRestart => RETRY.1,
                // What went well is done again only where it could not be told.
                Outcome::Ready { .. } | Outcome::Bound | Outcome::Left | Outcome::Failed { .. } => {
                    pause(RETRY, pace.tries)
                }
            };
        pace.tries = pace.tries.saturating_add(1);
    }

    /// Nothing is known any more.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn not_before(&self, work: &Work) -> Option<Instant> {
        let pace = self.0.get(work.volume())?;
        (pace.work == *work).then_some(pace.not_before)
    }

    fn of(&mut self, work: &Work, now: Instant) -> &mut Pace {
        let fresh = || Pace {
            work: work.clone(),
            tries: 0,
            not_before: now,
            asks: 0,
            ask: now,
        };
        let pace = self.0.entry(work.volume().to_owned()).or_insert_with(fresh);
        if pace.work != *work {
            *pace = fresh();
        }
        pace
    }
}

fn pause((first, longest): (Duration, Duration), tries: u32) -> Duration {
    (first * 2_u32.pow(tries.min(16))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(volume: &str, attachment: &str) -> Work {
        Work::Plug {
            volume: volume.to_owned(),
            attachment: attachment.to_owned(),
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed {
            words: "no room".to_owned(),
        }
    }

    /// Seconds between the tries of a step with that outcome.
    fn pauses(work: &Work, outcome: &Outcome, tries: usize) -> Vec<u64> {
        let (mut paces, works) = (Paces::default(), [work.clone()]);
        let mut now = Instant::now();
        (0..tries)
            .map(|_| {
                assert_eq!(paces.due(&works, now).as_ref(), Some(work));
                paces.took(work, outcome, now);
                assert_eq!(paces.due(&works, now), None);
                let next = paces.next(&works, now).unwrap();
                let pause = next - now;
                now = next;
                pause.as_secs()
            })
            .collect()
    }

    #[test]
    fn pauses_double_up_to_a_cap() {
        let unplug = Work::Unplug { volume: "d".into() };
        let detaching = Outcome::Detaching { again: false };
        assert_eq!(
            pauses(&plug("d", "u"), &failed(), 8),
            [1, 2, 4, 8, 16, 32, 60, 60]
        );
        assert_eq!(pauses(&unplug, &failed(), 3), [1, 2, 4]);
        assert_eq!(pauses(&unplug, &detaching, 6), [1, 2, 4, 8, 15, 15]);
        assert_eq!(pauses(&plug("d", "u"), &Outcome::NeedsRestart, 2), [60, 60]);
    }

    #[test]
    fn another_step_and_another_attachment_are_due_at_once() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        for _ in 0..9 {
            paces.took(&plug("d", "u"), &failed(), now);
        }
        assert_eq!(paces.due(&[plug("d", "u")], now), None);
        let anew = plug("d", "v");
        assert_eq!(
            paces.due(std::slice::from_ref(&anew), now),
            Some(anew.clone())
        );
        paces.took(&anew, &failed(), now);
        let next = paces.next(&[anew], now).unwrap();
        assert_eq!(next - now, Duration::from_secs(1), "it begins anew");
    }

    #[test]
    fn one_volume_that_fails_keeps_no_other_waiting() {
        let (mut paces, now) = (Paces::default(), Instant::now());
        let works = [plug("a", "u"), plug("b", "u")];
        let first = paces.due(&works, now).unwrap();
        paces.took(&first, &failed(), now);
        let second = paces.due(&works, now).unwrap();
        assert_ne!(first, second);
        assert_eq!(paces.next(&works, now), Some(now));
        paces.took(&second, &failed(), now);
        assert_eq!(paces.due(&works, now), None);
        assert_eq!(paces.next(&[], now), None);
    }

    #[test]
    fn a_guest_is_asked_again_with_growing_pauses() {
        let (mut paces, start) = (Paces::default(), Instant::now());
        let work = Work::Unplug { volume: "d".into() };
        let asked: Vec<u64> = (0..400)
            .filter(|second| {
                let now = start + Duration::from_secs(*second);
                let asks = paces.asks(&work, now);
                if asks {
                    paces.asked(&work, now);
                }
                asks
            })
            .collect();
        assert_eq!(asked, [0, 15, 45, 105, 225]);
        assert!(paces.was_asked_again(&work));
    }
}
