//! Lists that many browsers look at: one watch of each kind, however many they are.
//!
//! ```text
//!  API server ──(one watch, as the controller)──▶ Store ──▶ list, watch of each browser, while the API server says that its user may
//! ```
//!
//! Architecture invariant: this is the only place where something is read with the controller's own rights, and nobody gets anything of it
//! whose right to it was not reviewed in the last [`REVIEW`], or in the last [`UNCERTAIN`] while nobody answers.

mod following;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use futures::{StreamExt as _, stream};
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{Failure, Place};
use crate::kind::Kind;
use following::Following;
use store::{Bare, Store};

/// A right is reviewed again after this.
const REVIEW: Duration = Duration::from_secs(10);
/// How long somebody looks on while nobody answers whether he may.
const UNCERTAIN: Duration = Duration::from_secs(30);
/// A watch that is begun is waited for; after this the caller asks the API server himself.
const READY: Duration = Duration::from_secs(5);
/// A watch that nobody looks at ends after this.
const UNUSED: Duration = Duration::from_secs(300);
/// What a watch has brought is held for the present until it has been broken for this long.
const BROKEN: Duration = Duration::from_secs(10);
/// The longest pause before a broken watch is begun anew.
const PAUSE: Duration = Duration::from_secs(30);
/// For an answer of the API server.
const SILENT: Duration = Duration::from_secs(30);
/// So many objects are listed at once: as they are read, one takes many times what is kept of it.
const PAGE: u32 = 500;
/// After this the API server ends a watch, which is begun anew, seconds: the longest that kube takes.
const WATCH_SECONDS: u32 = 290;

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
    changed: watch::Sender<State>,
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
    async fn ready(
        self: &Arc<Self>,
        kind: &'static Kind,
    ) -> Option<(Arc<Collection>, watch::Receiver<State>)> {
        let (collection, mut state) = self.collection(kind);
        let known = timeout(READY, state.wait_for(|state| *state != State::Begins)).await;
        let runs = known.is_ok_and(|known| known.is_ok_and(|state| *state == State::Runs));
        runs.then_some((collection, state))
    }

    fn collection(
        self: &Arc<Self>,
        kind: &'static Kind,
    ) -> (Arc<Collection>, watch::Receiver<State>) {
        let mut kinds = lock(&self.kinds);
        let begin = || {
            let collection = Arc::new(Collection {
                store: Mutex::default(),
                changed: watch::Sender::new(State::Begins),
                used: Mutex::new(Instant::now()),
            });
            let (weak, kept) = (Arc::downgrade(self), Arc::clone(&collection));
            let api = Api::all_with(self.client.clone(), &resource(kind));
            let unused = async move {
                loop {
                    sleep(UNUSED / 4).await;
                    let shared = weak.upgrade();
                    if shared.is_none_or(|shared| shared.ends(kind, &kept)) {
                        return tracing::debug!(kind = kind.plural, "nobody looks at it any more");
                    }
                }
            };
            let kept = Arc::clone(&collection);
            let mut watches = lock(&self.watches);
            while watches.try_join_next().is_some() {}
            watches.spawn(async move {
                tokio::select! {
                    () = unused => {}
                    () = kept.keep(&api, kind) => {}
                }
            });
            collection
        };
        let collection = Arc::clone(kinds.entry(kind.plural).or_insert_with(begin));
        // While nobody can end it.
        *lock(&collection.used) = Instant::now();
        let state = collection.changed.subscribe();
        (collection, state)
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
        let (collection, _state) = self.ready(place.kind).await?;
        let pieces = lock(&collection.store).list(place.namespace.as_ref())?;
        let pieces = pieces.into_iter().map(Ok::<_, Failure>);
        Some(Body::from_stream(stream::iter(pieces)))
    }

    /// The changes from a version on, for at most `longest`; none if the caller has to ask the API server himself. His right to it must have
    /// been reviewed; `review` fails when it has ended.
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
        let (collection, changed) = self.ready(place.kind).await?;
        let namespace = place.namespace.clone();
        let following = Following::new(collection, changed, namespace, version, longest, review);
        let lines = stream::unfold(following, |mut following| async move {
            let line = Box::pin(following.next()).await?;
            Some((Ok::<_, Failure>(line), following))
        });
        Some(Body::from_stream(lines))
    }
}

