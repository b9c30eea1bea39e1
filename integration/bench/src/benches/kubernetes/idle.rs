//! What machines cost that only run, all on one node: memory of their launchers and of the node's daemon, writes to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use catamaran_tests::cluster::SYSTEM;
use catamaran_tests::cluster::audit::Write;
use serde_json::Value;

use super::processes::{self, OfPod};
use super::{LONGEST, Rig, machine, runs, text};
use crate::benches::{Sleeper, mib};
use crate::process::{self, Pid};
use crate::stats::Samples;
use crate::table::{Aim, Row};
use crate::{say, wait};

/// A minute in which writes are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks at the whole audit log.
const LOOK: Duration = Duration::from_secs(2);
/// How much longer than one all may take for each that starts.
const EACH: Duration = Duration::from_secs(15);
/// Memory of each guest, MiB.
const GUEST_MIB: u64 = 64;
/// Readings of a daemon's memory, a second apart, and those before them that count for nothing.
const READINGS: [usize; 2] = [10, 5];

/// Starts so many machines, and looks for so many minutes.
pub(super) fn run(rig: &Rig<'_>, machines: usize, minutes: usize) -> Result<Vec<Row>> {
    let floor = Sleeper::start()?;
    let mut rows = vec![daemon(rig, &floor, 0)?];
    let first = start(rig, 0..1)?;
    // The launcher is settled after that, and the daemon has asked it what its guest used.
    rows.push(daemon(rig, &floor, 1)?);
    let alone = launchers(rig)?;
    say(&format!(
        "launcher and init of the only machine: {:.1} MiB",
        alone.iter().sum::<f64>()
    ));
    reserved(rig, &first)?;
    start(rig, 1..machines)?;
    let mut writes = quiet(rig)?;
    rows.push(daemon(rig, &floor, machines)?);
    let (mut ours, mut alive) = (Vec::new(), Vec::new());
    for minute in 0..minutes {
        say(&format!("minute {} of {minutes}", minute + 1));
        // Time itself is measured here, so there is nothing else to wait for.
        thread::sleep(MINUTE);
        let now = rig.cluster.writes_of_ours()?;
        let new = now.get(writes..).unwrap_or_default();
        for write in new.iter().filter(|write| !is_alive(write)) {
            say(&format!(
                "{} {} by {}",
                write.verb, write.resource, write.user
            ));
        }
        let kept = new.iter().filter(|write| is_alive(write)).count();
        alive.push(kept as f64);
        ours.push((new.len() - kept) as f64);
        writes = now.len();
    }
    let launcher = launchers(rig)?;
    ensure!(
        launcher.len() == machines,
        "{} of {machines} machines still run",
        launcher.len()
    );
    let (leader, others) = processes::controllers(rig)?;
    for OfPod { pod, pid } in [leader].into_iter().chain(others) {
        say(&format!("{pod}: {:.1} MiB", mib(process::pss(pid)?)));
    }
    let sleeper = floor.pss()?;
    let many = |name: String, floor: f64, ours: Vec<f64>, unit, aim| {
        let floor = std::iter::repeat_n(floor, ours.len()).collect();
        Row::median(&name, unit, floor, Samples::new(ours), aim)
    };
    rows.extend([
        many(
            format!("PSS of launcher and init, of {machines} (floor: sleep)"),
            sleeper,
            launcher,
            "MiB",
            Some(Aim::Value(12.0)),
        ),
        many(
            format!(
                "our writes a minute with {machines} idle machines, without leases and heartbeats"
            ),
            0.0,
            ours,
            "",
            Some(Aim::Value(0.0)),
        ),
        many(
            "our leases and heartbeats a minute".to_owned(),
            0.0,
            alive,
            "",
            None,
        ),
    ]);
    Ok(rows)
}

/// Whether a write only says that its writer is there.
fn is_alive(write: &Write) -> bool {
    write.is_lease() || write.is_heartbeat()
}

