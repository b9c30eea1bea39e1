//! What every reconciler works with: the client, the caches, the events, the settings.

use catamaran_api::{
    KubeVirt, KubeVirtSpec, VirtualMachine, VirtualMachineInstance,
    VirtualMachineInstanceReplicaSet,
};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::client::Client;

use crate::events::Events;
use crate::node_states::NodeStates;
use crate::objects::{Key, Objects};
use crate::settings::Settings;

/// Shared by all reconcilers.
pub struct World {
    /// To the API server.
    pub client: Client,
    /// Machines.
    pub machines: Objects<VirtualMachine>,
    /// Their instances.
    pub instances: Objects<VirtualMachineInstance>,
    /// Sets of instances.
    pub sets: Objects<VirtualMachineInstanceReplicaSet>,
    /// Launcher pods.
    pub pods: Objects<Pod>,
    /// Whether nodes answer.
    pub nodes: NodeStates,
    /// Instancetypes and preferences as machines were made with them.
    pub revisions: Objects<ControllerRevision>,
    /// Installations; one counts.
    pub installations: Objects<KubeVirt>,
    /// The node daemons of this installation.
    pub daemons: Objects<DaemonSet>,
    /// The controller's own Deployment.
    pub controllers: Objects<Deployment>,
    /// Events.
    pub events: Events,
    /// What the command line says.
    pub defaults: Settings,
    /// Namespace of the controller.
    pub namespace: String,
}

impl World {
    /// The settings in effect: those of the command line, changed by the installation's object.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let installation = self
            .installations
            .all()
            .into_iter()
            .min_by_key(|installation| {
                let created = installation.metadata.creation_timestamp.as_ref();
                // One that says something counts before the one that is made when there is none.
                (
                    installation.spec == KubeVirtSpec::default(),
                    created.map(|time| time.0),
                    installation.metadata.name.clone(),
                )
            });
        self.defaults.with(installation.as_ref())
    }
}

impl catamaran_instancetypes::Kept for World {
    fn revision(&self, namespace: &str, name: &str) -> Option<ControllerRevision> {
        self.revisions.get(&Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}
