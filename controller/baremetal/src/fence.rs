//! Fencing: other controllers ask for a host to be off, and get a proof or an error.
//!
//! ```text
//!   hold-off annotation ──▶ ForceOff, read back Off several times ──▶ proof recorded ──▶ Proof
//!                                   │ BMC can't be reached
//!                                   ├── a person confirmed it ──▶ recorded as that ──▶ Proof
//!                                   └── else: NotFenced, an event and a condition
//! ```
//!
//! The host is held off first, so that nothing here turns it on again in between; [`Shell::unfence`] ends that.

use catamaran_redfish::Kind;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::annotations::{self, CONFIRMED_OFF, FENCE_HOLD, FENCED};
use crate::conditions;
use crate::deploy::Deploy;
use crate::facts::Login;
use crate::link::{NodeIdentity, Unlinked, link};
use crate::shell::Shell;
use crate::status::time;
use crate::store::{HostName, Store, StoreError};

/// How it is known that a host is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// When it was proved (RFC 3339).
    pub at: String,
    /// How, in words.
    pub how: String,
    /// A person said so, not the BMC.
    pub by_hand: bool,
}

/// The host may run. Nothing that it holds may be given to another.
#[derive(Debug, thiserror::Error)]
pub enum NotFenced {
    /// There is no such host.
    #[error("there is no BareMetalHost {0}")]
    NoHost(HostName),
    /// The node is no host.
    #[error("the node can't be fenced")]
    Unlinked(#[from] Unlinked),
    /// It was not proved.
    #[error(
        "{host} is NOT fenced and may run: {why}; when you have seen that it is off, annotate it with {CONFIRMED_OFF}"
    )]
    NotProved {
        /// The host.
        host: HostName,
        /// Why not.
        why: String,
    },
    /// The cluster could not be asked.
    #[error("the host may run")]
    Store(#[from] StoreError),
}

impl<S: Store, D: Deploy> Shell<S, D> {
    /// Fences the host of a node.
    ///
    /// # Errors
    /// See [`NotFenced`]: the node may run.
    pub async fn fence_node(&self, node: &NodeIdentity) -> Result<(HostName, Proof), NotFenced> {
        let found = link(node, &self.store.hosts())?;
        let proof = self.fence(&found.host).await?;
        Ok((found.host, proof))
    }

    /// Cuts a host's power, proves it, and holds the host off until [`Shell::unfence`].
    ///
    /// # Errors
    /// See [`NotFenced`]: the host may run.
    pub async fn fence(&self, name: &HostName) -> Result<Proof, NotFenced> {
        let missing = || NotFenced::NoHost(name.clone());
        let host = self.store.host(name).ok_or_else(missing)?;
        let hold = json!({"metadata": {"annotations": {FENCE_HOLD: r#"{"mode":"hard","force":true}"#, FENCED: null}}});
        let host = self.store.write(&host, hold).await?;
        // Whoever is at work on the host with the old connection can't turn it on any more; whoever gets the new one looks for the hold-off.
        self.bmcs.close(name).await;
        let (login, bmc) = self.log_in(name, &host).await?;
        let tried = match (bmc, login) {
            (Some(Ok(bmc)), _) => bmc
                .fence()
                .await
                .map_err(|error| (error.kind() == Kind::Unreachable, error.to_string())),
            (Some(Err(error)), _) => Err((true, error.to_string())),
            (None, Login::Unusable(why)) => Err((true, why)),
            (None, _) => Err((true, "spec.bmc is not given".to_owned())),
        };
        // It may have been confirmed while the BMC was being tried.
        let host = self.store.host(name).ok_or_else(missing)?;
        let confirmed = annotations::get(&host, CONFIRMED_OFF).map(str::to_owned);
        let at = time(self.store.now());
        let stamp = at.0.to_string();
        let proof = match (tried, confirmed) {
            (Ok(fenced), _) => Proof {
                at: stamp,
                how: format!(
                    "power was cut, and its BMC read Off {} times after that{}",
                    fenced.readings,
                    fenced
                        .watts
                        .map(|(before, now)| format!(
                            "; it drew {before} W before and {now} W then"
                        ))
                        .unwrap_or_default()
                ),
                by_hand: false,
            },
            (Err((true, why)), Some(by)) => Proof {
                at: stamp,
                how: format!("confirmed by hand: {by}; its BMC could not be asked: {why}"),
                by_hand: true,
            },
            // A BMC that answers knows better than a person.
            (Err((_, why)), _) => {
                self.metrics.fences.with_label_values(&["failed"]).inc();
                let error = NotFenced::NotProved {
                    host: name.clone(),
                    why,
                };
                tracing::error!(host = %name, %error, "not fenced");
                let mut status = host.status.clone().unwrap_or_default();
                let words = error.to_string();
                conditions::set(
                    &mut status.conditions,
                    host.metadata.generation,
                    "Fenced",
                    Some(false),
                    "NotProved",
                    &words,
                    &at,
                );
                self.tell(&host, true, "FencingFailed", words).await;
                self.store.write_status(&host, &status).await?;
                return Err(error);
            }
        };
        let text = serde_json::to_string(&proof).expect("a proof has string keys only");
        let record = json!({"metadata": {"annotations": {FENCED: text, CONFIRMED_OFF: null}}});
        let host = self.store.write(&host, record).await?;
        let mut status = host.status.clone().unwrap_or_default();
        conditions::set(
            &mut status.conditions,
            host.metadata.generation,
            "Fenced",
            Some(true),
            "ProvedOff",
            &text,
            &at,
        );
        if !proof.by_hand {
            status.powered_on = false;
        }
        self.store.write_status(&host, &status).await?;
        self.metrics
            .fences
            .with_label_values(&[if proof.by_hand { "by_hand" } else { "proved" }])
            .inc();
        self.tell(&host, false, "Fenced", proof.how.clone()).await;
        tracing::info!(host = %name, how = proof.how, "fenced");
        Ok(proof)
    }

    /// Ends the hold-off: the host's power is its spec's again.
    ///
    /// # Errors
    /// When the cluster can't be asked.
    pub async fn unfence(&self, name: &HostName) -> Result<(), StoreError> {
        if let Some(host) = self.store.host(name) {
            let free = json!({"metadata": {"annotations": {FENCE_HOLD: null}}});
            self.store.write(&host, free).await?;
        }
        Ok(())
    }
}
