//! `catamaran play`: puts the daemon together and runs it.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use catamaran_images::{ImageStore, Limits, RegistryConfig, StoreConfig, WorkerConfig};
use catamaran_network::dns::DnsServer;
use catamaran_network::{HostNetwork, NetworkConfig};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Play;
use crate::client::manifests;
use crate::machine;
use crate::serve::daemon::{Daemon, Parts, Settings, Shutdown};
use crate::serve::layout::Layout;
use crate::serve::pods::{self, ContainerSettings};
use crate::serve::store::Store;
use crate::serve::watch::{Target, Watch};
use crate::serve::{api, code, collect, console, host, manifest, metrics, names, watch};
use crate::usage;

/// Runs until it is told to end. SIGINT and SIGTERM end the daemon only: guests and containers go on.
///
/// # Errors
/// When a part can't be started; nothing was changed on the machine then, or it is put back by the next start.
pub async fn run(state: &Path, args: &Play) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "catamaran play must be run by root: it makes network namespaces, mounts and control groups"
        );
    }
    // Made for passing through, as the folders below it; one that is there keeps its mode.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .with_context(|| state.display().to_string())?;
    let layout = Layout::new(
        state
            .canonicalize()
            .with_context(|| state.display().to_string())?,
    );
    layout
        .create()
        .with_context(|| layout.root().display().to_string())?;
    let _lock = lock(&layout)?;
    // Mistakes in the files of the command line are told before anything is started. One bad file in a folder holds up neither the others nor the daemon.
    let strict: Vec<PathBuf> = args
        .files
        .iter()
        .filter(|file| !file.is_dir())
        .cloned()
        .collect();
    let mut documents = documents(&strict)?;
    documents.retain(|document| document.path.is_none());
    // An address in use is told before a container runtime is started, which would stay.
    let counters = metrics::bind(args.metrics).await?;
    let page = match args.console {
        Some(address) => Some(console::bind(address).await?),
        None => None,
    };
    let daemon = Arc::new(build(&layout, args).await?);
    let listener =
        api::bind(&layout.socket()).with_context(|| layout.socket().display().to_string())?;
    apply(&daemon, &documents);
    let mut watch = Watch::new(
        args.files
            .iter()
            .filter(|file| *file != Path::new("-"))
            .cloned()
            .collect(),
    );
    watch.look(&*daemon);
    serve(daemon, listener, counters, page, watch).await
}

/// Objects of files and of standard input.
fn documents(files: &[PathBuf]) -> Result<Vec<manifest::Document>> {
    let texts = manifests::read(files)?;
    let inputs: Vec<_> = texts
        .into_iter()
        .map(|text| (text.name, text.path, text.text))
        .collect();
    manifest::parse(&inputs).map_err(|problems| {
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("{}", text.join("\n"))
    })
}

fn apply(daemon: &Daemon, documents: &[manifest::Document]) {
    for warning in documents.iter().flat_map(|document| &document.warnings) {
        eprintln!("Warning: {warning}");
    }
    if let Err(error) = Target::apply(daemon, documents) {
        tracing::error!(error = catamaran_client::chain(&error), "not applied");
    }
}

async fn serve(
    daemon: Arc<Daemon>,
    listener: tokio::net::UnixListener,
    counters: tokio::net::TcpListener,
    page: Option<tokio::net::TcpListener>,
    watch: Watch,
) -> Result<()> {
    let cancel = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(api::serve(daemon.clone(), listener, cancel.clone()));
    tasks.spawn(metrics::serve(daemon.clone(), counters));
    let looked_at = daemon.clone();
    tasks.spawn(usage::watch(daemon.usage.clone(), move || {
        let launchers = looked_at.machines.all().into_iter();
        launchers
            .map(|(machine, launcher)| (machine.to_string(), launcher))
            .collect()
    }));
    if let Some(page) = page {
        tasks.spawn(console::serve(daemon.clone(), page));
    }
    tasks.spawn(watch::supervise(daemon.clone(), watch));
    tasks.spawn(collect::supervise(daemon.clone()));
    let store = daemon.store.clone();
    tasks.spawn(async move { store.write_when_possible().await });
    let mut naming = JoinSet::new();
    let names_end = cancel.child_token();
    naming.spawn(names::supervise(daemon.clone(), names_end.clone()));
    let (mut machines, mut containers) = (JoinSet::new(), JoinSet::new());
    machines.spawn(machine::supervise(daemon.clone()));
    containers.spawn(pods::supervise(daemon.clone()));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(state = %daemon.layout.root().display(), "ready");
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut watchdog = tokio::time::interval(
        sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |period| period / 2),
    );
    let down = loop {
        tokio::select! {
            _ = interrupt.recv() => break None,
            _ = terminate.recv() => break None,
            _ = watchdog.tick() => { let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]); }
            _ = machines.join_next(), if !machines.is_empty() => {}
            _ = containers.join_next(), if !containers.is_empty() => {}
        }
        let how = *daemon.stopping().borrow();
        if how.is_some() && machines.is_empty() && containers.is_empty() {
            break how;
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if let Some(how) = down {
        // Else the server that is ended could be started anew behind our back.
        names_end.cancel();
        while naming.join_next().await.is_some() {}
        clear(&daemon, how).await?;
    } else {
        eprintln!(
            "The daemon ends; guests and containers go on. `catamaran play` takes them up again, `catamaran down` (while it runs) stops them."
        );
    }
    daemon.end_shutdown_words();
    // Whoever asked for the shutdown gets the end of the answer, while there is a server.
    tokio::time::sleep(Duration::from_millis(50)).await;
    cancel.cancel();
    naming.shutdown().await;
    tasks.shutdown().await;
    Ok(())
}

