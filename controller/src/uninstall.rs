//! The command `uninstall`: takes out of a cluster what no manifest names, in the order that leaves nothing behind.
//!
//! ```text
//!   machines (only if it is said) ─▶ controller, daemons ─▶ webhooks, API services ─▶ finalizers of what is left
//!     ─▶ marks on nodes ─▶ definitions and their objects ─▶ keys, leases, requests for certificates
//! ```
//!
//! Roles, accounts and policies are left to Helm, or to `kubectl delete -f install.yaml`. Each step looks at what there is, so that a run that
//! was killed can be repeated.

mod decide;
mod remove;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use catamaran_api::{
    KubeVirt, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceReplicaSet,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::client::Client;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::preflight::{OURS, PART_OF};
use decide::Machines;

/// Label of launcher pods.
const LAUNCHERS: &str = "kubevirt.io=virt-launcher";
/// Pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Removes the installation in that namespace. `timeout`: how long machines, pods and definitions have to end, each.
///
/// # Errors
/// When there are machines and nobody said that they may go, when something does not end, or when the API server refuses.
pub async fn run(
    client: &Client,
    namespace: &str,
    delete_machines: bool,
    timeout: Duration,
) -> Result<()> {
    let machines = machines(client).await?;
    if let Some(refusal) = decide::refusal(&machines, delete_machines) {
        bail!(refusal);
    }
    if !machines.is_empty() {
        tracing::info!(count = machines.count(), "machines are deleted");
        delete_all(client).await?;
        wait_for_machines(client, timeout).await?;
    }
    remove::programs(client, namespace, timeout).await?;
    remove::hooks(client, namespace).await?;
    loosen::<VirtualMachineInstanceReplicaSet>(client).await?;
    loosen::<VirtualMachine>(client).await?;
    loosen::<VirtualMachineInstance>(client).await?;
    remove::marks(client).await?;
    definitions(client, timeout).await?;
    remove::keys(client, namespace).await?;
    tracing::info!("nothing is left but what the manifests name");
    Ok(())
}

/// All machines of the cluster. Without their definitions there are none.
async fn machines(client: &Client) -> Result<Machines> {
    Ok(Machines {
        machines: names(&listed::<VirtualMachine>(client).await?),
        instances: names(&listed::<VirtualMachineInstance>(client).await?),
        sets: names(&listed::<VirtualMachineInstanceReplicaSet>(client).await?),
    })
}

/// Metadata of all objects of a kind; nothing when the kind is not known.
async fn listed<K>(client: &Client) -> Result<Vec<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let answer = Api::<K>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await;
    match answer {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("could not list {}", K::plural(&()))),
    }
}

fn names<K: Resource<DynamicType = ()>>(objects: &[PartialObjectMeta<K>]) -> Vec<String> {
    let name = |object: &PartialObjectMeta<K>| {
        format!(
            "{}/{}",
            object.namespace().unwrap_or_default(),
            object.name_any()
        )
    };
    objects.iter().map(name).collect()
}

/// Asks for the end of all machines; owners first, so that nothing is made anew.
async fn delete_all(client: &Client) -> Result<()> {
    delete_each::<VirtualMachineInstanceReplicaSet>(client).await?;
    delete_each::<VirtualMachine>(client).await?;
    delete_each::<VirtualMachineInstance>(client).await
}

async fn delete_each<K>(client: &Client) -> Result<()>
where
    K: kube::core::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    for object in listed::<K>(client).await? {
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        gone(
            api.delete(&object.name_any(), &DeleteParams::default())
                .await,
        )
        .with_context(|| format!("could not delete {}", object.name_any()))?;
    }
    Ok(())
}

/// A deletion is good when the object is not there, or not even its kind.
fn gone<T>(answer: kube::Result<T>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Until all machines have ended. What is left at the deadline may go on only when no pod of a machine is.
async fn wait_for_machines(client: &Client, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = machines(client).await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let pods: Api<Pod> = Api::all(client.clone());
            let pods = pods
                .list_metadata(&ListParams::default().labels(LAUNCHERS))
                .await?;
            let pods = names(&pods.items);
            if !pods.is_empty() {
                bail!(decide::alive(&left, &pods, timeout));
            }
            tracing::warn!(
                count = left.count(),
                "machines without a pod are freed of their finalizers"
            );
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes the finalizers from objects that are being deleted and whose controller is gone.
async fn loosen<K>(client: &Client) -> Result<()>
where
    K: kube::core::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for object in listed::<K>(client).await? {
        if object.meta().deletion_timestamp.is_none() || object.finalizers().is_empty() {
            continue;
        }
        let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
        let name = object.name_any();
        gone(
            api.patch_metadata(&name, &PatchParams::default(), &free)
                .await,
        )
        .with_context(|| format!("could not free {name} of its finalizers"))?;
    }
    Ok(())
}

/// Deletes our definitions, and with them all objects of their kinds.
async fn definitions(client: &Client, timeout: Duration) -> Result<()> {
    // Somebody may have made one since.
    let machines = machines(client).await?;
    if let Some(refusal) = decide::refusal(&machines, false) {
        bail!(refusal);
    }
    delete_each::<KubeVirt>(client).await?;
    loosen::<KubeVirt>(client).await?;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{PART_OF}={OURS}"));
    let deadline = Instant::now() + timeout;
    loop {
        let left = api.list_metadata(&ours).await?.items;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let names: Vec<String> = left.iter().map(kube::ResourceExt::name_any).collect();
            bail!(
                "{} did not go in {} s: some of their objects have finalizers",
                names.join(", "),
                timeout.as_secs()
            );
        }
        for definition in left {
            if definition.meta().deletion_timestamp.is_none() {
                gone(
                    api.delete(&definition.name_any(), &DeleteParams::default())
                        .await,
                )
                .with_context(|| format!("could not delete {}", definition.name_any()))?;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
