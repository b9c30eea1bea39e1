//! The `KubeVirt` object: the installation as clients of the peer see it.

pub mod components;
mod status;

use catamaran_api::{KubeVirt, KubeVirtSpec};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::client::Client;
use kube::runtime::controller::Action as Next;
use serde_json::json;

use crate::error::{Error, chain};
use crate::objects::Key;
use crate::patch::{self, INSTALLATION_MANAGER, Part};
use crate::world::World;
use components::{Component, Rollout};

/// Name of the DaemonSet of the node daemons.
pub const DAEMONS: &str = "catamaran-node";
/// Name of the Deployment of the controller.
pub const CONTROLLERS: &str = "catamaran-controller";
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
    let now = Timestamp::now().as_second();
    let new = status::next(&object, &world.defaults.image, &rollout(world), now);
    if let Some(change) = patch::difference(&old, &new) {
        let api: Api<KubeVirt> = Api::namespaced(world.client.clone(), &key.namespace);
        let change = json!({ "status": change });
        let new = patch::merge(&api, &object, change, Part::Status, INSTALLATION_MANAGER).await?;
        world.installations.put(new);
    }
    Ok(Next::await_change())
}

/// How far the parts of this installation are.
fn rollout(world: &World) -> Rollout {
    let at = |name: &str| Key {
        namespace: world.namespace.clone(),
        name: name.to_owned(),
    };
    let (daemons, controllers) = (
        world.daemons.get(&at(DAEMONS)),
        world.controllers.get(&at(CONTROLLERS)),
    );
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    match &controllers {
        Some(deployment) => found.push(Component::from(deployment)),
        None => absent.push("Deployment catamaran-controller"),
    }
    match &daemons {
        Some(set) => found.push(Component::from(set)),
        None => absent.push("DaemonSet catamaran-node"),
    }
    components::rollout(&found, &absent)
}

/// Says in this installation's objects that another one is in the way. Best effort: the definition itself may be somebody else's.
pub async fn refuse(client: &Client, namespace: &str, why: &str) {
    let api: Api<KubeVirt> = Api::namespaced(client.clone(), namespace);
    let listed = match api.list(&ListParams::default()).await {
        Ok(listed) => listed,
        Err(error) => {
            return tracing::warn!(
                error = chain(&error),
                "no installation's object can be read"
            );
        }
    };
    for object in listed {
        let old = object.status.clone().unwrap_or_default();
        let new = status::refused(&object, why, Timestamp::now().as_second());
        let Some(change) = patch::difference(&old, &new) else {
            continue;
        };
        let change = json!({ "status": change });
        let written = patch::merge(&api, &object, change, Part::Status, INSTALLATION_MANAGER).await;
        if let Err(error) = written {
            let name = object.name_any();
            tracing::warn!(name, error = chain(&error), "the refusal is not written");
        }
    }
}
