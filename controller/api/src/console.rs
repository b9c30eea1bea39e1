//! The vault of the web console: a Secret that all replicas share. The leader makes it, with the key; whoever deletes it logs everybody out.
//!
//! ```text
//!  key              seals cookies and tickets
//!  session.ID       one for each session: its user, when it began, when it was used last
//! ```

use std::collections::BTreeMap;

use catamaran_console::{Entry, Failure, Kept, Key, Vault, nobody};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::answer::chain;
use crate::certificates::CertificateError;

/// Its name.
const NAME: &str = "catamaran-console";
const KEY: &str = "key";
/// Before the id of a session.
const SESSION: &str = "session.";

/// The vault.
pub(crate) struct SecretVault(Api<Secret>);

impl SecretVault {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    fn failed(error: &kube::Error) -> Failure {
        tracing::warn!(error = chain(error), "Secret {NAME}");
        Failure::new(
            503,
            "the console cannot reach what it shares with its replicas",
        )
    }
}

impl Vault for SecretVault {
    async fn read(&self) -> Result<Kept, Failure> {
        let secret = self.0.get_opt(NAME).await.map_err(|e| Self::failed(&e))?;
        let Some(secret) = secret else {
            // Whoever has deleted it wants nobody to be logged in. Nobody can be before the leader has made it again.
            let key = Key::random()
                .map_err(|_| Failure::new(500, "the console has no random numbers"))?;
            return Ok(Kept {
                key,
                sessions: BTreeMap::new(),
            });
        };
        kept(&secret.data.unwrap_or_default()).ok_or_else(not_made)
    }

    async fn write(&self, id: &str, entry: Option<&Entry>) -> Result<(), Failure> {
        let params = PatchParams::default();
        let patch = Patch::Merge(patch(id, entry));
        match self.0.patch(NAME, &params, &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(not_made()),
            Err(error) => Err(Self::failed(&error)),
        }
    }

    async fn touch(&self, id: &str, entry: &Entry) -> Result<(), Failure> {
        let secret = self.0.get_opt(NAME).await.map_err(|e| Self::failed(&e))?;
        let secret = secret.ok_or_else(nobody)?;
        let name = format!("{SESSION}{id}");
        if !secret.data.is_some_and(|data| data.contains_key(&name)) {
            return Err(nobody());
        }
        // Only if nothing has changed since: the session may have ended meanwhile.
        let mut change = patch(id, Some(entry));
        change["metadata"] = json!({"resourceVersion": secret.metadata.resource_version});
        let params = PatchParams::default();
        match self.0.patch(NAME, &params, &Patch::Merge(change)).await {
            Ok(_) => Ok(()),
            // The next use tries again.
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                Ok(())
            }
            Err(error) => Err(Self::failed(&error)),
        }
    }
}

fn not_made() -> Failure {
    Failure::new(503, "the console's key is not made yet: try again")
}

/// Makes the Secret if it is not there, or has no key that is one: the leader's part.
pub(crate) async fn keep(client: &Client, namespace: &str) -> Result<(), CertificateError> {
    let failed = || CertificateError::kube(format!("Secret {NAME}"));
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let found = api.get_opt(NAME).await.map_err(failed())?;
    let mut version = None;
    if let Some(found) = found {
        if kept(&found.data.unwrap_or_default()).is_some() {
            return Ok(());
        }
        version = found.metadata.resource_version;
    }
    tracing::info!("a new key of the web console is made");
    let key = Key::random().map_err(CertificateError::crypto("key of the web console"))?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(crate::certificates::labels()),
            resource_version: version.clone(),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(
            KEY.to_owned(),
            ByteString(key.bytes().to_vec()),
        )])),
        ..Secret::default()
    };
    let params = PostParams::default();
    let written = match version {
        None => api.create(&params, &secret).await,
        Some(_) => api.replace(NAME, &params, &secret).await,
    };
    match written {
        // Another leader was quicker.
        Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => {
            Ok(())
        }
        made => made.map(drop).map_err(failed()),
    }
}

/// What the Secret holds; nothing without a key. What is no session is left out.
fn kept(data: &BTreeMap<String, ByteString>) -> Option<Kept> {
    let key = Key::stored(&data.get(KEY)?.0)?;
    let sessions = data.iter().filter_map(|(name, value)| {
        let id = name.strip_prefix(SESSION)?;
        Some((id.to_owned(), serde_json::from_slice(&value.0).ok()?))
    });
    Some(Kept {
        key,
        sessions: sessions.collect(),
    })
}

/// The merge patch that keeps a session, or ends it.
fn patch(id: &str, entry: Option<&Entry>) -> Value {
    let name = format!("{SESSION}{id}");
    let value = entry.map(|entry| ByteString(json!(entry).to_string().into_bytes()));
    json!({"data": {name: value}})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use catamaran_console::{Entry, User};
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::{KEY, kept, patch};

    fn entry() -> Entry {
        Entry {
            user: User {
                name: "alice".to_owned(),
                groups: vec!["dev".to_owned()],
            },
            since: 100,
            seen: 160,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = patch("s1", Some(&entry()));
        let mut data: BTreeMap<String, ByteString> =
            serde_json::from_value(written["data"].clone()).unwrap();
        assert_eq!(kept(&data), None, "there is no key");
        data.insert(KEY.to_owned(), ByteString(vec![7; 32]));
        data.insert("session.s2".to_owned(), ByteString(b"garbage".to_vec()));
        let found = kept(&data).unwrap();
        assert_eq!(found.sessions, BTreeMap::from([("s1".to_owned(), entry())]));
    }

    #[test]
    fn a_session_ends_by_being_taken_out() {
        assert_eq!(patch("s1", None), json!({"data": {"session.s1": null}}));
    }
}
