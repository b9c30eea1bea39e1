//! The leader's part: authority and serving key are there and not due, and everybody who must trust them does.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::authority::is_due;
use super::store::{self, AuthoritySecret};
use super::trusting::{WEBHOOKS, api_service};
use super::{Authority, CertificateError};
use crate::VERSIONS;

/// Service in front of all replicas.
const SERVICE: &str = "catamaran-api";
/// An authority is replaced when less than a fifth of its life is left.
const AUTHORITY_PART: i64 = 5;
/// The serving key is replaced when less than a third of its life is left.
const SERVING_PART: i64 = 3;

/// Makes, replaces and publishes what is missing, due or unknown.
pub(super) async fn keep(client: &Client, namespace: &str) -> Result<(), CertificateError> {
    let stored = store::authority(client, namespace).await?;
    let kept = match stored {
        Some(stored) if !is_due(&stored.current.certificate, AUTHORITY_PART) => stored,
        stored => {
            let next = successor(stored)?;
            tracing::info!("a new certificate authority is made");
            store::write_authority(client, namespace, &next).await?;
            next
        }
    };
    store::write_bundle(client, namespace, &kept.bundle).await?;
    publish(client, &kept.bundle).await?;

    let authority = Authority::load(&kept.current)?;
    let serving = store::serving(client, namespace).await?;
    let good = serving.is_some_and(|pair| {
        !is_due(&pair.certificate, SERVING_PART) && authority.signed(&pair.certificate)
    });
    if !good {
        tracing::info!("a new serving certificate is made");
        let pair = authority.server(&names(namespace))?;
        store::write_serving(client, namespace, &pair, &kept.bundle).await?;
    }
    Ok(())
}

/// A new authority, with the old one still trusted.
fn successor(old: Option<AuthoritySecret>) -> Result<AuthoritySecret, CertificateError> {
    let current = Authority::new()?.pair().clone();
    let (bundle, version) = match old {
        Some(old) => (
            format!("{}{}", current.certificate, old.current.certificate),
            old.version,
        ),
        None => (current.certificate.clone(), None),
    };
    Ok(AuthoritySecret {
        current,
        bundle,
        version,
    })
}

/// How the API server calls us.
fn names(namespace: &str) -> Vec<String> {
    vec![
        format!("{SERVICE}.{namespace}.svc"),
        format!("{SERVICE}.{namespace}.svc.cluster.local"),
        format!("{SERVICE}.{namespace}"),
    ]
}

/// Writes `caBundle` wherever the API server looks for it. Objects that are not there are left out: [`super::trusting::changes`] says when
/// the installation has made them.
async fn publish(client: &Client, bundle: &str) -> Result<(), CertificateError> {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let params = PatchParams::default();
    let services = Api::<APIService>::all(client.clone());
    for version in VERSIONS {
        let name = api_service(version);
        let failed = || CertificateError::kube(format!("APIService {name}"));
        let Some(there) = services.get_opt(&name).await.map_err(failed())? else {
            continue;
        };
        if there.spec.and_then(|spec| spec.ca_bundle) != Some(bundle.clone()) {
            let patch = json!({"spec": {"caBundle": bundle}});
            services
                .patch(&name, &params, &Patch::Merge(&patch))
                .await
                .map_err(failed())?;
        }
    }

    let failed = || CertificateError::kube(format!("ValidatingWebhookConfiguration {WEBHOOKS}"));
    let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone());
    if let Some(there) = validating.get_opt(WEBHOOKS).await.map_err(failed())? {
        let hooks = there.webhooks.unwrap_or_default();
        let hooks = hooks
            .into_iter()
            .map(|h| (h.name, h.client_config.ca_bundle));
        if let Some(patch) = webhook_patch(hooks, &bundle) {
            validating
                .patch(WEBHOOKS, &params, &Patch::Strategic(&patch))
                .await
                .map_err(failed())?;
        }
    }
    let failed = || CertificateError::kube(format!("MutatingWebhookConfiguration {WEBHOOKS}"));
    let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
    if let Some(there) = mutating.get_opt(WEBHOOKS).await.map_err(failed())? {
        let hooks = there.webhooks.unwrap_or_default();
        let hooks = hooks
            .into_iter()
            .map(|h| (h.name, h.client_config.ca_bundle));
        if let Some(patch) = webhook_patch(hooks, &bundle) {
            mutating
                .patch(WEBHOOKS, &params, &Patch::Strategic(&patch))
                .await
                .map_err(failed())?;
        }
    }
    Ok(())
}

/// A strategic merge patch for the webhooks that trust something else; webhooks are merged by name.
fn webhook_patch(
    hooks: impl Iterator<Item = (String, Option<ByteString>)>,
    bundle: &ByteString,
) -> Option<Value> {
    let stale: Vec<Value> = hooks
        .filter(|(_, trusted)| trusted.as_ref() != Some(bundle))
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    (!stale.is_empty()).then(|| json!({"webhooks": stale}))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::{successor, webhook_patch};

    #[test]
    fn only_stale_webhooks_are_patched() {
        let bundle = ByteString(b"new".to_vec());
        let hooks = [
            ("a".to_owned(), Some(bundle.clone())),
            ("b".to_owned(), Some(ByteString(b"old".to_vec()))),
            ("c".to_owned(), None),
        ];
        let patch = webhook_patch(hooks.clone().into_iter(), &bundle).unwrap();
        let names: Vec<_> = patch["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|h| &h["name"])
            .collect();
        assert_eq!(names, [&json!("b"), &json!("c")]);
        assert_eq!(webhook_patch(hooks[..1].iter().cloned(), &bundle), None);
    }

    #[test]
    fn a_replaced_authority_stays_trusted() {
        let first = successor(None).unwrap();
        let second = successor(Some(first.clone())).unwrap();
        assert_ne!(first.current, second.current);
        assert_eq!(
            second.bundle,
            format!(
                "{}{}",
                second.current.certificate, first.current.certificate
            )
        );
    }
}
