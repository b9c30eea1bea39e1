//! The loop of a reconciler: which objects wait to be looked at, and when one is looked at again after an error.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{FutureExt as _, StreamExt as _};
use kube::Resource;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};

use crate::error::{Error, chain};
use crate::metrics::Metrics;
use crate::objects::{Guarded, Key};

/// Pause after the first error; doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after somebody else's write came in between.
const CONFLICT: Duration = Duration::from_millis(50);

/// Wakes the reconciler of a kind. What waits already is not added twice, so that the queue is no longer than there are objects.
#[derive(Debug)]
pub struct Trigger<K: Resource<DynamicType = ()>>(UnboundedSender<ObjectRef<Guarded<K>>>);

impl<K: Resource<DynamicType = ()>> Clone for Trigger<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What a [`Trigger`] writes to.
pub type Queue<K> = UnboundedReceiver<ObjectRef<Guarded<K>>>;

/// A queue and its trigger.
#[must_use]
pub fn queue<K: Resource<DynamicType = ()>>() -> (Trigger<K>, Queue<K>) {
    let (sender, receiver) = unbounded();
    (Trigger(sender), receiver)
}

impl<K: Resource<DynamicType = ()>> Trigger<K> {
    /// The object of that name is to be looked at.
    pub fn wake(&self, key: &Key) {
        // Without a receiver the controller is going down.
        let _ = self.0.unbounded_send(key.reference());
    }
}

/// Looks at objects until the queue ends.
pub async fn run<K, F, Fut>(
    name: &'static str,
    metrics: Metrics,
    store: Store<Guarded<K>>,
    queue: Queue<K>,
    concurrency: u16,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    F: Fn(Key) -> Fut,
    Fut: Future<Output = Result<Action, Error>> + Send + 'static,
{
    metrics.begins(name);
    let failures: Arc<Mutex<HashMap<Key, u32>>> = Arc::default();
    let lock = |failures: &Mutex<HashMap<Key, u32>>, f: &mut dyn FnMut(&mut HashMap<Key, u32>)| {
        f(&mut failures.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let work = controller::applier(
        |object: Arc<Guarded<K>>, _| {
            let work = reconcile(Key::of(object.as_ref()));
            let metrics = metrics.clone();
            async move {
                let begun = Instant::now();
                let result = work.await;
                let error = result.as_ref().err().map(category);
                metrics.reconciled(name, begun.elapsed(), error);
                result
            }
            .boxed()
        },
        |object: Arc<Guarded<K>>, error: &Error, failures: Arc<Mutex<HashMap<Key, u32>>>| {
            let key = Key::of(object.as_ref());
            if error.is_conflict() {
                tracing::debug!(reconciler = name, object = %key, "written by somebody else in between");
                return Action::requeue(CONFLICT);
            }
            let mut tries = 0;
            lock(&failures, &mut |all| {
                let count = all.entry(key.clone()).or_default();
                *count += 1;
                tries = *count;
            });
            let pause = pause(tries);
            tracing::warn!(reconciler = name, object = %key, error = chain(error), tries, again_in = ?pause, "reconciliation failed");
            Action::requeue(pause)
        },
        failures.clone(),
        store,
        queue.map(Ok::<_, std::convert::Infallible>),
        Config::default().concurrency(concurrency),
    );
    work.for_each(|done| {
        if let Ok((object, _)) = done {
            let key = Key {
                namespace: object.namespace.unwrap_or_default(),
                name: object.name,
            };
            lock(&failures, &mut |all| {
                all.remove(&key);
            });
        }
        std::future::ready(())
    })
    .await;
}

/// The kind of an error, for counting.
fn category(error: &Error) -> &'static str {
    match error {
        _ if error.is_conflict() => "conflict",
        _ if error.is_refusal() => "refused",
        Error::Api { .. } => "api",
        Error::RunStrategy(_)
        | Error::Missing { .. }
        | Error::Instancetype(_)
        | Error::Taken { .. } => "object",
    }
}

/// Pause before the next try.
fn pause(tries: u32) -> Duration {
    FIRST
        .saturating_mul(1 << tries.saturating_sub(1).min(10))
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pauses: Vec<u128> = [1, 2, 3, 7, 8, 40].map(|n| pause(n).as_millis()).into();
        assert_eq!(pauses, [500, 1000, 2000, 32_000, 60_000, 60_000]);
    }
}
