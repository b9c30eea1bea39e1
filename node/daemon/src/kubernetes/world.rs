//! What all parts of the node daemon share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use catamaran_api::VirtualMachineInstance;
use catamaran_plan::{HostFacts, pod};
use catamaran_wire::Verb;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::kubernetes::frozen::Frozen;
use crate::kubernetes::instance::Instance;
use crate::kubernetes::once::Once;
use crate::machine::launcher::{Launcher, LauncherError};
use crate::serve::api::answer::Refusal;
use crate::serve::daemon::Streams;
use crate::serve::host::Host;
use crate::serve::layout::Layout;
use crate::serve::store::Key;
use crate::usage::History;
use crate::viewers::Viewers;

/// What all parts share.
#[derive(Debug)]
pub struct World {
    /// Client with the daemon's own rights.
    pub client: Shown<Client>,
    /// This node's name.
    pub node: String,
    /// Namespace of the installation.
    pub namespace: String,
    /// The daemon's folders.
    pub layout: Layout,
    /// Root folder of the kubelet.
    pub kubelet: String,
    /// Programs of the launcher pods, as this container has them.
    pub libexec: PathBuf,
    /// This machine as it is best.
    pub host: Host,
    /// The same without KVM.
    pub emulated: HostFacts,
    /// Instances of this node.
    pub machines: Registry,
    /// Guests whose file systems are frozen.
    pub frozen: Frozen,
    /// Tasks that nobody waits for.
    pub streams: Streams,
    /// Streams that are served once.
    pub once: Once,
    /// Who looks at machines.
    pub viewers: Viewers,
    /// What machines used.
    pub usage: History,
}

/// Something without a `Debug` of its own.
#[derive(Clone)]
pub struct Shown<T>(pub T);

impl<T> std::fmt::Debug for Shown<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<T>())
    }
}

impl World {
    /// Instances of every namespace.
    #[must_use]
    pub fn instances(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.0.clone(), &resource())
    }

    /// Instances of one namespace.
    #[must_use]
    pub fn instances_in(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.0.clone(), namespace, &resource())
    }

    /// Run folder of a pod.
    #[must_use]
    pub fn run_folder(&self, pod_uid: &str) -> PathBuf {
        pod::run_folder(&self.kubelet, pod_uid).into()
    }

    /// Where the kubelet has its pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        PathBuf::from(&self.kubelet).join("pods")
    }

    /// What the daemon keeps of an instance.
    #[must_use]
    pub fn folder(&self, uid: uuid::Uuid) -> PathBuf {
        self.folders().join(uid.to_string())
    }

    /// The folder with those folders.
    #[must_use]
    pub fn folders(&self) -> PathBuf {
        self.layout.root().join("instances")
    }

    /// QEMU's abilities, found once for all pods.
    #[must_use]
    pub fn capabilities(&self) -> PathBuf {
        self.layout.host().join("capabilities")
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<VirtualMachineInstance>(&())
}

/// Instances of this node and their launchers, for the API, metrics and events.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<Key, Entry>>);

/// An instance of this node.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The object.
    pub instance: Arc<Instance>,
    /// Its launcher while it is connected.
    pub launcher: Option<Launcher>,
    /// Its run folder, once it has a pod.
    pub run: Option<PathBuf>,
}

impl Registry {
    /// Remembers an instance, or forgets it.
    pub fn set(&self, key: &Key, entry: Option<Entry>) {
        let mut entries = self.lock();
        match entry {
            Some(entry) => entries.insert(key.clone(), entry),
            None => entries.remove(key),
        };
    }

    /// One instance.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.lock().get(key).cloned()
    }

    /// An instance that must be here.
    ///
    /// # Errors
    /// It is not.
    pub fn entry(&self, key: &Key) -> Result<Entry, Refusal> {
        self.get(key).ok_or_else(|| not_here(key))
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<(Key, Entry)> {
        self.lock()
            .iter()
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect()
    }

    /// The launchers that are connected, by their instances.
    #[must_use]
    pub fn launchers(&self) -> Vec<(Arc<Instance>, Launcher)> {
        let all = self.all().into_iter();
        all.filter_map(|(_, entry)| {
            let launcher = entry.launcher.filter(Launcher::connected)?;
            Some((entry.instance, launcher))
        })
        .collect()
    }

    /// Asks the launcher of an instance that runs here.
    ///
    /// # Errors
    /// It is not here, does not run, or its launcher refuses.
    pub async fn ask(&self, key: &Key, verb: Verb) -> Result<Value, Refusal> {
        let launcher = self
            .entry(key)?
            .launcher
            .filter(Launcher::connected)
            .ok_or_else(|| Refusal::conflict("VMI is not running"))?;
        launcher.ask(verb).await.map_err(|error| match error {
            LauncherError::Refused(refused) => Refusal::conflict(refused.message),
            other => Refusal::failed(catamaran_client::chain(&other)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A guest agent command.
#[must_use]
pub fn agent(command: &str, timeout_seconds: u32) -> Verb {
    Verb::Agent {
        command: json!({"execute": command}),
        timeout_seconds,
    }
}

/// The refusal for an instance of another node.
#[must_use]
pub fn not_here(key: &Key) -> Refusal {
    Refusal::not_found(format!(
        "virtualmachineinstances.kubevirt.io {:?} not found on this node",
        key.name
    ))
}
