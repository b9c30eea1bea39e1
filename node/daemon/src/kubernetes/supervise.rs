//! The watch of this node's instances, and a task for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::kubernetes::instance::Instance;
use crate::kubernetes::machine::{self, Object};
use crate::kubernetes::world::World;
use crate::serve::store::Key;

/// Label of instances that were handed over, with the node's name.
const NODE_LABEL: &str = "kubevirt.io/nodeName";

/// Runs for ever.
pub async fn run(world: Arc<World>) {
    let config = watcher::Config::default().labels(&format!("{NODE_LABEL}={}", world.node));
    let mut events = Box::pin(watcher(world.instances(), config).default_backoff());
    let mut crowd = Crowd {
        world,
        objects: BTreeMap::new(),
        tasks: JoinSet::new(),
        listed: None,
    };
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => crowd.take(event),
                Some(Err(error)) => tracing::warn!(error = %error, "instances are not seen; guests go on"),
                None => return,
            },
            Some(ended) = crowd.tasks.join_next(), if !crowd.tasks.is_empty() => match ended {
                Ok(key) => crowd.ended(&key),
                Err(error) => tracing::error!(error = %error, "the task of an instance failed; the guest goes on"),
            },
        }
    }
}

struct Crowd {
    world: Arc<World>,
    objects: BTreeMap<Key, watch::Sender<Object>>,
    tasks: JoinSet<Key>,
    /// Names seen since a list began.
    listed: Option<BTreeSet<Key>>,
}

impl Crowd {
    fn take(&mut self, event: watcher::Event<kube::api::DynamicObject>) {
        match event {
            watcher::Event::Init => self.listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                match Instance::read(object, &self.world.node) {
                    Ok(instance) => self.set(Arc::new(instance)),
                    Err(error) => tracing::error!(error = %error, "an instance is left alone"),
                }
            }
            watcher::Event::Delete(object) => {
                if let Ok(instance) = Instance::read(object, &self.world.node) {
                    self.gone(&instance.key);
                }
            }
            watcher::Event::InitDone => self.listed_all(),
        }
    }

    fn set(&mut self, instance: Arc<Instance>) {
        let key = instance.key.clone();
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        if let Some(sender) = self.objects.get(&key) {
            sender.send_replace(Some(instance));
        } else {
            self.spawn(key, instance);
        }
    }

    fn spawn(&mut self, key: Key, instance: Arc<Instance>) {
        let (sender, receiver) = watch::channel(Some(instance));
        self.tasks
            .spawn(machine::run(self.world.clone(), key.clone(), receiver));
        self.objects.insert(key, sender);
    }

    fn gone(&mut self, key: &Key) {
        if let Some(sender) = self.objects.get(key) {
            sender.send_replace(None);
        }
    }

    /// A task has ended: its object was gone then. One that came meanwhile gets another.
    fn ended(&mut self, key: &Key) {
        let newest = self
            .objects
            .remove(key)
            .map(|sender| sender.borrow().clone());
        if let Some(Some(instance)) = newest {
            self.spawn(key.clone(), instance);
        } else {
            self.clear();
        }
    }

    fn listed_all(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<Key> = self
            .objects
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.gone(&key);
        }
        self.clear();
    }

    fn clear(&self) {
        if self.listed.is_some() {
            return;
        }
        let there: Vec<uuid::Uuid> = self
            .objects
            .values()
            .filter_map(|sender| sender.borrow().as_ref().map(|instance| instance.uid))
            .collect();
        machine::clear(&self.world, &there);
    }
}
