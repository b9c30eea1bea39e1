//! Which replica reconciles: the holder of a Lease.
//!
//! ```text
//!            free, expired, or ours           renewed every 5 s
//!   waiting ──────────────────────▶ leading ─────────────────────▶ leading
//!      ▲                               │ not renewed for 10 s, or taken: the work ends before another begins
//!      └───────────────────────────────┘
//! ```
//!
//! A holder counts as dead when its lease has not been renewed for 15 s *on the clock of the one who waits*, so that clocks need not agree.

use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::client::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, chain};

/// Name of the Lease.
const NAME: &str = "catamaran-controller";
/// A lease that is not renewed for so long is free.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between renewals.
const RENEW: Duration = Duration::from_secs(5);
/// Pause between looks at somebody else's lease, and between tries that failed.
const RETRY: Duration = Duration::from_secs(2);

/// A candidate.
#[derive(Debug)]
pub struct Leader {
    api: Api<Lease>,
    identity: String,
    /// Version of the lease as it was seen last, and when.
    seen: Option<(Option<String>, Instant)>,
}

impl Leader {
    /// A replica of that name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits for the lease, then works as long as it is held. Returns when the work ends, the lease is lost or `stop` says so.
    /// `leads` follows.
    pub async fn lead(
        mut self,
        work: impl Future<Output = ()>,
        leads: watch::Sender<bool>,
        stop: &CancellationToken,
    ) {
        tokio::select! {
            () = self.win() => {}
            () = stop.cancelled() => return,
        }
        tracing::info!(identity = self.identity, "leading");
        leads.send_replace(true);
        tokio::select! {
            () = work => {}
            () = self.hold() => tracing::error!("the lease is lost"),
            () = stop.cancelled() => {}
        }
        leads.send_replace(false);
        if let Err(error) = self.release().await {
            tracing::warn!(error = chain(&error), "the lease could not be given back");
        }
    }

    async fn win(&mut self) {
        loop {
            match self.take().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if error.is_conflict() || error.already_exists() => {}
                Err(error) => tracing::warn!(error = chain(&error), "the lease can't be had"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Until the lease is lost.
    async fn hold(&mut self) {
        let mut renewed = Instant::now();
        let mut pause = RENEW;
        while renewed.elapsed() < DEADLINE {
            tokio::time::sleep(pause).await;
            let answer = tokio::time::timeout(RENEW, self.take()).await;
            pause = RETRY;
            match answer {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    pause = RENEW;
                }
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "the lease could not be renewed");
                }
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
        }
    }

    /// Takes or renews the lease, if it is free or ours.
    async fn take(&mut self) -> Result<bool, Error> {
        let now = Instant::now();
        let lease = self.api.get_opt(NAME).await;
        let Some(lease) = lease.map_err(Error::api("read the lease"))? else {
            let lease = wanted(None, &self.identity);
            let made = self.api.create(&PostParams::default(), &lease).await;
            made.map_err(Error::api("create the lease"))?;
            return Ok(true);
        };
        let version = lease.metadata.resource_version.clone();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if !is_free(&lease, &self.identity, now - since) {
            return Ok(false);
        }
        let lease = wanted(Some(lease), &self.identity);
        let answer = self.api.replace(NAME, &PostParams::default(), &lease).await;
        answer.map_err(Error::api("renew the lease"))?;
        Ok(true)
    }

    /// Lets another replica begin at once.
    async fn release(&self) -> Result<(), Error> {
        let lease = self.api.get_opt(NAME).await;
        let Some(mut lease) = lease.map_err(Error::api("read the lease"))? else {
            return Ok(());
        };
        let Some(spec) = lease.spec.as_mut() else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        let answer = self.api.replace(NAME, &PostParams::default(), &lease).await;
        answer
            .map_err(Error::api("give the lease back"))
            .map(|_| ())
    }
}

/// Whether a lease that has looked the same for `unchanged` may be taken.
fn is_free(lease: &Lease, identity: &str, unchanged: Duration) -> bool {
    let spec = lease.spec.clone().unwrap_or_default();
    match spec.holder_identity.as_deref() {
        None | Some("") => true,
        Some(holder) => holder == identity || unchanged >= DURATION,
    }
}

/// The lease with us as its holder.
fn wanted(old: Option<Lease>, identity: &str) -> Lease {
    let now = MicroTime(Timestamp::now());
    let mut lease = old.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let old = lease.spec.take().unwrap_or_default();
    let ours = old.holder_identity.as_deref() == Some(identity);
    lease.spec = Some(LeaseSpec {
        acquire_time: if ours {
            old.acquire_time
        } else {
            Some(now.clone())
        },
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        lease_transitions: if ours {
            old.lease_transitions
        } else {
            Some(old.lease_transitions.unwrap_or(0) + 1)
        },
        renew_time: Some(now),
        ..LeaseSpec::default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_free_without_a_holder_or_when_it_is_not_renewed() {
        let mut lease = wanted(None, "a");
        assert!(is_free(&lease, "a", Duration::ZERO));
        assert!(!is_free(&lease, "b", Duration::from_secs(14)));
        assert!(is_free(&lease, "b", DURATION));
        lease.spec.as_mut().unwrap().holder_identity = None;
        assert!(is_free(&lease, "b", Duration::ZERO));
    }

    #[test]
    fn transitions_count_holders_and_not_renewals() {
        let transitions = |lease: &Lease| lease.spec.as_ref().unwrap().lease_transitions;
        let first = wanted(None, "a");
        let renewed = wanted(Some(first.clone()), "a");
        assert_eq!(transitions(&renewed), transitions(&first));
        let taken = wanted(Some(renewed), "b");
        assert_eq!(transitions(&taken), Some(2));
    }
}
