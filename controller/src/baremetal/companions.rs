//! The objects beside hosts, which have the host's name: a change of one wakes the host.

use std::sync::Arc;

use catamaran_baremetal::Companion;
use kube::api::Api;
use kube::client::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{reflector, watcher};

use crate::objects::{Guarded, Key, Objects};
use crate::watch::{Seen, follow};

/// All objects of one kind, not watched yet.
pub(super) struct Companions<K: Companion> {
    objects: Arc<Objects<K>>,
    writer: Writer<Guarded<K>>,
}

impl<K: Companion> Companions<K> {
    pub(super) fn new() -> Self {
        let (store, writer) = reflector::store();
        Self {
            objects: Arc::new(Objects::new(store)),
            writer,
        }
    }

    pub(super) fn objects(&self) -> Arc<Objects<K>> {
        self.objects.clone()
    }

    /// Follows them for ever.
    pub(super) async fn watch(self, client: &Client, wake: impl Fn(&Key)) {
        let objects = self.objects;
        follow(
            Api::all(client.clone()),
            watcher::Config::default(),
            self.writer,
            &objects,
            |seen| match seen {
                Seen::One(object) => wake(&Key::of(object)),
                Seen::All => {
                    for object in objects.store().state() {
                        wake(&Key::of(object.as_ref()));
                    }
                }
            },
        )
        .await;
    }
}
