//! One who looks on: gets the changes as they come, as long as he may.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::store::{self, Next};
use super::{Collection, REVIEW, State, UNCERTAIN, lock};
use crate::backend::{Failure, Name};

/// For the answer to a review.
const ANSWER: Duration = Duration::from_secs(4);
/// A place before all that is kept.
const LONG_AGO: u64 = 0;

pub(super) struct Following<R> {
    collection: Arc<Collection>,
    changed: watch::Receiver<State>,
    namespace: Option<Name>,
    /// Place among the changes.
    from: u64,
    /// Lines that were taken from there and not told yet.
    lines: VecDeque<Bytes>,
    /// The version that was told last.
    told: u64,
    review: R,
    /// When his right is looked at next, and since when it is sure.
    due: Instant,
    sure: Instant,
    ends: Instant,
    /// The last line was told.
    ended: bool,
}

impl<R, F> Following<R>
where
    R: Fn() -> F + Send,
    F: Future<Output = Result<(), Failure>> + Send,
{
    pub(super) fn new(
        collection: Arc<Collection>,
        changed: watch::Receiver<State>,
        namespace: Option<Name>,
        version: u64,
        longest: Duration,
        review: R,
    ) -> Self {
        let place = lock(&collection.store).place(version);
        let now = Instant::now();
        Self {
            collection,
            changed,
            namespace,
            from: place.unwrap_or(LONG_AGO),
            lines: VecDeque::new(),
            told: version,
            review,
            due: now + REVIEW,
            sure: now,
            ends: now + longest,
            ended: false,
        }
    }

    /// The next line; none at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            // First of all, however much there is to tell: he may read slowly.
            if self.ended || Instant::now() >= self.ends {
                return None;
            }
            let reviewed = Instant::now() >= self.due;
            if reviewed && let Some(end) = self.look().await {
                return Some(end);
            }
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            // Before the look, so that a change after it is not missed. What is not kept up to date is not looked at.
            if *self.changed.borrow_and_update() == State::Broken {
                return None;
            }
            let (next, head) = {
                let store = lock(&self.collection.store);
                let next = store.since(self.from, self.namespace.as_ref());
                (next, store.head().unwrap_or(0))
            };
            match next {
                Next::Gone => return Some(self.last(410, "too much has changed: list anew")),
                Next::Lines(lines, place) if place > self.from => {
                    (self.from, self.lines) = (place, lines);
                    continue;
                }
                Next::Lines(..) => {}
            }
            // All is told up to the head: he can go on from there.
            if reviewed && head > self.told {
                self.told = head;
                return Some(store::bookmark(head));
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = sleep_until(self.due.min(self.ends)) => {}
            }
        }
    }

    /// Looks whether he may look on; the last line, if not, or if nobody says so for too long.
    async fn look(&mut self) -> Option<Bytes> {
        let answer = timeout(ANSWER, (self.review)()).await;
        self.due = Instant::now() + REVIEW;
        match answer {
            Ok(Ok(())) => {
                self.sure = Instant::now();
                None
            }
            Ok(Err(failure)) if failure.status < 500 => {
                Some(self.last(failure.status, &failure.message))
            }
            _ if self.sure.elapsed() < UNCERTAIN => None,
            _ => {
                let words = "the API server does not say whether you may look";
                Some(self.last(503, words))
            }
        }
    }

    fn last(&mut self, code: u16, message: &str) -> Bytes {
        self.ended = true;
        store::error(code, message)
    }
}
