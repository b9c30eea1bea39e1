//! What machines cost that only run: memory on the nodes, writes to the API server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use catamaran_tests::cluster::SYSTEM;
use serde_json::Value;

use super::{LONGEST, LOOK, Rig, machine, runs, text};
use crate::benches::{Sleeper, mib};
use crate::process::{self, Pid};
use crate::stats::Samples;
use crate::table::{Aim, Row};
use crate::{say, wait};

/// A minute in which writes are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Starts so many machines, and looks for so many minutes.
pub(super) fn run(rig: &Rig<'_>, machines: usize, minutes: usize) -> Result<Vec<Row>> {
    let floor = Sleeper::start()?;
    let first = start(rig, 0..1)?;
    let alone = launchers()?;
    say(&format!(
        "launcher and init of the only machine: {:.1} MiB",
        alone.iter().sum::<f64>()
    ));
    reserved(rig, &first)?;
    start(rig, 1..machines)?;
    let mut writes = quiet(rig)?;
    let (mut ours, mut leases) = (Vec::new(), Vec::new());
    let mut launcher = Vec::new();
    for minute in 0..minutes {
        say(&format!("minute {} of {minutes}", minute + 1));
        // Time itself is measured here, so there is nothing else to wait for.
        thread::sleep(MINUTE);
        let now = rig.cluster.writes_of_ours()?;
        let new = now.get(writes..).unwrap_or_default();
        for write in new.iter().filter(|write| !write.is_lease()) {
            say(&format!(
                "{} {} by {}",
                write.verb, write.resource, write.user
            ));
        }
        let kept = new.iter().filter(|write| write.is_lease()).count();
        leases.push(kept as f64);
        ours.push((new.len() - kept) as f64);
        writes = now.len();
    }
    let found = launchers()?;
    ensure!(
        found.len() == machines,
        "{} of {machines} machines still run",
        found.len()
    );
    launcher.extend(found);
    for program in ["catamaran-contr", "catamaran"] {
        for pid in named(program) {
            say(&format!(
                "{program} ({pid}): {:.1} MiB",
                mib(process::pss(pid)?)
            ));
        }
    }
    let sleeper = floor.pss()?;
    let many = |name: String, floor: f64, ours: Vec<f64>, unit, aim| {
        let floor = std::iter::repeat_n(floor, ours.len()).collect();
        Row::median(&name, unit, floor, Samples::new(ours), aim)
    };
    Ok(vec![
        many(
            format!("PSS of launcher and init, of {machines} (floor: sleep)"),
            sleeper,
            launcher,
            "MiB",
            Some(Aim::Value(12.0)),
        ),
        many(
            format!("our writes a minute with {machines} idle machines, without leases"),
            0.0,
            ours,
            "",
            Some(Aim::Value(0.0)),
        ),
        many("our leases a minute".to_owned(), 0.0, leases, "", None),
    ])
}

/// Starts machines and waits until they run; gives the last one's instance.
fn start(rig: &Rig<'_>, numbers: std::ops::Range<usize>) -> Result<Value> {
    let mut watch = rig.follow_all("virtualmachineinstances")?;
    let end = numbers.end;
    for number in numbers {
        rig.create("virtualmachines", &machine(&format!("i{number}")))?;
    }
    let mut running = std::collections::BTreeSet::new();
    watch.until("all run", LONGEST, |_, instance| {
        if runs(instance) {
            running.insert(instance["metadata"]["name"].to_string());
        }
        running.len() == end
    })
}

/// Says what a machine's pod reserves beyond its guest's memory, and what QEMU takes of it.
fn reserved(rig: &Rig<'_>, instance: &Value) -> Result<()> {
    let pod = rig
        .cluster
        .launcher_pod(text(instance, "/metadata/name")?)?;
    let requests: Vec<&str> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["resources"]["requests"]["memory"].as_str())
        .collect();
    let qemu = named("qemu-system-x86").into_iter().next();
    let qemu = qemu
        .map(|pid| process::pss_without_ram(pid, 128 << 20))
        .transpose()?;
    say(&format!(
        "a machine with 128 MiB requests {} of memory; QEMU without its guest's memory: {:.1} MiB",
        requests.join(" + "),
        mib(qemu.unwrap_or_default())
    ));
    let requests = rig.cluster.kubectl([
        "--namespace",
        SYSTEM,
        "get",
        "deployment,daemonset",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name}: {.spec.template.spec.containers[*].resources.requests.memory}; {end}",
    ])?;
    say(&format!(
        "the installation requests {requests}(replicas: 2)"
    ));
    Ok(())
}

/// MiB of each machine's processes but QEMU.
fn launchers() -> Result<Vec<f64>> {
    named("catamaran-init")
        .into_iter()
        .map(|init| {
            let mut bytes = 0;
            for pid in process::family(init) {
                if process::name(pid).is_some_and(|name| !name.starts_with("qemu-")) {
                    bytes += process::pss(pid)?;
                }
            }
            Ok(mib(bytes))
        })
        .collect()
}

fn named(name: &str) -> Vec<Pid> {
    process::all()
        .filter(|pid| process::name(*pid).as_deref() == Some(name))
        .collect()
}

/// Waits until the product writes nothing but leases for ten seconds; gives the number of its writes so far.
fn quiet(rig: &Rig<'_>) -> Result<usize> {
    let mut last = (0, Instant::now());
    wait::every(LOOK, "the product is quiet", LONGEST, || {
        let writes = rig.cluster.writes_of_ours()?;
        let now = writes.iter().filter(|write| !write.is_lease()).count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() >= MINUTE / 6).then_some(writes.len()))
    })
}
