//! Pods on their way out, each in a task of its own: one that uses up its grace period holds up no other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catamaran_containers::PodKey;
use tokio::task::JoinSet;

use crate::serve::daemon::Daemon;
use crate::serve::store::{Key, Kind};

use super::{RETRY, unexpose};

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It goes with its object.
    Deleted,
    /// Its containers end, since the daemon goes down; its object stays.
    Stopped,
    /// It goes, since the daemon goes down and forgets everything.
    Cleared,
    /// It goes; its object has gone before.
    Orphaned,
}

/// The tasks.
#[derive(Debug, Default)]
pub(super) struct Ending {
    tasks: JoinSet<(PodKey, bool)>,
    under_way: BTreeSet<PodKey>,
    /// Those that are down while the daemon goes down.
    down: BTreeSet<PodKey>,
}

impl Ending {
    /// Ends a pod, unless that is under way or done.
    pub(super) fn start(&mut self, daemon: &Arc<Daemon>, pod: &PodKey, end: End, grace: Duration) {
        if self.down.contains(pod) || !self.under_way.insert(pod.clone()) {
            return;
        }
        let (daemon, pod) = (daemon.clone(), pod.clone());
        self.tasks.spawn(async move {
            let ended = carry_out(&daemon, &pod, end, grace).await;
            if let Err(error) = &ended {
                let key = Key::new(Kind::Pod, &pod.namespace, &pod.name);
                let words = catamaran_client::chain(error);
                daemon.events.warning(&key, "FailedKillPod", words);
                tokio::time::sleep(RETRY).await;
            }
            (
                pod,
                ended.is_ok() && matches!(end, End::Stopped | End::Cleared),
            )
        });
    }

    /// Whether a pod is on its way out.
    pub(super) fn has(&self, pod: &PodKey) -> bool {
        self.under_way.contains(pod)
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Until the next one is done; for ever while there is none.
    pub(super) async fn next(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((pod, is_down))) => {
                self.under_way.remove(&pod);
                if is_down {
                    self.down.insert(pod);
                }
            }
            Some(Err(error)) => {
                // Its pod is looked at anew with the others.
                tracing::error!(error = %error, "the task of a pod failed");
                self.under_way.clear();
            }
            None => std::future::pending().await,
        }
    }
}

async fn carry_out(
    daemon: &Daemon,
    pod: &PodKey,
    end: End,
    grace: Duration,
) -> Result<(), catamaran_containers::Error> {
    let Ok(pods) = &daemon.pods else {
        return Ok(());
    };
    let key = Key::new(Kind::Pod, &pod.namespace, &pod.name);
    unexpose(daemon, &key).await;
    match end {
        End::Stopped => pods.runtime.stop(pod, grace).await?,
        End::Deleted | End::Cleared | End::Orphaned => pods.runtime.remove(pod, grace).await?,
    }
    match end {
        End::Deleted => {
            let _ = daemon.store.remove(&key);
            daemon.events.forget(&key);
        }
        End::Stopped | End::Cleared => {
            daemon.tell_shutdown(format!("pod {} stopped", pod.name));
        }
        End::Orphaned => {}
    }
    Ok(())
}
