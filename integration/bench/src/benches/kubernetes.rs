//! Machines on the integration cluster, beside plain pods: everything (control plane, nodes, guests) shares this machine, so only ratios and
//! counts mean something elsewhere.
//!
//! The guest is a boot sector that halts: what is measured is the system around it.

mod console;
mod costs;
mod fleet;
mod idle;
mod processes;
mod starts;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::websocket::{Proxy, Watch};
use catamaran_tests::cluster::{self, Cluster};
use catamaran_tests::{command, programs};
use serde_json::{Value, json};

use crate::table::Row;

/// Longest that anything here may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two looks that cost the API server or this program something.
const LOOK: Duration = Duration::from_millis(300);
/// A boot sector: `cli; hlt`, for ever.
const HALT: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
/// The image with it, in the cluster's registry.
const IMAGE: &str = "registry.lab:5000/halt:dev";

/// Measures starts, restarts, deletions and what they cost.
pub(crate) fn starts(
    programs: &Path,
    samples: usize,
    print: impl Fn(&[Row]) -> Result<()>,
) -> Result<()> {
    on_cluster(programs, 2, |rig| {
        print(&starts::run(rig, samples)?)?;
        print(&costs::run(rig, samples)?)
    })
}

/// Measures what machines cost that only run.
pub(crate) fn idle(
    programs: &Path,
    machines: usize,
    minutes: usize,
    print: impl Fn(&[Row]) -> Result<()>,
) -> Result<()> {
    on_cluster(programs, 1, |rig| {
        print(&idle::run(rig, machines, minutes)?)
    })
}

/// Measures the controller with machines on pretended nodes.
pub(crate) fn fleet(
    programs: &Path,
    machines: usize,
    print: impl Fn(&[Row]) -> Result<()>,
) -> Result<()> {
    on_cluster(programs, 1, |rig| print(&fleet::run(rig, machines)?))
}

/// Measures what the web console costs.
pub(crate) fn console(
    programs: &Path,
    samples: usize,
    print: impl Fn(&[Row]) -> Result<()>,
) -> Result<()> {
    on_cluster(programs, 1, |rig| print(&console::run(rig, samples)?))
}

/// The cluster with the product in it, and a way to ask it that costs little.
struct Rig<'a> {
    cluster: &'a Cluster,
    proxy: Proxy,
}

/// A bench on a cluster of so many nodes. It prints its figures itself: what it leaves may still fail to go.
fn on_cluster(
    programs: &Path,
    nodes: u8,
    bench: impl FnOnce(&Rig<'_>) -> Result<()>,
) -> Result<()> {
    let found = programs::find_all(&["catamaran-controller"])?;
    ensure!(
        found.canonicalize()? == programs.canonicalize()?,
        "the images would be made of {}: set CATAMARAN_PROGRAMS={}",
        found.display(),
        programs.display()
    );
    cluster::run(nodes, |cluster| {
        push_halt(cluster)?;
        bench(&Rig {
            cluster,
            proxy: cluster.proxy()?,
        })
    })
}

/// Builds the image of the guest that halts, and pushes it.
fn push_halt(cluster: &Cluster) -> Result<()> {
    let work = tempfile::tempdir()?;
    let disk = work.path().join("disk.img");
    let mut sector = vec![0; 1 << 20];
    sector[..HALT.len()].copy_from_slice(&HALT);
    sector[510..512].copy_from_slice(&[0x55, 0xaa]);
    fs::write(&disk, sector)?;
    let layout = work.path().join("oci").display().to_string();
    let image = format!("{layout}:halt");
    let umoci = |words: &[&str]| command::stdout(&mut command::program("umoci", words));
    umoci(&["init", "--layout", &layout])?;
    umoci(&["new", "--image", &image])?;
    let disk = disk.display().to_string();
    umoci(&["insert", "--image", &image, &disk, "/disk/disk.img"])?;
    command::stdout(&mut cluster.command(["push", &image, "halt:dev"])).map(drop)
}

impl Rig<'_> {
    /// Path of a list in the bench's namespace: `pods`, `virtualmachines`.
    fn path(&self, kind: &str) -> String {
        let group = if kind == "pods" {
            "/api/v1"
        } else {
            "/apis/kubevirt.io/v1"
        };
        format!("{group}/namespaces/{}/{kind}", self.cluster.namespace())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let (status, said) = self.proxy.request(method, path, body)?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: {status} {said}"
        );
        Ok(said)
    }

    fn create(&self, kind: &str, object: &Value) -> Result<()> {
        self.request("POST", &self.path(kind), &object.to_string())
            .map(drop)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.request("DELETE", &format!("{}/{name}", self.path(kind)), "")
            .map(drop)
    }

    /// Follows one object.
    fn follow(&self, kind: &str, name: &str) -> Result<Watch> {
        let selector = format!("fieldSelector=metadata.name%3D{name}");
        self.proxy.watch(&self.path(kind), &selector)
    }

    /// Follows the launcher pods of a machine.
    fn follow_pods(&self, machine: &str) -> Result<Watch> {
        let selector = format!("labelSelector=vm.kubevirt.io%2Fname%3D{machine}");
        self.proxy.watch(&self.path("pods"), &selector)
    }

    /// Follows all objects of a kind.
    fn follow_all(&self, kind: &str) -> Result<Watch> {
        self.proxy.watch(&self.path(kind), "")
    }
}

/// A machine that halts as soon as it runs, with a container disk and a masqueraded card.
fn machine(name: &str) -> Value {
    let mut machine = catamaran_tests::manifest::machine(name);
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 0.into();
    spec["volumes"][0]["containerDisk"]["image"] = IMAGE.into();
    machine
}

/// The floor: a pod of one container.
fn pod(name: &str) -> Value {
    let mut pod = catamaran_tests::manifest::pod(name, &["sleep", "86400"]);
    pod["spec"]["containers"][0]["image"] = json!(cluster::TINY);
    pod
}

/// Whether a machine's instance runs.
fn runs(instance: &Value) -> bool {
    instance["status"]["phase"] == "Running"
}

/// Whether a pod is ready.
fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// A field that must be a text.
fn text<'a>(object: &'a Value, pointer: &str) -> Result<&'a str> {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .with_context(|| format!("no {pointer} in {object}"))
}