/// After everything was stopped: the network goes too.
async fn clear(daemon: &Daemon, how: Shutdown) -> Result<()> {
    DnsServer::stop(daemon.network.config())
        .await
        .context("DNS server")?;
    HostNetwork::remove(daemon.network.config())
        .await
        .context("network")?;
    machine::cgroup::Cgroup::forget(&daemon.identity)?;
    if how.delete {
        for kind in crate::serve::store::Kind::ALL {
            for (key, _) in daemon.store.list(kind) {
                daemon.store.remove(&key)?;
            }
        }
    }
    if how.volumes {
        machine::record::ignore_missing(fs::remove_dir_all(daemon.layout.root().join("volumes")))?;
    }
    daemon.tell_shutdown("everything is down".to_owned());
    Ok(())
}

async fn build(layout: &Layout, args: &Play) -> Result<Daemon> {
    let identity =
        hex::encode(Sha256::digest(layout.root().as_os_str().as_encoded_bytes()))[..12].to_owned();
    machine::cgroup::Cgroup::of(&identity, "any")?;
    let host = host::find(args.emulation)?;
    tracing::info!(kvm = %host.kvm, "this machine");
    let settings = Settings {
        libexec: libexec(args)?,
        lease: args
            .lease
            .map(|seconds| Duration::from_secs(seconds.into())),
        require_kvm: args.require_kvm,
        overlay_limit: args.overlay_limit.as_deref().map(bytes).transpose()?,
        bars: true,
    };
    let code = code::install(layout, &settings.libexec).context("programs of the machines")?;
    code::collect(layout);
    let config = network_config(layout, args)?;
    let network = HostNetwork::ensure(&config)
        .await
        .map_err(|error| anyhow::anyhow!(catamaran_client::chain(&error)))
        .context("network")?;
    let store = Arc::new(Store::open(&layout.objects())?);
    let containers = ContainerSettings {
        socket: args.runtime.clone(),
        layouts: args.images.clone(),
    };
    let pods = pods::connect(layout, &containers, &network, store.clone()).await;
    if let Err(reason) = &pods {
        tracing::warn!(reason, "pods can't run");
    }
    let images = ImageStore::open(&layout.images(), image_config(args)).context("image cache")?;
    let daemon = Daemon::new(Parts {
        layout: layout.clone(),
        settings,
        store,
        host,
        images,
        network,
        pods,
        code,
        identity,
    });
    machine::adopt::take_again(&daemon);
    machine::capabilities::ensure(&daemon).await;
    Ok(daemon)
}

fn network_config(layout: &Layout, args: &Play) -> Result<NetworkConfig> {
    let mut config = NetworkConfig::new(layout.network());
    config.bridge.clone_from(&args.bridge);
    config.table = format!(
        "catamaran_{}",
        args.bridge
            .replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    );
    config.subnet_v4 = args.subnet.parse().with_context(|| {
        format!(
            "--subnet {:?} is no IPv4 network such as 10.88.0.0/16",
            args.subnet
        )
    })?;
    config.subnet_v6 = match args.subnet6.as_str() {
        "" | "none" => None,
        net => Some(net.parse().with_context(|| {
            format!("--subnet6 {net:?} is no IPv6 network such as fd88:ca7a::/64")
        })?),
    };
    if !args.dns.is_empty() {
        config.dns_upstreams = args
            .dns
            .iter()
            .map(|address| (*address, 53).into())
            .collect();
    }
    Ok(config)
}

fn image_config(args: &Play) -> StoreConfig {
    let mut registry = RegistryConfig {
        plain_http: args.plain_http.clone(),
        ..RegistryConfig::default()
    };
    registry.ca_folders.extend(args.certificates.clone());
    StoreConfig {
        limits: Limits::default(),
        registry,
        worker: WorkerConfig {
            program: "/proc/self/exe".into(),
            arguments: vec!["image-worker".into()],
            ..WorkerConfig::default()
        },
        local_layouts: args.images.clone(),
        local_references: true,
    }
}

fn bytes(text: &str) -> Result<u64> {
    catamaran_spec::quantity::units(text)
        .with_context(|| format!("--overlay-limit {text:?} is no number of bytes such as 2Gi"))
}

/// One daemon on a state folder: two would start every machine twice.
fn lock(layout: &Layout) -> Result<File> {
    let file = layout
        .open_lock()
        .with_context(|| layout.lock().display().to_string())?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!(
            "another daemon runs on {}: apply manifests to it with `catamaran apply -f FILE`, or name another folder with --state",
            layout.root().display()
        );
    }
    Ok(file)
}

fn libexec(args: &Play) -> Result<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let candidates = args.libexec.clone().into_iter().chain(beside).chain([
        "/usr/libexec/catamaran".into(),
        "/usr/local/libexec/catamaran".into(),
    ]);
    let mut looked = Vec::new();
    for folder in candidates {
        if ["catamaran-init", "catamaran-launcher"]
            .iter()
            .all(|program| folder.join(program).is_file())
        {
            return Ok(folder);
        }
        looked.push(folder.display().to_string());
    }
    bail!(
        "catamaran-init and catamaran-launcher are not in {}; name their folder with --libexec",
        looked.join(" or ")
    )
}
