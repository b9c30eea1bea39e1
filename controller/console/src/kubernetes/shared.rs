//! Lists that many browsers look at: one watch of each kind, however many they are.
//!
//! ```text
//!  API server ──(one watch, as the controller)──▶ Store ──▶ list, watch of each browser, while the API server says that its user may
//! ```
//!
//! Architecture invariant: this is the only place where something is read with the controller's own rights, and nobody gets anything of it
//! whose right to it was not reviewed in the last [`REVIEW`].

mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Failure, Name, Place};
use crate::kind::Kind;
use store::{Next, Store};

/// A right is reviewed again after this.
const REVIEW: Duration = Duration::from_secs(10);
/// For the answer to a review.
const ANSWER: Duration = Duration::from_secs(4);
/// A watch that is begun is waited for; after this the caller asks the API server himself.
const READY: Duration = Duration::from_secs(5);
/// A watch that nobody looks at ends after this.
const UNUSED: Duration = Duration::from_secs(300);
/// A place before all that is kept.
const LONG_AGO: u64 = 0;
/// The longest pause before a broken watch is begun anew.
const PAUSE: Duration = Duration::from_secs(30);

/// All of them.
pub(super) struct Shared {
    client: Client,
    kinds: Mutex<BTreeMap<&'static str, Arc<Collection>>>,
    watches: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// One kind.
struct Collection {
    store: Mutex<Store>,
    /// Says that the store has changed; also counts who looks on.
    changed: tokio::sync::watch::Sender<State>,
    used: Mutex<Instant>,
}

/// How the watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begins,
    Runs,
    Broken,
}

impl Shared {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            kinds: Mutex::default(),
            watches: Mutex::default(),
        }
    }

    /// The collection of a kind, as soon as it is known; none where the API server does not let us watch it.
    async fn ready(self: &Arc<Self>, kind: &'static Kind) -> Option<Arc<Collection>> {
        let collection = self.collection(kind);
        *lock(&collection.used) = Instant::now();
        let mut state = collection.changed.subscribe();
        let known = timeout(READY, state.wait_for(|state| *state != State::Begins)).await;
        let runs = matches!(known, Ok(Ok(state)) if *state == State::Runs);
        runs.then_some(collection)
    }

    fn collection(self: &Arc<Self>, kind: &'static Kind) -> Arc<Collection> {
        let mut kinds = lock(&self.kinds);
        let begin = || {
            let collection = Arc::new(Collection {
                store: Mutex::default(),
                changed: tokio::sync::watch::Sender::new(State::Begins),
                used: Mutex::new(Instant::now()),
            });
            let mut watches = lock(&self.watches);
            while watches.try_join_next().is_some() {}
            let (weak, client) = (Arc::downgrade(self), self.client.clone());
            watches.spawn(keep(weak, client, kind, Arc::clone(&collection)));
            collection
        };
        Arc::clone(kinds.entry(kind.plural).or_insert_with(begin))
    }

    /// Whether a collection has not been used for long; it is forgotten then.
    fn ends(&self, kind: &Kind, collection: &Collection) -> bool {
        let mut kinds = lock(&self.kinds);
        let unused =
            collection.changed.receiver_count() == 0 && lock(&collection.used).elapsed() > UNUSED;
        if unused {
            kinds.remove(kind.plural);
        }
        unused
    }

    /// A list; none if the caller has to ask the API server himself. His right to it must have been reviewed.
    pub(super) async fn list(self: &Arc<Self>, place: &Place) -> Option<Body> {
        let collection = self.ready(place.kind).await?;
        let pieces = lock(&collection.store).list(place.namespace.as_ref())?;
        let pieces = pieces.into_iter().map(Ok::<_, Failure>);
        Some(Body::from_stream(stream::iter(pieces)))
    }

    /// The changes from a version on, for at most `longest`; none if the caller has to ask the API server himself. `review` fails when his
    /// right has ended.
    pub(super) async fn watch<R, F>(
        self: &Arc<Self>,
        place: &Place,
        version: u64,
        longest: Duration,
        review: R,
    ) -> Option<Body>
    where
        R: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), Failure>> + Send,
    {
        let collection = self.ready(place.kind).await?;
        let changed = collection.changed.subscribe();
        let from = lock(&collection.store).place(version);
        let following = Following {
            collection,
            changed,
            namespace: place.namespace.clone(),
            from: from.unwrap_or(LONG_AGO),
            ended: false,
            told: version,
            review,
            reviewed: Instant::now(),
            ends: Instant::now() + longest,
        };
        let lines = stream::unfold(following, |mut following| async move {
            let lines = Box::pin(following.next()).await?;
            Some((Ok::<_, Failure>(lines), following))
        });
        Some(Body::from_stream(lines))
    }
}

