//! Which deploy agents may speak for which host: kept in a Secret, from which the next leader goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_deploy_server::{Ledger, LedgerError, Record};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::client::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::{Error, chain};

/// Name of the Secret. It has digests in it only, but who changes one speaks for a host.
const NAME: &str = "catamaran-deploy";
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers from memory; [`SecretLedger::keep`] writes behind it.
pub(super) struct SecretLedger {
    api: Api<Secret>,
    records: Mutex<BTreeMap<String, Record>>,
    /// Counts changes.
    changed: watch::Sender<u64>,
    /// The change up to which all is in the Secret.
    written: watch::Sender<u64>,
}

impl SecretLedger {
    /// What the last leader has left.
    pub(super) async fn load(client: &Client, namespace: &str) -> Result<Arc<Self>, Error> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let secret = api.get_opt(NAME).await;
        let secret = secret.map_err(Error::api(format!("read the Secret {NAME}")))?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let records = data.into_iter().filter_map(|(host, record)| {
            let record = serde_json::from_slice(&record.0);
            if let Err(error) = &record {
                tracing::warn!(host, %error, "a record of a deploy agent can't be read; its host is booted anew");
            }
            Some((host, record.ok()?))
        });
        Ok(Arc::new(Self {
            api,
            records: Mutex::new(records.collect()),
            changed: watch::Sender::new(0),
            written: watch::Sender::new(0),
        }))
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what changes until it is dropped.
    pub(super) async fn keep(&self) {
        let mut changed = self.changed.subscribe();
        let mut there = self.records().clone();
        loop {
            let count = *changed.borrow_and_update();
            let wanted = self.records().clone();
            if let Some(change) = change(&there, &wanted) {
                if let Err(error) = self.write(change).await {
                    tracing::warn!(
                        error = chain(&error),
                        "records of deploy agents are not kept"
                    );
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                there = wanted;
            }
            self.written.send_replace(count);
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn write(&self, data: Value) -> Result<(), Error> {
        let what = || format!("write the Secret {NAME}");
        let patch = Patch::Merge(json!({ "data": data }));
        let patched = self.api.patch(NAME, &PatchParams::default(), &patch).await;
        let patched = patched.map(drop).map_err(Error::api(what()));
        if !patched.as_ref().is_err_and(Error::not_found) {
            return patched;
        }
        let records = self.records().clone();
        let data = records
            .iter()
            .map(|(host, record)| (host.clone(), bytes(record)));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "catamaran-controller".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        };
        let made = self.api.create(&PostParams::default(), &secret).await;
        made.map(drop).map_err(Error::api(what()))
    }

    fn count(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

fn bytes(record: &Record) -> ByteString {
    ByteString(serde_json::to_vec(record).expect("a record has string keys only"))
}

/// The merge patch of the Secret's data; none where nothing is different.
fn change(there: &BTreeMap<String, Record>, wanted: &BTreeMap<String, Record>) -> Option<Value> {
    let mut patch = serde_json::Map::new();
    for (host, record) in wanted {
        if there.get(host) != Some(record) {
            patch.insert(host.clone(), json!(bytes(record)));
        }
    }
    for host in there.keys().filter(|host| !wanted.contains_key(*host)) {
        patch.insert(host.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

impl Ledger for SecretLedger {
    fn load(&self, host: &str) -> Result<Option<Record>, LedgerError> {
        Ok(self.records().get(host).cloned())
    }

    fn store(&self, host: &str, record: &Record) -> Result<(), LedgerError> {
        self.records().insert(host.to_owned(), record.clone());
        self.count();
        Ok(())
    }

    fn forget(&self, host: &str) -> Result<(), LedgerError> {
        if self.records().remove(host).is_some() {
            self.count();
        }
        Ok(())
    }

    fn kept(&self) -> BoxFuture<'static, ()> {
        let count = *self.changed.borrow();
        let mut written = self.written.subscribe();
        async move {
            // It ends without the other side when the process does.
            let _ = written.wait_for(|written| *written >= count).await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use catamaran_deploy_server::Record;
    use serde_json::{Value, json};

    use super::{bytes, change};

    fn record(token: &str) -> Record {
        serde_json::from_value(json!({ "token": token })).unwrap()
    }

    #[test]
    fn only_what_is_different_is_written() {
        let all = |records: &[(&str, &str)]| -> BTreeMap<String, Record> {
            let records = records.iter();
            records
                .map(|(host, token)| ((*host).to_owned(), record(token)))
                .collect()
        };
        let there = all(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(change(&there, &there), None);
        let wanted = all(&[("a", "1"), ("b", "other"), ("d", "4")]);
        let patch = change(&there, &wanted).unwrap();
        assert_eq!(
            patch,
            json!({"b": bytes(&record("other")), "c": Value::Null, "d": bytes(&record("4"))})
        );
    }
}
