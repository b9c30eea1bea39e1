//! The reconcilers of the leader and the watches that feed them.

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::{VirtualMachineInstance, VirtualMachineInstanceReplicaSet};
use catamaran_baremetal::Bmcs;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::api::Api;
use kube::client::Client;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{reflector, watcher};
use kube::{Resource, ResourceExt as _};

use crate::args::Args;
use crate::error::chain;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::node_states::{self, NodeStates};
use crate::objects::{Guarded, Key, Objects};
use crate::settings::Settings;
use crate::watch::{Seen, follow};
use crate::work::{self, Trigger};
use crate::world::World;
use crate::{baremetal, kubevirt, nodes, replica_set, vm, vmi};

/// Labels of launcher and attachment pods.
const PODS: &str = "kubevirt.io in (virt-launcher,hotplug-disk)";
/// Label of what belongs to an installation of ours.
const COMPONENTS: &str = "app.kubernetes.io/part-of=catamaran";
/// Pause between tries to make the installation's object.
const RETRY: Duration = Duration::from_secs(5);

/// Reconciles until it is dropped. `image`: of the launcher pods.
pub async fn run(client: Client, args: &Args, image: &str, metrics: &Metrics, bmcs: Arc<Bmcs>) {
    let hosts = Box::pin(baremetal::run(client.clone(), args, metrics, bmcs));
    let (machines, machines_writer) = cache();
    let (instances, instances_writer) = cache();
    let (sets, sets_writer) = cache();
    let (store, pods_writer) = reflector::store();
    let pods = Objects::of_parts(store, vmi::pare_pod, vmi::instance_of);
    let (revisions, revisions_writer) = cache();
    let (installations, installations_writer) = cache();
    let (daemons, daemons_writer) = cache::<DaemonSet>();
    let (controllers, controllers_writer) = cache::<Deployment>();
    let world = Arc::new(World {
        events: Events::new(client.clone(), &args.name),
        machines,
        instances,
        sets,
        pods,
        nodes: NodeStates::default(),
        revisions,
        installations,
        daemons,
        controllers,
        defaults: Settings::new(image, &args.image_pull_policy),
        namespace: args.namespace.clone(),
        client: client.clone(),
    });
    metrics.leads(&world);
    let (wake_machine, machine_queue) = work::queue();
    let (wake_instance, instance_queue) = work::queue();
    let (wake_set, set_queue) = work::queue();
    let (wake_installation, installation_queue) = work::queue();
    let config = watcher::Config::default;

    let watch_machines = follow(
        Api::all(client.clone()),
        config(),
        machines_writer,
        &world.machines,
        |seen| match seen {
            Seen::One(object) => wake_machine.wake(&Key::of(object)),
            Seen::All => wake_all(&world.machines, &wake_machine),
        },
    );
    let watch_instances = follow(
        Api::all(client.clone()),
        config(),
        instances_writer,
        &world.instances,
        |seen| match seen {
            // A machine has the name of its instance.
            Seen::One(object) => {
                wake_instance.wake(&Key::of(object));
                wake_machine.wake(&Key::of(object));
                if let Some(set) = owner_of::<VirtualMachineInstanceReplicaSet, _>(object) {
                    wake_set.wake(&set);
                }
            }
            Seen::All => {
                wake_all(&world.instances, &wake_instance);
                wake_all(&world.machines, &wake_machine);
                wake_all(&world.sets, &wake_set);
            }
        },
    );
    let watch_sets = follow(
        Api::all(client.clone()),
        config(),
        sets_writer,
        &world.sets,
        |seen| match seen {
            Seen::One(object) => wake_set.wake(&Key::of(object)),
            Seen::All => wake_all(&world.sets, &wake_set),
        },
    );
    let watch_pods = follow(
        Api::all(client.clone()),
        config().labels(PODS),
        pods_writer,
        &world.pods,
        |seen| match seen {
            Seen::One(pod) => {
                if let Some(name) = pod.labels().get(vmi::ATTACHMENT_OF) {
                    wake_instance.wake(&Key::of(pod).named(name));
                    return;
                }
                let Some(key) = owner_of::<VirtualMachineInstance, _>(pod) else {
                    return;
                };
                wake_instance.wake(&key);
                if world.instances.get(&key).is_none() {
                    wake_machine.wake(&key);
                }
            }
            Seen::All => {
                wake_all(&world.instances, &wake_instance);
                wake_all(&world.machines, &wake_machine);
            }
        },
    );
    let watch_nodes = node_states::follow(client.clone(), &world.nodes, |name| {
        let on_it = world.instances.each(|instance| {
            let status = instance.status.as_ref();
            let node = status.and_then(|status| status.node_name.as_deref());
            (node == Some(name)).then(|| Key::of(instance))
        });
        for key in on_it {
            wake_instance.wake(&key);
        }
    });
    let watch_daemons = follow(
        Api::namespaced(client.clone(), &args.namespace),
        config().labels(COMPONENTS),
        daemons_writer,
        &world.daemons,
        |_| wake_all(&world.installations, &wake_installation),
    );
    let watch_controllers = follow(
        Api::namespaced(client.clone(), &args.namespace),
        config().labels(COMPONENTS),
        controllers_writer,
        &world.controllers,
        |_| wake_all(&world.installations, &wake_installation),
    );
    // Machines are looked at when they are made or changed; what is kept of them never changes.
    let watch_revisions = follow(
        Api::all(client.clone()),
        config().labels(catamaran_instancetypes::LABEL),
        revisions_writer,
        &world.revisions,
        |_| {},
    );
    let watch_installations = follow(
        Api::all(client.clone()),
        config(),
        installations_writer,
        &world.installations,
        |seen| match seen {
            Seen::One(object) => wake_installation.wake(&Key::of(object)),
            Seen::All => wake_all(&world.installations, &wake_installation),
        },
    );

    let settled = async |world: &World| {
        // Decisions need all caches, not only that of their own kind.
        let (machines, instances) = (world.machines.store(), world.instances.store());
        let (pods, installations) = (world.pods.store(), world.installations.store());
        let revisions = world.revisions.store();
        let _ = tokio::join!(
            machines.wait_until_ready(),
            instances.wait_until_ready(),
            pods.wait_until_ready(),
            revisions.wait_until_ready(),
            installations.wait_until_ready(),
            world.nodes.filled()
        );
    };
    let work = async {
        settled(&world).await;
        tracing::info!("caches are filled");
        tokio::join!(
            work::run(
                "machine",
                metrics.clone(),
                world.machines.store(),
                machine_queue,
                args.concurrency,
                |key| {
                    let world = world.clone();
                    async move { Box::pin(vm::reconcile(&world, &key)).await }
                }
            ),
            work::run(
                "instance",
                metrics.clone(),
                world.instances.store(),
                instance_queue,
                args.concurrency,
                |key| {
                    let world = world.clone();
                    async move { Box::pin(vmi::reconcile(&world, &key)).await }
                }
            ),
            work::run(
                "set",
                metrics.clone(),
                world.sets.store(),
                set_queue,
                args.concurrency,
                |key| {
                    let world = world.clone();
                    async move { Box::pin(replica_set::reconcile(&world, &key)).await }
                }
            ),
            reconcile_installation(&world, metrics, installation_queue),
            ensure_installation(&world),
            nodes::run(client, metrics),
        );
    };
    tokio::join!(
        watch_machines,
        watch_instances,
        watch_sets,
        watch_pods,
        watch_nodes,
        watch_daemons,
        watch_controllers,
        watch_revisions,
        watch_installations,
        work,
        hosts
    );
}

