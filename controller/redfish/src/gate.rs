//! One request at a time for each BMC, with a lane for those that can't wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// In order of arrival.
    Normal,
    /// Before all normal ones: fencing.
    Urgent,
}

/// Lets one holder at a time through, urgent ones first.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Queue>,
    /// Urgent ones that wait.
    urgent: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Queue {
    busy: bool,
    urgent: VecDeque<oneshot::Sender<Permit>>,
    normal: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to send. Given on when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    inner: Option<Arc<Inner>>,
}

/// Counts an urgent one that waits, also when it gives up.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                queue: Mutex::default(),
                urgent: watch::Sender::new(0),
            }),
        }
    }

    /// Waits for its turn. Whoever gives up waiting loses nothing but its place.
    pub(crate) async fn enter(&self, lane: Lane) -> Permit {
        let receiver = {
            let mut queue = self.inner.queue();
            if !queue.busy {
                queue.busy = true;
                return Permit {
                    inner: Some(Arc::clone(&self.inner)),
                };
            }
            let (sender, receiver) = oneshot::channel();
            match lane {
                Lane::Normal => queue.normal.push_back(sender),
                Lane::Urgent => queue.urgent.push_back(sender),
            }
            receiver
        };
        let _waiting = (lane == Lane::Urgent).then(|| {
            self.inner.urgent.send_modify(|waiting| *waiting += 1);
            Waiting(&self.inner.urgent)
        });
        receiver
            .await
            .expect("a sender leaves the queue only to be used")
    }

    /// Returns once somebody urgent waits: whoever can should make way.
    pub(crate) async fn wanted(&self) {
        let mut urgent = self.inner.urgent.subscribe();
        // The sender lives as long as self.
        let _ = urgent.wait_for(|waiting| *waiting > 0).await;
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else {
            return;
        };
        loop {
            let next = {
                let mut queue = inner.queue();
                let next = queue
                    .urgent
                    .pop_front()
                    .or_else(|| queue.normal.pop_front());
                if next.is_none() {
                    queue.busy = false;
                }
                next
            };
            let Some(next) = next else { return };
            let permit = Permit {
                inner: Some(Arc::clone(&inner)),
            };
            match next.send(permit) {
                Ok(()) => return,
                // That one has given up waiting; its permit must not come back here.
                Err(mut permit) => permit.inner = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn urgent_one_goes_before_those_that_came_earlier() {
        let gate = Gate::new();
        let held = gate.enter(Lane::Normal).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let pass = |name: &'static str, lane| {
            let (gate, order) = (gate.clone(), Arc::clone(&order));
            async move {
                let permit = gate.enter(lane).await;
                order.lock().unwrap().push(name);
                drop(permit);
            }
        };
        let release = async {
            // Polled last: all others stand in the queue by then.
            gate.wanted().await;
            drop(held);
        };
        let all = async {
            tokio::join!(
                pass("first", Lane::Normal),
                pass("second", Lane::Normal),
                pass("fence", Lane::Urgent),
                release,
            )
        };
        timeout(SOON, all).await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["fence", "first", "second"]);
    }

    #[tokio::test]
    async fn one_that_gave_up_blocks_nobody() {
        let gate = Gate::new();
        let held = gate.enter(Lane::Normal).await;
        let gave_up = timeout(Duration::from_millis(1), gate.enter(Lane::Urgent)).await;
        assert!(gave_up.is_err());
        let wanted = timeout(Duration::from_millis(1), gate.wanted()).await;
        assert!(wanted.is_err(), "nobody urgent waits any more");
        drop(held);
        timeout(SOON, gate.enter(Lane::Normal)).await.unwrap();
        timeout(SOON, gate.enter(Lane::Normal)).await.unwrap();
    }
}
