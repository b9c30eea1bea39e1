//! The parts of an installation, each removed by one function.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::client::Client;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::{LOOK, decide, gone, names};
use crate::kubevirt::{CONTROLLERS, DAEMONS};
use crate::patch::INSTALLATION_MANAGER;
use crate::preflight::{API_SERVICES, OURS};

/// Signer of the daemons' certificates.
const SIGNER: &str = "catamaran.dev/node-serving";
/// What the controller has made in its namespace.
const SECRETS: [&str; 5] = [
    "catamaran-ca",
    "catamaran-api-tls",
    "catamaran-api-client",
    "catamaran-console",
    "catamaran-deploy",
];
/// Likewise.
const CONFIG_MAP: &str = "catamaran-ca";

/// Controller and daemons. They end first: they would make again what is removed.
pub(super) async fn programs(client: &Client, namespace: &str, timeout: Duration) -> Result<()> {
    delete(
        Api::<Deployment>::namespaced(client.clone(), namespace),
        CONTROLLERS,
    )
    .await?;
    delete(
        Api::<DaemonSet>::namespaced(client.clone(), namespace),
        DAEMONS,
    )
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = format!("app.kubernetes.io/name in ({CONTROLLERS}, {DAEMONS})");
    let ours = ListParams::default().labels(&ours);
    let deadline = Instant::now() + timeout;
    loop {
        let left = names(&pods.list_metadata(&ours).await?.items);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            // On a node without power nothing runs; its kubelet removes the pod when it is back.
            tracing::warn!(
                pods = left.join(", "),
                "pods did not end; is their node off?"
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Webhooks and the aggregated API. Nobody answers them any more.
pub(super) async fn hooks(client: &Client, namespace: &str) -> Result<()> {
    delete(
        Api::<ValidatingWebhookConfiguration>::all(client.clone()),
        OURS,
    )
    .await?;
    delete(
        Api::<MutatingWebhookConfiguration>::all(client.clone()),
        OURS,
    )
    .await?;
    let services: Api<APIService> = Api::all(client.clone());
    for name in API_SERVICES {
        let found = services.get_opt(name).await?;
        let behind = found.and_then(|service| service.spec?.service?.namespace);
        if behind.as_deref() == Some(namespace) {
            delete(services.clone(), name).await?;
        }
    }
    Ok(())
}

/// Labels and annotations of nodes.
pub(super) async fn marks(client: &Client) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let params = PatchParams {
        field_manager: Some(INSTALLATION_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    for node in api.list_metadata(&ListParams::default()).await?.items {
        if let Some(patch) = decide::unmark(node.labels(), node.annotations()) {
            let name = node.name_any();
            gone(
                api.patch_metadata(&name, &params, &Patch::Merge(patch))
                    .await,
            )
            .with_context(|| format!("could not unmark node {name}"))?;
        }
    }
    Ok(())
}

/// Keys, their bundle, the lease, and requests for certificates.
pub(super) async fn keys(client: &Client, namespace: &str) -> Result<()> {
    for name in SECRETS {
        delete(Api::<Secret>::namespaced(client.clone(), namespace), name).await?;
    }
    delete(
        Api::<ConfigMap>::namespaced(client.clone(), namespace),
        CONFIG_MAP,
    )
    .await?;
    delete(
        Api::<Lease>::namespaced(client.clone(), namespace),
        CONTROLLERS,
    )
    .await?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let listed = requests
        .list(&ListParams::default().fields(&format!("spec.signerName={SIGNER}")))
        .await?;
    for request in listed {
        delete(requests.clone(), &request.name_any()).await?;
    }
    Ok(())
}

/// Deletes an object if it is there.
async fn delete<K>(api: Api<K>, name: &str) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    gone(api.delete(name, &DeleteParams::background()).await)
        .with_context(|| format!("could not delete {} {name}", K::kind(&())))
}