async fn reconcile_installation(
    world: &Arc<World>,
    metrics: &Metrics,
    queue: work::Queue<catamaran_api::KubeVirt>,
) {
    // Machines do not wait for these.
    let (daemons, controllers) = (world.daemons.store(), world.controllers.store());
    let _ = tokio::join!(daemons.wait_until_ready(), controllers.wait_until_ready());
    work::run(
        "installation",
        metrics.clone(),
        world.installations.store(),
        queue,
        1,
        |key| {
            let world = world.clone();
            async move { Box::pin(kubevirt::reconcile(&world, &key)).await }
        },
    )
    .await;
}

fn cache<K>() -> (Objects<K>, Writer<Guarded<K>>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, writer) = reflector::store();
    (Objects::new(store), writer)
}

fn wake_all<K>(objects: &Objects<K>, trigger: &Trigger<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for object in objects.store().state() {
        trigger.wake(&Key::of(object.as_ref()));
    }
}

/// The object of that kind which controls another one.
fn owner_of<O: Resource<DynamicType = ()>, K: Resource>(object: &K) -> Option<Key> {
    let kind = O::kind(&());
    let mut owners = object.meta().owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == kind)?;
    Some(Key::of(object).named(&owner.name))
}

async fn ensure_installation(world: &World) {
    while let Err(error) = kubevirt::ensure(world).await {
        tracing::warn!(
            error = chain(&error),
            "the installation's object is not there"
        );
        tokio::time::sleep(RETRY).await;
    }
}