impl Collection {
    /// Keeps the store as the objects are, for ever.
    async fn keep(&self, api: &Api<DynamicObject>, kind: &Kind) {
        let mut version = None;
        let mut well = Instant::now();
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            match self.follow(api, kind, &mut version).await {
                Ok(()) => well = Instant::now(),
                Err(error) => {
                    if error.is_too_old() {
                        version = None;
                    }
                    tracing::warn!(kind = kind.plural, error = %error, "the console's watch is broken");
                    // It has run until now.
                    if begun.elapsed() > PAUSE {
                        (well, failures) = (Instant::now(), 0);
                    }
                    if version.is_none() || well.elapsed() > BROKEN {
                        self.changed.send_replace(State::Broken);
                    }
                    let pause = Duration::from_millis(500) * 2_u32.saturating_pow(failures);
                    sleep(pause.min(PAUSE)).await;
                    failures += 1;
                }
            }
        }
    }

    /// Lists all; gives the version that they are of.
    async fn fill(&self, api: &Api<DynamicObject>, kind: &Kind) -> Result<String, Broken> {
        let params = ListParams::default().labels(kind.selector);
        let mut params = params.limit(PAGE);
        let mut all: Vec<Bare> = Vec::new();
        loop {
            let page = in_time(api.list(&params)).await??;
            all.extend(page.items.into_iter().map(Bare::from));
            let further = page.metadata.continue_.filter(|token| !token.is_empty());
            let Some(token) = further else {
                let from = page.metadata.resource_version.unwrap_or_default();
                lock(&self.store).fill(all, number(&from));
                return Ok(from);
            };
            params = params.continue_token(&token);
        }
    }

    /// One watch, until the API server ends it; a list before it, where there was none.
    async fn follow(
        &self,
        api: &Api<DynamicObject>,
        kind: &Kind,
        version: &mut Option<String>,
    ) -> Result<(), Broken> {
        let from = match version.take() {
            Some(version) => version,
            None => self.fill(api, kind).await?,
        };
        // A failure goes on from here.
        let mut reached = from.clone();
        *version = Some(from.clone());
        let params = WatchParams::default()
            .labels(kind.selector)
            .timeout(WATCH_SECONDS);
        let watched = in_time(api.watch(&params, &from)).await?;
        let mut events = Box::pin(watched?);
        self.changed.send_replace(State::Runs);
        // A connection whose other end is gone without a word brings neither changes nor the end that was asked for.
        let silent = Duration::from_secs(u64::from(WATCH_SECONDS)) + SILENT;
        while let Some(event) = timeout(silent, events.next()).await? {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    reached = object.metadata.resource_version.clone().unwrap_or(reached);
                    lock(&self.store).apply(object);
                }
                Ok(WatchEvent::Deleted(object)) => {
                    reached = object.metadata.resource_version.clone().unwrap_or(reached);
                    lock(&self.store).delete(object);
                }
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    reached = bookmark.metadata.resource_version;
                    lock(&self.store).reach(number(&reached));
                }
                Ok(WatchEvent::Error(status)) => {
                    return Err(kube::Error::Api(status).into());
                }
                Err(error) => return Err(error.into()),
            }
            *version = Some(reached.clone());
            self.changed.send_replace(State::Runs);
        }
        Ok(())
    }
}

/// Why a watch is broken.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Refused(#[from] kube::Error),
    #[error("the API server does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
}

impl Broken {
    /// The version to go on from is forgotten already: all must be listed anew.
    fn is_too_old(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if status.code == 410)
    }
}

/// For the beginning of an answer.
async fn in_time<T>(asked: impl Future<Output = T>) -> Result<T, Broken> {
    Ok(timeout(SILENT, asked).await?)
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
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
