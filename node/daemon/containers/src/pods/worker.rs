//! What goes on in the background: a worker for each Pod that has to change, and one that watches the runtime.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Shared;
use crate::decide::decide;
use crate::observed::RunState;
use crate::pod::PodKey;
use crate::{Error, logs, requests};

/// How often the runtime's lists are compared with the last ones.
const RELIST: Duration = Duration::from_secs(1);
/// How often logs are measured, in relists.
const ROTATE_EVERY: u32 = 10;
/// Rounds of a worker without rest; more would mean that its actions have no effect.
const MAX_ROUNDS: u32 = 64;

/// Works on one Pod until there is nothing more to do, or something failed and has to wait.
pub(super) async fn work(
    shared: Arc<Shared>,
    key: PodKey,
    cancel: CancellationToken,
    _turn: OwnedMutexGuard<()>,
) {
    for _ in 0..MAX_ROUNDS {
        let Some(pod) = shared.entry(&key, |entry| entry.desired.clone()) else {
            break;
        };
        let observed = match shared.observe(&key).await {
            Ok(observed) => shared.with_memory(&key, observed),
            Err(error) => {
                warn!(pod.namespace = key.namespace, pod.name = key.name, %error, "cannot look");
                break;
            }
        };
        let decision = decide(&pod, &observed, Timestamp::now());
        if decision.actions.is_empty() || cancel.is_cancelled() {
            break;
        }
        for action in decision.actions {
            if cancel.is_cancelled() {
                break;
            }
            debug!(pod.namespace = key.namespace, pod.name = key.name, ?action);
            if !shared.execute(&pod, action, &cancel).await {
                break;
            }
        }
        shared.changed();
    }
    drop(_turn);
    shared.changed();
}

/// Notices what happens in the runtime, starts a private runtime again when it has ended, and keeps logs small.
pub(super) async fn relist(shared: Arc<Shared>) {
    let mut ticks = interval(RELIST);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    let mut round = 0_u32;
    loop {
        ticks.tick().await;
        round = round.wrapping_add(1);
        match timeout(Duration::from_secs(30), shared.summary()).await {
            Ok(Ok(now)) => {
                if last.as_ref() != Some(&now) {
                    last = Some(now);
                    shared.changed();
                }
            }
            Ok(Err(error)) if error.is_unreachable() => {
                warn!(%error, "the container runtime does not answer");
                if let Err(error) = shared.runtime.ensure().await {
                    warn!(
                        error = catamaran_client::chain(&error),
                        "the container runtime cannot be reached"
                    );
                }
            }
            Ok(Err(error)) => warn!(%error, "cannot list Pods"),
            Err(_) => warn!("the container runtime takes more than 30 s to list Pods"),
        }
        if round.is_multiple_of(ROTATE_EVERY) {
            shared.rotate_logs().await;
            shared.runtime.tidy().await;
        }
    }
}

/// State of a sandbox or container in the runtime's lists: id and state.
type Listed = Vec<(String, i32)>;

impl Shared {
    pub(super) async fn sandboxes(&self) -> Result<Vec<cri::PodSandbox>, Error> {
        let label_selector =
            HashMap::from([(requests::INSTANCE.to_owned(), self.instance.clone())]);
        self.runtime
            .cri()
            .list_sandboxes(cri::PodSandboxFilter {
                label_selector,
                ..cri::PodSandboxFilter::default()
            })
            .await
    }

    async fn summary(&self) -> Result<(Listed, Listed), Error> {
        let mut sandboxes: Listed = self
            .sandboxes()
            .await?
            .into_iter()
            .map(|sandbox| (sandbox.id, sandbox.state))
            .collect();
        let label_selector =
            HashMap::from([(requests::INSTANCE.to_owned(), self.instance.clone())]);
        let containers = self
            .runtime
            .cri()
            .list_containers(cri::ContainerFilter {
                label_selector,
                ..cri::ContainerFilter::default()
            })
            .await?;
        let mut containers: Listed = containers
            .into_iter()
            .map(|container| (container.id, container.state))
            .collect();
        sandboxes.sort();
        containers.sort();
        Ok((sandboxes, containers))
    }

    /// Puts logs aside that have grown too large.
    async fn rotate_logs(&self) {
        let keys: Vec<_> = self.lock().keys().cloned().collect();
        for key in keys {
            let folder = self.pod_folder(&key).join("logs");
            let Ok(observed) = self.observe(&key).await else {
                return;
            };
            for run in observed
                .runs
                .iter()
                .filter(|run| matches!(run.state, RunState::Running { .. }))
            {
                let path = folder.join(&run.name).join(format!("{}.log", run.attempt));
                if std::fs::metadata(&path).is_ok_and(|data| data.len() > logs::MAX_SIZE)
                    && std::fs::rename(&path, logs::older(&path)).is_ok()
                    && let Err(error) = self.runtime.cri().reopen_log(&run.id).await
                {
                    warn!(container = run.name, %error, "cannot begin a new log file");
                }
            }
        }
    }
}