/// Keeps a collection until nobody has used it for a while.
async fn keep(
    shared: Weak<Shared>,
    client: Client,
    kind: &'static Kind,
    collection: Arc<Collection>,
) {
    let ends = || {
        let shared = shared.upgrade();
        shared.is_none_or(|shared| shared.ends(kind, &collection))
    };
    let mut failures = 0;
    loop {
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource(kind));
        let config = watcher::Config::default().labels(kind.selector);
        let mut events = Box::pin(watcher(api, config));
        let error = loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep(UNUSED / 4) => {
                    if ends() {
                        return tracing::debug!(kind = kind.plural, "nobody looks at it any more");
                    }
                    continue;
                }
            };
            match event {
                Some(Ok(event)) => {
                    failures = 0;
                    collection.take(event);
                }
                Some(Err(error)) => break error.to_string(),
                None => break "it ended".to_owned(),
            }
        };
        tracing::warn!(kind = kind.plural, error, "the console's watch is broken");
        lock(&collection.store).lose();
        collection.changed.send_replace(State::Broken);
        if ends() {
            return;
        }
        sleep(PAUSE.min(Duration::from_millis(500) * 2_u32.saturating_pow(failures))).await;
        failures += 1;
    }
}

impl Collection {
    fn take(&self, event: Event<DynamicObject>) {
        let mut store = lock(&self.store);
        match event {
            Event::Init => store.begin(),
            Event::InitApply(object) => store.listed(object),
            Event::InitDone => store.complete(),
            Event::Apply(object) => store.apply(object),
            Event::Delete(object) => store.delete(object),
        }
        if store.head().is_some() {
            self.changed.send_replace(State::Runs);
        }
    }
}

/// One who looks on.
struct Following<R> {
    collection: Arc<Collection>,
    changed: tokio::sync::watch::Receiver<State>,
    namespace: Option<Name>,
    /// Place among the changes.
    from: u64,
    /// The last line was told.
    ended: bool,
    /// The version that was told last.
    told: u64,
    review: R,
    reviewed: Instant,
    ends: Instant,
}

impl<R, F> Following<R>
where
    R: Fn() -> F + Send,
    F: Future<Output = Result<(), Failure>> + Send,
{
    /// The next lines; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            // Before the look, so that a change after it is not missed.
            self.changed.borrow_and_update();
            let (next, head) = {
                let store = lock(&self.collection.store);
                (
                    store.since(self.from, self.namespace.as_ref()),
                    store.head(),
                )
            };
            match next {
                Next::Gone => return self.last(410, "too much has changed: list anew"),
                Next::Lines(lines, place) => {
                    self.from = place;
                    if !lines.is_empty() {
                        self.told = head.unwrap_or(self.told);
                        return Some(lines.concat().into());
                    }
                }
            }
            let review = self.reviewed + REVIEW;
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = tokio::time::sleep_until(review.min(self.ends)) => {
                    if Instant::now() >= self.ends {
                        return None;
                    }
                }
            }
            if Instant::now() >= review {
                if let Some(end) = self.review().await {
                    return Some(end);
                }
                if let Some(head) = head.filter(|head| *head > self.told) {
                    self.told = head;
                    return Some(store::bookmark(head));
                }
            }
        }
    }

    /// The last line, if the right has ended, or nobody says that it has not.
    async fn review(&mut self) -> Option<Bytes> {
        let silent = || Failure::new(503, "the API server does not say whether you may look");
        let answer = timeout(ANSWER, (self.review)()).await;
        match answer.unwrap_or_else(|_| Err(silent())) {
            Ok(()) => {
                self.reviewed = Instant::now();
                None
            }
            Err(failure) => self.last(failure.status, &failure.message),
        }
    }

    fn last(&mut self, code: u16, message: &str) -> Option<Bytes> {
        self.ended = true;
        Some(store::error(code, message))
    }
}

fn resource(kind: &Kind) -> ApiResource {
    let api_version = kind.base.trim_start_matches("/apis/");
    let api_version = api_version.trim_start_matches("/api/");
    let version = api_version.rsplit('/').next().unwrap_or_default();
    ApiResource {
        group: kind.group().to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        // Only read: nothing is made whose kind it would have to say.
        kind: String::new(),
        plural: kind.plural.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
