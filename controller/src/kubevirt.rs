//! The `KubeVirt` object: the installation as clients of the peer see it.

mod status;

use catamaran_api::{KubeVirt, KubeVirtSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::runtime::controller::Action as Next;
use serde_json::json;

use crate::error::Error;
use crate::objects::Key;
use crate::patch::{self, INSTALLATION_MANAGER, Part};
use crate::world::World;

/// Name of the object that is made when there is none.
const NAME: &str = "kubevirt";

/// Makes the object if there is none in the cluster, so that clients find one.
///
/// # Errors
/// What the API server says.
pub async fn ensure(world: &World) -> Result<(), Error> {
    let all: Api<KubeVirt> = Api::all(world.client.clone());
    let found = all.list(&ListParams::default().limit(1)).await;
    let found = found.map_err(Error::api("list the installations"))?;
    if !found.items.is_empty() {
        return Ok(());
    }
    let api: Api<KubeVirt> = Api::namespaced(world.client.clone(), &world.namespace);
    let object = KubeVirt {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        spec: KubeVirtSpec::default(),
        status: None,
    };
    let params = PostParams {
        field_manager: Some(INSTALLATION_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let made = api.create(&params, &object).await;
    match made.map_err(Error::api("create the installation's object")) {
        Ok(_) => Ok(()),
        Err(error) if error.already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says what is installed, and that the configuration is in effect.
///
/// # Errors
/// What the API server says. The object is looked at again later.
pub async fn reconcile(world: &World, key: &Key) -> Result<Next, Error> {
    let Some(object) = world.installations.get(key) else {
        return Ok(Next::await_change());
    };
    let old = object.status.clone().unwrap_or_default();
    let new = status::next(&object, &world.defaults.image, Timestamp::now().as_second());
    if let Some(change) = patch::difference(&old, &new) {
        let api: Api<KubeVirt> = Api::namespaced(world.client.clone(), &key.namespace);
        let change = json!({ "status": change });
        let new = patch::merge(&api, &object, change, Part::Status, INSTALLATION_MANAGER).await?;
        world.installations.put(new);
    }
    Ok(Next::await_change())
}
