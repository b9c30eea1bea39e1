//! Signs the serving certificates of node daemons: signer `catamaran.dev/node-serving`.
//!
//! A request is approved when the daemon's own service account made it with a token that is bound to the very node that the request names.
//! Whatever else stands in the request is not looked at: names and usages are the signer's.

use std::time::Duration;

use futures::TryStreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

use super::{Authority, CertificateError, store};
use crate::ApiConfig;
use crate::answer::chain;

/// Our signer.
const SIGNER: &str = "catamaran.dev/node-serving";
/// Where a token says which node it is bound to.
const NODE_CLAIM: &str = "authentication.kubernetes.io/node-name";
/// Until a request that could not be carried out is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is tried.
const ATTEMPTS: usize = 10;

/// Signs while this replica leads, until the end.
pub(crate) async fn run(config: &ApiConfig) {
    let mut leader = config.leader.clone();
    loop {
        tokio::select! {
            () = config.shutdown.cancelled() => return,
            led = leader.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        tokio::select! {
            () = config.shutdown.cancelled() => return,
            lost = leader.wait_for(|leads| !*leads) => if lost.is_err() { return },
            () = watch(&config.client, &config.namespace) => {}
        }
    }
}

async fn watch(client: &Client, namespace: &str) {
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let filter = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let mut events = std::pin::pin!(
        watcher(requests, filter)
            .default_backoff()
            .applied_objects()
    );
    loop {
        match events.try_next().await {
            Ok(Some(request)) => persist(client, namespace, &request).await,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "certificate signing requests are not seen"
                );
            }
        }
    }
}

async fn persist(client: &Client, namespace: &str, request: &CertificateSigningRequest) {
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    for _ in 0..ATTEMPTS {
        // As it is now: what the watch tells may be the approval of a request that was signed since.
        let carried = match requests.get_opt(&request.name_any()).await {
            Ok(Some(now)) => carry_out(client, namespace, &now).await,
            Ok(None) => return,
            Err(error) => Err(CertificateError::kube(format!(
                "CertificateSigningRequest {}",
                request.name_any()
            ))(error)),
        };
        match carried {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(
                    request = request.name_any(),
                    error = chain(&error),
                    "certificate is not signed"
                );
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn carry_out(
    client: &Client,
    namespace: &str,
    request: &CertificateSigningRequest,
) -> Result<(), CertificateError> {
    let name = request.name_any();
    let has = |kind: &str| {
        let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == kind))
    };
    let signed = request
        .status
        .as_ref()
        .is_some_and(|s| s.certificate.is_some());
    if signed || has("Denied") || has("Failed") {
        return Ok(());
    }
    let requests = Api::<CertificateSigningRequest>::all(client.clone());
    let failed = || CertificateError::kube(format!("CertificateSigningRequest {name}"));
    let params = PatchParams::default();
    let node = match permitted(&request.spec, namespace) {
        Ok(node) => node,
        Err(reason) => {
            tracing::warn!(request = name, reason, "certificate is denied");
            let patch = condition("Denied", "NotThatNode", &reason);
            requests
                .patch_subresource("approval", &name, &params, &Patch::Strategic(&patch))
                .await
                .map_err(failed())?;
            return Ok(());
        }
    };
    let stored = store::authority(client, namespace)
        .await?
        .ok_or_else(|| CertificateError::Missing(format!("Secret {}", store::AUTHORITY)))?;
    let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
    let certificate = Authority::load(&stored.current)?.node(&pem, &node)?;
    if !has("Approved") {
        let words = format!("the daemon of node {node} asks with a token of its node");
        let patch = condition("Approved", "NodeClaim", &words);
        requests
            .patch_subresource("approval", &name, &params, &Patch::Strategic(&patch))
            .await
            .map_err(failed())?;
    }
    let patch = json!({"status": {"certificate": ByteString(certificate.into_bytes())}});
    requests
        .patch_status(&name, &params, &Patch::Merge(&patch))
        .await
        .map_err(failed())?;
    tracing::info!(node, "certificate of a node daemon is signed");
    Ok(())
}

fn condition(kind: &str, reason: &str, message: &str) -> Value {
    json!({"status": {"conditions": [
        {"type": kind, "status": "True", "reason": reason, "message": message},
    ]}})
}

/// The node that may have the certificate, or why nobody may.
fn permitted(spec: &CertificateSigningRequestSpec, namespace: &str) -> Result<String, String> {
    let account = format!("system:serviceaccount:{namespace}:catamaran-node");
    let user = spec.username.as_deref().unwrap_or_default();
    if user != account {
        return Err(format!("user {user:?} is not {account}"));
    }
    let claims = spec.extra.as_ref().and_then(|extra| extra.get(NODE_CLAIM));
    let [node] = claims.map(Vec::as_slice).unwrap_or_default() else {
        return Err(format!("the token has no claim {NODE_CLAIM}"));
    };
    let named = subject(&spec.request.0).ok_or("the request is not readable, or names nobody")?;
    if named != *node {
        return Err(format!(
            "the request names {named:?}, the token is bound to node {node:?}"
        ));
    }
    let usages = ["digital signature", "key encipherment", "server auth"];
    let asked = spec.usages.as_deref().unwrap_or_default();
    if let Some(other) = asked.iter().find(|usage| !usages.contains(&usage.as_str())) {
        return Err(format!("usage {other:?} is not one of {usages:?}"));
    }
    Ok(node.clone())
}

/// Common name of a request.
fn subject(pem: &[u8]) -> Option<String> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem).ok()?;
    let (_, request) = X509CertificationRequest::from_der(&der).ok()?;
    let mut names = request
        .certification_request_info
        .subject
        .iter_common_name();
    names.next()?.as_str().ok().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::{NODE_CLAIM, SIGNER, permitted};

    fn request(user: &str, claim: Option<&str>, named: &str) -> CertificateSigningRequestSpec {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, named);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        CertificateSigningRequestSpec {
            signer_name: SIGNER.to_owned(),
            request: ByteString(pem.into_bytes()),
            username: Some(user.to_owned()),
            extra: claim
                .map(|node| BTreeMap::from([(NODE_CLAIM.to_owned(), vec![node.to_owned()])])),
            usages: Some(vec![
                "digital signature".to_owned(),
                "server auth".to_owned(),
            ]),
            ..CertificateSigningRequestSpec::default()
        }
    }

    const DAEMON: &str = "system:serviceaccount:catamaran-system:catamaran-node";

    #[test]
    fn a_daemon_gets_the_certificate_of_its_own_node() {
        let spec = request(DAEMON, Some("n1"), "n1");
        assert_eq!(permitted(&spec, "catamaran-system"), Ok("n1".to_owned()));
    }

    #[test]
    fn nobody_gets_the_certificate_of_another_node() {
        let mut client = request(DAEMON, Some("n1"), "n1");
        client.usages = Some(vec!["client auth".to_owned()]);
        for spec in [
            request(DAEMON, Some("n1"), "n2"),
            request(DAEMON, None, "n1"),
            request("system:serviceaccount:default:default", Some("n1"), "n1"),
            request("system:node:n1", Some("n1"), "n1"),
            client,
        ] {
            assert!(permitted(&spec, "catamaran-system").is_err());
        }
    }
}
