//! From a validated machine to a running sandbox with a started guest: every step idempotent, each written down before it is done.
//!
//! ```text
//! proof of death -> record: Preparing -> disks, config, network -> plan -> record: Sandboxed -> sandbox -> launcher
//!   -> DHCP sockets -> record: Started -> Start{plan}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use catamaran_images::DiskFile;
use catamaran_plan::{Accelerator, FileSource, Generation, Given, Hardware, Identity, Plan};
use catamaran_sandbox::{Bind, FileId, SandboxSpec};
use catamaran_spec::MachineSpec;
use catamaran_wire::Verb;
use uuid::Uuid;

use crate::machine::cgroup::{Cgroup, Dead};
use crate::machine::error::StartError;
use crate::machine::launcher::{self, Launcher};
use crate::machine::record::{self, Record, Stage};
use crate::machine::{beneath, config, network, volumes};
use crate::serve::daemon::Daemon;
use crate::serve::layout::MachineLayout;
use crate::serve::store::{Key, Kind};

/// Longest time from the sandbox's start to a launcher that answers.
const LAUNCHER_DEADLINE: Duration = Duration::from_secs(30);

/// A machine to start.
#[derive(Debug)]
pub struct Start {
    /// The instance.
    pub machine: Key,
    /// What it is.
    pub spec: MachineSpec,
    /// Digest of what was applied.
    pub digest: String,
    /// This run.
    pub vmi_uid: Uuid,
    /// Which try to start this run: the plan of a later one is newer, and a launcher refuses an older one.
    pub counter: u64,
    /// Who the guest is.
    pub identity: Identity,
}

/// Prepares everything, builds the sandbox and asks for the start of the guest.
///
/// # Errors
/// The step that failed. What it left is found by the next try, or cleared by the teardown.
pub async fn run(
    daemon: &Daemon,
    start: &Start,
    cgroup: &Cgroup,
    nobody: &Dead,
) -> Result<(), StartError> {
    let layout = daemon.layout.machine(&start.machine);
    record::clear(&layout).map_err(StartError::io("the folder of the last run"))?;
    layout
        .create()
        .map_err(StartError::io(layout.root().display().to_string()))?;
    let mut written = Record {
        vmi_uid: start.vmi_uid,
        stage: Stage::Preparing,
        disks: None,
    };
    save(&layout, &written)?;

    let Prepared {
        plan,
        netns,
        bound,
        files,
    } = prepare(daemon, start, &layout).await?;

    written.stage = Stage::Sandboxed;
    written.disks = Some(daemon.claims.of(&start.machine));
    save(&layout, &written)?;
    record::save(&layout.plan(), &plan).map_err(StartError::io("the plan"))?;
    let procs = cgroup.create(nobody)?;
    let group = procs.parent().map(Path::to_owned).unwrap_or_default();
    let sandbox = sandbox(daemon, start, &layout, &plan, &files, netns.clone(), group)?;
    let init = daemon.settings.libexec.join("catamaran-init");
    // The stage answers within some 20 ms; its start is not worth a thread that could not be cancelled anyway.
    tokio::task::block_in_place(|| sandbox.start(&init))?;
    // Until here the checked files had to stay open: their numbers are theirs alone as long as they are.
    drop(files);

    let (launcher, connection) = dial(&layout).await?;
    let starting = async {
        network::serve(&launcher, &netns, &bound).await?;
        written.stage = Stage::Started;
        save(&layout, &written)?;
        launcher
            .ask(Verb::Start {
                plan: Box::new(plan),
            })
            .await?;
        Ok(())
    };
    tokio::select! {
        result = starting => result,
        () = connection => Err(StartError::Overdue("the launcher went away while it was asked to start".to_owned())),
    }
}

/// Binds a planned machine's interfaces; confirms them where they are bound.
///
/// # Errors
/// The kernel's refusal.
pub async fn rebind(
    daemon: &Daemon,
    layout: &MachineLayout,
    machine: &Key,
    plan: &Plan,
) -> Result<Vec<catamaran_network::BoundNic>, StartError> {
    let attachment = network::attach(daemon, machine).await?;
    network::bind_all(
        daemon,
        layout,
        &attachment,
        &plan.hostname,
        &machine.namespace,
        &plan.nics,
    )
    .await
}

/// A machine whose disks and network are ready.
struct Prepared {
    plan: Plan,
    netns: PathBuf,
    bound: Vec<catamaran_network::BoundNic>,
    files: Vec<DiskFile>,
}

