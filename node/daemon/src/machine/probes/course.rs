//! When a probe asks, and what its answers in a row come to. Pure: times are counted from the guest's Running.

use std::time::Duration;

use catamaran_spec::Probe;

/// What enough answers of a kind in a row say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The guest is well.
    Good,
    /// It is not.
    Bad,
}

/// One probe over the time of a run.
#[derive(Debug, Clone)]
pub struct Course {
    period: Duration,
    successes_needed: u32,
    failures_needed: u32,
    due: Duration,
    successes: u32,
    failures: u32,
    verdict: Option<Verdict>,
}

impl Course {
    /// Nothing was asked yet; `verdict` is what was found before, if anything.
    #[must_use]
    pub fn new(probe: &Probe, verdict: Option<Verdict>) -> Self {
        Self {
            period: Duration::from_secs(probe.period_seconds.max(1).into()),
            successes_needed: probe.success_threshold,
            failures_needed: probe.failure_threshold,
            due: Duration::from_secs(probe.initial_delay_seconds.into()),
            successes: 0,
            failures: 0,
            verdict,
        }
    }

    /// When to ask next. A moment that has passed means now.
    #[must_use]
    pub fn due(&self) -> Duration {
        self.due
    }

    /// A question asked at `began` said nothing about the guest: counts stay.
    pub fn skip(&mut self, began: Duration) {
        self.due = began.saturating_add(self.period);
    }

    /// Takes the answer to a question asked at `began`. The verdict comes back when it is another one than before.
    pub fn record(&mut self, began: Duration, good: bool) -> Option<Verdict> {
        self.skip(began);
        let reached = if good {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            (self.successes >= self.successes_needed).then_some(Verdict::Good)
        } else {
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
            (self.failures >= self.failures_needed).then_some(Verdict::Bad)
        };
        let new = reached.filter(|reached| self.verdict != Some(*reached));
        self.verdict = reached.or(self.verdict);
        new
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catamaran_spec::{Probe, ProbeAction};

    use super::{Course, Verdict};

    fn probe(delay: u32, period: u32, successes: u32, failures: u32) -> Probe {
        Probe {
            action: ProbeAction::GuestAgentPing,
            initial_delay_seconds: delay,
            period_seconds: period,
            timeout_seconds: 1,
            success_threshold: successes,
            failure_threshold: failures,
        }
    }

    /// Answers as `+` and `-`; verdicts as `G`, `B`, and `.` where none is new.
    fn verdicts(probe: &Probe, before: Option<Verdict>, answers: &str) -> String {
        let mut course = Course::new(probe, before);
        let letter = |answer| match course.record(Duration::ZERO, answer == '+') {
            Some(Verdict::Good) => 'G',
            Some(Verdict::Bad) => 'B',
            None => '.',
        };
        answers.chars().map(letter).collect()
    }

    #[test]
    fn a_verdict_takes_so_many_answers_in_a_row() {
        for (successes, failures, before, answers, expected) in [
            (1, 3, None, "+", "G"),
            (1, 3, None, "---", "..B"),
            (1, 3, None, "--+--", "..G.."),
            (1, 3, None, "--+---", "..G..B"),
            (1, 1, None, "-+-+", "BGBG"),
            (2, 3, None, "--+++---", "...G...B"),
            (2, 1, None, "+-++", ".B.G"),
            (3, 2, None, "++-++-++--", ".........B"),
            // A verdict is new once only.
            (1, 1, None, "+++---", "G..B.."),
            (1, 1, Some(Verdict::Good), "++-", "..B"),
            (1, 2, Some(Verdict::Bad), "---+", "...G"),
        ] {
            let probe = probe(0, 10, successes, failures);
            let found = verdicts(&probe, before, answers);
            assert_eq!(
                found, expected,
                "{successes} successes, {failures} failures: {answers}"
            );
        }
    }

    #[test]
    fn the_initial_delay_counts_from_running_and_the_period_from_the_last_question() {
        let seconds = Duration::from_secs;
        let mut course = Course::new(&probe(30, 10, 1, 3), None);
        assert_eq!(course.due(), seconds(30));
        course.record(seconds(31), true);
        assert_eq!(course.due(), seconds(41));
        // A new daemon that comes late asks at once, and does not make up for what was missed.
        let mut late = Course::new(&probe(30, 10, 1, 3), None);
        late.record(seconds(500), true);
        assert_eq!(late.due(), seconds(510));
    }

    #[test]
    fn a_question_that_could_not_be_put_counts_for_nothing() {
        let mut course = Course::new(&probe(0, 5, 1, 2), None);
        assert_eq!(course.record(Duration::ZERO, false), None);
        course.skip(Duration::from_secs(5));
        assert_eq!(course.due(), Duration::from_secs(10));
        assert_eq!(
            course.record(Duration::from_secs(10), false),
            Some(Verdict::Bad)
        );
    }
}