/// Reads the memory of the node's daemon.
fn daemon(rig: &Rig<'_>, floor: &Sleeper, machines: usize) -> Result<Row> {
    let found = processes::of_pods(rig, SYSTEM, "kubevirt.io=virt-handler", "catamaran")?;
    let [readings, before] = READINGS;
    let (mut ours, mut sleeper) = (Vec::new(), Vec::new());
    wait::every(MINUTE / 60, "readings", LONGEST, || {
        let mut bytes = 0;
        for of_pod in &found {
            bytes += process::pss(of_pod.pid)?;
        }
        ours.push(mib(bytes));
        sleeper.push(floor.pss()?);
        Ok((ours.len() == before + readings).then_some(()))
    })?;
    let read = |values: Vec<f64>| values.into_iter().skip(before).collect::<Samples>();
    let name = format!("PSS of the node's daemon with {machines} machines (floor: sleep)");
    Ok(Row::median(&name, "MiB", read(sleeper), read(ours), None))
}

/// A machine of which a hundred find room on a small computer: what it asks for, as it uses hardly any of that.
fn small(name: &str) -> Value {
    let mut machine = machine(name);
    let domain = &mut machine["spec"]["template"]["spec"]["domain"];
    domain["memory"]["guest"] = format!("{GUEST_MIB}Mi").into();
    domain["resources"]["requests"]["cpu"] = "5m".into();
    machine
}

/// Starts machines and waits until they run; gives the last one's instance.
fn start(rig: &Rig<'_>, numbers: std::ops::Range<usize>) -> Result<Value> {
    let mut watch = rig.follow_all("virtualmachineinstances")?;
    let longest = LONGEST + EACH * u32::try_from(numbers.len())?;
    let end = numbers.end;
    for number in numbers {
        rig.create("virtualmachines", &small(&format!("i{number}")))?;
    }
    let mut running = BTreeSet::new();
    watch.until("all run", longest, |_, instance| {
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
    let qemu = of_machines(rig, "qemu-system-x86")?.into_iter().next();
    let qemu = qemu
        .map(|of_pod| process::pss_without_ram(of_pod.pid, GUEST_MIB << 20))
        .transpose()?;
    say(&format!(
        "a machine with {GUEST_MIB} MiB requests {} of memory; QEMU without its guest's memory: {:.1} MiB",
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

/// MiB of each machine's processes but QEMU: those of all containers of its pod.
fn launchers(rig: &Rig<'_>) -> Result<Vec<f64>> {
    let mut pods: BTreeMap<String, BTreeSet<Pid>> = BTreeMap::new();
    for init in of_machines(rig, "catamaran-init")? {
        let of_pod = pods.entry(init.pod).or_default();
        of_pod.extend(process::family(init.pid));
    }
    let read = |pids: BTreeSet<Pid>| {
        let mut bytes = 0;
        for pid in pids {
            if process::name(pid).is_some_and(|name| !name.starts_with("qemu-")) {
                bytes += process::pss(pid)?;
            }
        }
        Ok(mib(bytes))
    };
    pods.into_values().map(read).collect()
}

/// Processes of a name in the machines' pods.
fn of_machines(rig: &Rig<'_>, name: &str) -> Result<Vec<OfPod>> {
    let label = "kubevirt.io=virt-launcher";
    processes::of_pods(rig, rig.cluster.namespace(), label, name)
}

/// Waits until the product writes nothing but leases and heartbeats for ten seconds; gives the number of its writes so far.
fn quiet(rig: &Rig<'_>) -> Result<usize> {
    let mut last = (0, Instant::now());
    wait::every(LOOK, "the product is quiet", LONGEST, || {
        let writes = rig.cluster.writes_of_ours()?;
        let now = writes.iter().filter(|write| !is_alive(write)).count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() >= MINUTE / 6).then_some(writes.len()))
    })
}