async fn prepare(
    daemon: &Daemon,
    start: &Start,
    layout: &MachineLayout,
) -> Result<Prepared, StartError> {
    let kvm = &daemon.host.kvm;
    if daemon.settings.require_kvm && !kvm.is_usable() {
        return Err(StartError::NoKvm(kvm.to_string()));
    }
    let found = volumes::find(daemon, &start.machine, &start.spec).await?;
    daemon.images_in_use(&start.machine, &found.images);
    let attachment = network::attach(daemon, &start.machine).await?;
    let ports = &start.spec.host_ports;
    network::expose(daemon, &start.machine, &attachment, ports).await?;
    let hardware: Option<Hardware> =
        record::load(&layout.hardware()).map_err(StartError::io("the stored hardware"))?;
    let given = Given {
        generation: Generation {
            vmi_uid: start.vmi_uid,
            counter: start.counter,
            spec_digest: start.digest.clone(),
        },
        identity: start.identity.clone(),
        nics: network::given(&start.spec, &start.identity, &attachment),
        disks: found.disks,
        absent: found.absent,
        boot: found.boot,
        config_keys: config_keys(daemon, &start.machine.namespace),
        hardware,
        overlay_limit: daemon.settings.overlay_limit,
    };
    let plan = catamaran_plan::plan(&start.spec, &daemon.host.facts, &given).map_err(|errors| {
        StartError::Plan(
            errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
        )
    })?;
    record::save(&layout.hardware(), &plan.hardware)
        .map_err(StartError::io("the resolved hardware"))?;
    let bound = network::bind_all(
        daemon,
        layout,
        &attachment,
        &plan.hostname,
        &start.machine.namespace,
        &plan.nics,
    )
    .await?;
    Ok(Prepared {
        plan,
        netns: attachment.netns,
        bound,
        files: found.files,
    })
}

/// Names of the keys of every Secret and ConfigMap of the namespace; never their contents.
fn config_keys(daemon: &Daemon, namespace: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys = BTreeMap::new();
    for (kind, word) in [(Kind::Secret, "secret"), (Kind::ConfigMap, "configmap")] {
        for (key, _) in daemon
            .store
            .list(kind)
            .into_iter()
            .filter(|(key, _)| key.namespace == namespace)
        {
            if let Ok(files) = config::files(&daemon.store, &key) {
                keys.insert(format!("{word}/{}", key.name), files.into_keys().collect());
            }
        }
    }
    keys
}

fn sandbox(
    daemon: &Daemon,
    start: &Start,
    layout: &MachineLayout,
    plan: &Plan,
    files: &[DiskFile],
    netns: PathBuf,
    group: PathBuf,
) -> Result<SandboxSpec, StartError> {
    let mut binds = Vec::new();
    for view in &plan.views {
        let mut file = None;
        let host = match &view.source {
            FileSource::HostFile(path) => {
                let checked = files.iter().find(|file| file.path == Path::new(path));
                file = checked.map(|checked| FileId {
                    device: checked.device,
                    inode: checked.inode,
                });
                path.into()
            }
            FileSource::Secret(name) => shown(
                daemon,
                layout,
                &Key::new(Kind::Secret, &start.machine.namespace, name),
            )?,
            FileSource::ConfigMap(name) => shown(
                daemon,
                layout,
                &Key::new(Kind::ConfigMap, &start.machine.namespace, name),
            )?,
        };
        binds.push(Bind {
            host,
            inside: view.inside.clone().into(),
            writable: view.writable,
            file,
        });
    }
    let mut devices = vec!["/dev/net/tun".into()];
    if plan.accelerator == Accelerator::Kvm {
        devices.push("/dev/kvm".into());
    }
    let capabilities = daemon.capabilities();
    Ok(SandboxSpec {
        vm: plan.domain.clone(),
        hostname: plan.hostname.clone(),
        run: layout.run(),
        state: layout.state(),
        code: daemon.code.clone(),
        capabilities: capabilities.exists().then_some(capabilities),
        binds,
        netns: Some(netns),
        devices,
        cgroups: vec![group],
        limits: BTreeMap::new(),
        task: None,
    })
}

/// Writes a Secret's or ConfigMap's files where the sandbox shows them.
fn shown(daemon: &Daemon, layout: &MachineLayout, key: &Key) -> Result<PathBuf, StartError> {
    let folder = layout
        .config()
        .join(format!("{}-{}", key.kind.as_str().to_lowercase(), key.name));
    config::write(&folder, &config::files(&daemon.store, key)?)?;
    Ok(folder)
}

/// Connects to a launcher that is being started.
async fn dial(
    layout: &MachineLayout,
) -> Result<(Launcher, impl Future<Output = ()> + Send + use<>), StartError> {
    let deadline = Instant::now() + LAUNCHER_DEADLINE;
    loop {
        match launcher::connect(&layout.run()).await {
            Ok(connected) => return Ok(connected),
            Err(error) if Instant::now() >= deadline => {
                return Err(match last_words(layout) {
                    Some(words) => {
                        StartError::Overdue(format!("{error}: its log ends with {words:?}"))
                    }
                    None => error.into(),
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// What a launcher that does not come up has said last.
fn last_words(layout: &MachineLayout) -> Option<String> {
    const LONGEST: u64 = 1 << 20;
    let log = beneath::text(&layout.run(), catamaran_sandbox::sandbox::LOG, LONGEST).ok()?;
    let last = log.lines().rfind(|line| !line.trim().is_empty())?;
    Some(last.chars().take(400).collect())
}

fn save(layout: &MachineLayout, written: &Record) -> Result<(), StartError> {
    record::save(&layout.record(), written).map_err(StartError::io("the record of the run"))
}
