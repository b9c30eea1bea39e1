//! `BareMetalHost`: the cluster's side of `catamaran-baremetal`, which decides and talks to the BMCs.

mod cluster;
mod companions;
mod deploying;
mod fencing;
mod ledger;

use std::sync::Arc;
use std::time::Duration;

use catamaran_api::metal3::{BareMetalHost, DataImage, HostFirmwareSettings, PreprovisioningImage};
use catamaran_baremetal::{
    Again, Agents, BesideCache, Bmcs, DataCache, FirmwareCache, HostName, Patience, Shell,
    Store as _, StoreError,
};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::client::Client;
use kube::runtime::controller::Action as Next;
use kube::runtime::{reflector, watcher};

use crate::args::Args;
use crate::baremetal::cluster::Cluster;
use crate::baremetal::companions::Companions;
use crate::baremetal::deploying::Deploying;
use crate::error::{Error, chain};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::objects::{Key, Objects};
use crate::watch::{Seen, follow};
use crate::work;

/// Pause between looks for the definition of hosts, where it is not installed.
const ABSENT: Duration = Duration::from_secs(60);
/// Until a `DataImage` is looked at again whose host was there.
const ORPHAN: Duration = Duration::from_secs(60);

/// Reconciles hosts until it is dropped; begins when their definition is installed.
pub async fn run(client: Client, args: &Args, metrics: &Metrics, bmcs: Arc<Bmcs>) {
    wait_for_definition(&client).await;
    let (store, writer) = reflector::store();
    let hosts = Arc::new(Objects::new(store));
    let firmware = Companions::<HostFirmwareSettings>::new();
    let data = Companions::<DataImage>::new();
    let images = Companions::<PreprovisioningImage>::new();
    let cluster = Cluster {
        client: client.clone(),
        hosts: hosts.clone(),
        firmware: firmware.objects(),
        data: data.objects(),
        images: images.objects(),
        events: Events::by(client.clone(), "metal3-baremetal-controller", &args.name),
        firmware_events: Events::by(
            client.clone(),
            "metal3-hostfirmwaresettings-controller",
            &args.name,
        ),
    };
    let deploying = Deploying::prepare(&client, args).await;
    let agents = match &deploying {
        Ok(deploying) => Agents::new(
            deploying.server.clone(),
            cluster.clone(),
            Patience::default(),
        ),
        Err(why) => {
            tracing::info!(why, "there is no deploy server");
            Agents::absent(why, cluster.clone())
        }
    };
    let shell = Arc::new(Shell {
        store: cluster,
        bmcs,
        deploy: agents,
        metrics: metrics.hosts().clone(),
        firmware: FirmwareCache::default(),
        data: DataCache::default(),
        beside: BesideCache::default(),
    });
    let (wake, queue) = work::queue::<BareMetalHost>();
    let watch = follow(
        Api::all(client.clone()),
        watcher::Config::default(),
        writer,
        &hosts,
        |seen| match seen {
            Seen::One(host) => wake.wake(&Key::of(host)),
            Seen::All => {
                for host in hosts.store().state() {
                    wake.wake(&Key::of(host.as_ref()));
                }
            }
        },
    );
    let work = work::run(
        "host",
        metrics.clone(),
        hosts.store(),
        queue,
        args.host_concurrency,
        |key| {
            let shell = shell.clone();
            async move { Box::pin(reconcile(&shell, key)).await }
        },
    );
    let firmware = firmware.watch(&client, |key| wake.wake(key));
    let (wake_data, data_queue) = work::queue::<DataImage>();
    // Its host looks after it, and this after one without a host.
    let orphans = work::run(
        "data-image",
        metrics.clone(),
        data.objects().store(),
        data_queue,
        args.host_concurrency,
        |key| {
            let shell = shell.clone();
            async move { orphan(&shell, key).await }
        },
    );
    let data = data.watch(&client, |key| {
        wake.wake(key);
        wake_data.wake(key);
    });
    let images = images.watch(&client, |key| wake.wake(key));
    let deploying = async {
        if let Ok(deploying) = &deploying {
            let of = |uid: &str| {
                let all = hosts.store().state();
                let found = all.iter().find(|host| host.uid().as_deref() == Some(uid));
                found.map(|host| Key::of(host.as_ref()))
            };
            deploying
                .run(|uid| of(uid).iter().for_each(|key| wake.wake(key)))
                .await;
        }
    };
    let fencing = async {
        if args.fence_lost_nodes {
            fencing::run(&client, &shell).await;
        }
    };
    tokio::join!(
        watch, firmware, data, images, orphans, work, deploying, fencing
    );
}

async fn wait_for_definition(client: &Client) {
    let hosts: Api<BareMetalHost> = Api::all(client.clone());
    while let Err(error) = hosts.list(&ListParams::default().limit(1)).await {
        tracing::warn!(error = chain(&error), again_in = ?ABSENT, "BareMetalHosts can't be listed; is their definition installed?");
        tokio::time::sleep(ABSENT).await;
    }
}

/// A `DataImage` whose host is gone goes.
async fn orphan(shell: &Shell<Cluster, Agents<Cluster>>, key: Key) -> Result<Next, Error> {
    let name = HostName {
        namespace: key.namespace,
        name: key.name,
    };
    // Its host may not be listed yet.
    let listed = shell.store.hosts.store().wait_until_ready().await.is_ok();
    if listed && shell.store.host(&name).is_none() {
        shell.let_data_go(&name).await.map_err(of_store)?;
        return Ok(Next::await_change());
    }
    // The end of its host does not wake us.
    Ok(Next::requeue(ORPHAN))
}

async fn reconcile(shell: &Shell<Cluster, Agents<Cluster>>, key: Key) -> Result<Next, Error> {
    let name = HostName {
        namespace: key.namespace,
        name: key.name,
    };
    match Box::pin(shell.reconcile(&name)).await {
        Ok(Again::Changed) => Ok(Next::await_change()),
        Ok(Again::After(seconds)) => Ok(Next::requeue(Duration::from_secs(
            u64::try_from(seconds).unwrap_or(0),
        ))),
        Err(error) => Err(of_store(error)),
    }
}

fn of_store(StoreError(source): StoreError) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::Missing {
            what: other.to_string(),
        },
    }
}
