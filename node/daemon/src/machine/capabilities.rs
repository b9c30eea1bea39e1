//! libvirt's capabilities cache: made once, in a sandbox like the machines' own, and shown to each of them. Without it every launcher would ask QEMU
//! for its abilities again, which takes seconds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use catamaran_plan::{Accelerator, HostFacts};
use catamaran_sandbox::SandboxSpec;

use crate::machine::error::StartError;
use crate::machine::record::ignore_missing;
use crate::serve::daemon::Daemon;

/// Name of the file that says what the cache was made for.
const MADE_FOR: &str = "made-for";

/// Makes the cache of the daemon of `play`.
pub async fn ensure(daemon: &Daemon) {
    let cache = Cache {
        cache: daemon.capabilities(),
        work: daemon.layout.host().join("probe"),
        code: daemon.code.clone(),
        init: daemon.settings.libexec.join("catamaran-init"),
        facts: &daemon.host.facts,
    };
    cache.ensure().await;
}

/// A cache and what it takes to make it.
#[derive(Debug)]
pub struct Cache<'a> {
    /// Where it is.
    pub cache: PathBuf,
    /// Folder for the making; removed afterwards.
    pub work: PathBuf,
    /// Versioned programs, as machines see them.
    pub code: PathBuf,
    /// `catamaran-init`.
    pub init: PathBuf,
    /// What runs guests here.
    pub facts: &'a HostFacts,
}

impl Cache<'_> {
    /// Makes the cache where it is missing or was made for other programs. A failure costs time at each start and is told.
    pub async fn ensure(&self) {
        let wanted = made_for(self.facts);
        if fs::read_to_string(self.cache.join(MADE_FOR)).is_ok_and(|there| there == wanted) {
            return;
        }
        if let Err(error) = tokio::task::block_in_place(|| make(self, &wanted)) {
            tracing::warn!(
                error = catamaran_client::chain(&error),
                "QEMU's abilities could not be cached; starts take seconds longer"
            );
        }
    }
}

fn make(of: &Cache<'_>, wanted: &str) -> Result<(), StartError> {
    let (cache, work, facts) = (&of.cache, &of.work, of.facts);
    ignore_missing(fs::remove_dir_all(work)).map_err(StartError::io("the probe's folder"))?;
    fs::create_dir_all(work).map_err(StartError::io("the probe's folder"))?;
    let (domain_type, devices) = match facts.accelerator {
        Accelerator::Kvm => ("kvm", vec!["/dev/kvm".into()]),
        Accelerator::Tcg => ("qemu", Vec::new()),
    };
    let sandbox = SandboxSpec {
        vm: "capabilities".to_owned(),
        hostname: "capabilities".to_owned(),
        run: work.join("run"),
        state: work.join("state"),
        code: of.code.clone(),
        capabilities: None,
        binds: Vec::new(),
        netns: None,
        devices,
        cgroups: Vec::new(),
        limits: BTreeMap::new(),
        task: None,
    };
    let command = [
        "/vm/code/current/catamaran-launcher",
        "capabilities",
        "--emulator",
        &facts.emulator,
        "--domain-type",
        domain_type,
    ];
    sandbox.run_task(&of.init, command.iter().map(ToString::to_string).collect())?;
    ignore_missing(fs::remove_dir_all(cache)).map_err(StartError::io("the cache"))?;
    let made = work.join("run/libvirt/cache/qemu/capabilities");
    fs::rename(&made, cache).map_err(StartError::io(made.display().to_string()))?;
    fs::write(cache.join(MADE_FOR), wanted).map_err(StartError::io("the cache"))?;
    ignore_missing(fs::remove_dir_all(work)).map_err(StartError::io("the probe's folder"))
}

/// What the cache depends on; libvirt checks the same and more itself.
fn made_for(facts: &HostFacts) -> String {
    // libvirt looks at the time of the last change, which is another one after an image was pulled anew.
    let changed = fs::metadata(&facts.emulator)
        .map(|metadata| (metadata.mtime(), metadata.ctime(), metadata.ctime_nsec()))
        .ok();
    format!(
        "{:?} {:?} {:?} {:?} {changed:?}",
        facts.accelerator,
        facts.qemu_version,
        facts.libvirt_version,
        rustix::system::uname().release()
    )
}
