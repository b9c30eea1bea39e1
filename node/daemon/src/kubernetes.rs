//! `catamaran node`: the daemon of one Kubernetes node.
//!
//! ```text
//!   API server ──watch──> supervise ──> machine (one task per instance) ──wire──> launcher in its pod
//!        ^                                   │                                        ^
//!        └───────── status, events ──────────┘        api (mTLS) ── verbs, streams ───┘
//!   kubelet <── device plugin        node object <── heartbeat        metrics
//! ```
//!
//! Nothing here holds a guest: it runs in its pod, and a daemon that restarts finds everything again. Requests to the API server are made with
//! the daemon's own account, which may write this node's instances only.

pub mod api;
pub mod certificate;
pub mod claims;
pub mod decide;
pub mod device_plugin;
pub mod devices;
pub mod events;
pub mod frozen;
pub mod hotplug;
pub mod inside;
pub mod instance;
pub mod look;
pub mod machine;
pub mod mounts;
pub mod network;
pub mod node;
mod once;
pub mod session;
pub mod start;
pub mod status;
pub mod supervise;
pub mod vanished;
pub mod world;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use catamaran_plan::{Accelerator, pod};
use kube::api::PatchParams;
use rustix::fs::{FlockOperation, flock};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::Node;
use crate::kubernetes::frozen::Frozen;
use crate::kubernetes::world::{Registry, Shown, World};
use crate::machine::capabilities::Cache;
use crate::serve::daemon::Streams;
use crate::serve::host;
use crate::serve::layout::Layout;
use crate::usage::{self, History};
use crate::viewers::Viewers;

/// Field manager of the daemon's writes.
const FIELD_MANAGER: &str = "catamaran-node";

/// How the daemon patches objects: under its own name.
fn as_daemon() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// Runs until it is told to end; guests go on.
///
/// # Errors
/// When a part can't be started.
pub async fn run(state: &Path, args: &Node) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("catamaran node must be run by root: it enters the network namespaces of pods");
    }
    let layout = Layout::new(state.to_owned());
    for folder in [
        layout.root().to_owned(),
        layout.host(),
        layout.root().join("instances"),
    ] {
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let _lock = lock(&layout)?;
    let world = Arc::new(world(layout, args).await?);
    capabilities(&world).await?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("address {} (--listen names another)", args.listen))?;
    let mut tasks = JoinSet::new();
    let (publish, certificates) = watch::channel(None);
    tasks.spawn(certificate::run(world.clone(), publish));
    tasks.spawn(api::serve(world.clone(), listener, certificates));
    tasks.spawn(api::serve_metrics(world.clone(), args.metrics));
    let looked_at = world.clone();
    tasks.spawn(usage::watch(world.usage.clone(), move || {
        let launchers = looked_at.machines.launchers().into_iter();
        launchers
            .map(|(instance, launcher)| (instance.uid.to_string(), launcher))
            .collect()
    }));
    tasks.spawn(supervise::run(world.clone()));
    for device in device_plugin::devices(&world) {
        tasks.spawn(device_plugin::run(world.clone(), device));
    }
    tasks.spawn(node::run(world.clone()));
    tracing::info!(node = world.node, "ready");
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = tasks.join_next() => bail!("a part of the daemon has ended: {ended:?}"),
    }
    tracing::info!("the daemon ends; guests go on");
    tasks.shutdown().await;
    Ok(())
}

async fn world(layout: Layout, args: &Node) -> Result<World> {
    let client = kube::Client::try_default()
        .await
        .context("the API server's address and our token")?;
    let host = tokio::task::block_in_place(|| host::find(false))?;
    let emulated = match host.facts.accelerator {
        Accelerator::Kvm => tokio::task::block_in_place(|| host::find(true))?.facts,
        Accelerator::Tcg => host.facts.clone(),
    };
    tracing::info!(kvm = %host.kvm, "this node");
    Ok(World {
        client: Shown(client),
        node: args.node.clone(),
        namespace: args.namespace.clone(),
        layout,
        kubelet: args.kubelet.clone(),
        libexec: pod::LIBEXEC.into(),
        host,
        emulated,
        machines: Registry::default(),
        frozen: Frozen::default(),
        streams: Streams::default(),
        once: once::Once::default(),
        viewers: Viewers::default(),
        usage: History::default(),
    })
}

/// Finds QEMU's abilities once, with the programs that pods have.
async fn capabilities(world: &World) -> Result<()> {
    let code = world.layout.host().join("code");
    fs::create_dir_all(&code).with_context(|| code.display().to_string())?;
    let current = code.join("current");
    crate::machine::record::ignore_missing(fs::remove_file(&current))
        .and_then(|()| std::os::unix::fs::symlink(&world.libexec, &current))
        .with_context(|| current.display().to_string())?;
    let cache = Cache {
        cache: world.capabilities(),
        work: world.layout.host().join("probe"),
        code,
        init: world.libexec.join("catamaran-init"),
        facts: &world.host.facts,
    };
    cache.ensure().await;
    Ok(())
}

/// One daemon on a state folder; a second one waits for the first to end, as it does in an update.
fn lock(layout: &Layout) -> Result<File> {
    let path = layout.lock();
    let file = layout
        .open_lock()
        .with_context(|| path.display().to_string())?;
    tokio::task::block_in_place(|| flock(&file, FlockOperation::LockExclusive))
        .with_context(|| path.display().to_string())?;
    Ok(file)
}
