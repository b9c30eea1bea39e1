//! How long machines take to start, to start again and to go, in ratio to pods.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{LONGEST, Rig, is_ready, machine, pod, runs, text};
use crate::process;
use crate::say;
use crate::stats::Samples;
use crate::table::{Aim, Row};

/// Machines that are created at once.
const CROWD: usize = 10;

/// Seconds of each sample.
#[derive(Default)]
struct Times {
    pod_ready: Vec<f64>,
    pod_gone: Vec<f64>,
    running: Vec<f64>,
    restarted: Vec<f64>,
    back: Vec<f64>,
    gone: Vec<f64>,
}

/// Measures one after the other, pod and machine in turn; then a crowd of each.
pub(super) fn run(rig: &Rig<'_>, samples: usize) -> Result<Vec<Row>> {
    let mut times = Times::default();
    // The first of each pulls its image.
    one(rig, "warm", &mut Times::default())?;
    for number in 0..samples {
        say(&format!("start {} of {samples}", number + 1));
        one(rig, &format!("s{number}"), &mut times)?;
    }
    say(&format!("{CROWD} at once"));
    let pods = crowd(rig, "pods", "pods", pod, is_ready)?;
    let machines = crowd(
        rig,
        "virtualmachines",
        "virtualmachineinstances",
        machine,
        runs,
    )?;
    let pod_ready = Samples::new(times.pod_ready);
    let second = |name: &str, floor: &Samples, ours: Vec<f64>, aim: Aim| {
        Row::median(name, "s", floor.clone(), Samples::new(ours), Some(aim))
    };
    let crowd = Row {
        percentile: 1.0,
        ..Row::median(
            &format!("{CROWD} machines at once, the last is Running (floor: pods)"),
            "s",
            pods,
            machines,
            Some(Aim::Ratio(2.5)),
        )
    };
    Ok(vec![
        second(
            "create to Running (floor: a pod, to Ready)",
            &pod_ready,
            times.running,
            Aim::Ratio(1.6),
        ),
        crowd,
        second(
            "restart verb to a new instance Running (floor: as above)",
            &pod_ready,
            times.restarted,
            Aim::Ratio(2.5),
        ),
        second(
            "QEMU killed to a new instance Running (floor: as above)",
            &pod_ready,
            times.back,
            Aim::Value(3.0),
        ),
        second(
            "delete to all gone, grace 0 (floor: a pod, grace 1 s)",
            &Samples::new(times.pod_gone),
            times.gone,
            Aim::Value(1.5),
        ),
    ])
}

/// One pod, then one machine, from create to gone.
fn one(rig: &Rig<'_>, name: &str, times: &mut Times) -> Result<()> {
    let mut watch = rig.follow("pods", name)?;
    let begin = Instant::now();
    rig.create("pods", &pod(name))?;
    watch.until("the pod is ready", LONGEST, |_, pod| is_ready(pod))?;
    times.pod_ready.push(begin.elapsed().as_secs_f64());
    let begin = Instant::now();
    rig.delete("pods", name)?;
    watch.until("the pod is gone", LONGEST, |word, _| word == "DELETED")?;
    times.pod_gone.push(begin.elapsed().as_secs_f64());

    let mut watch = rig.follow("virtualmachineinstances", name)?;
    let begin = Instant::now();
    rig.create("virtualmachines", &machine(name))?;
    let first = watch.until("it runs", LONGEST, |_, instance| runs(instance))?;
    times.running.push(begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    let restart = format!(
        "/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachines/{name}/restart",
        rig.cluster.namespace()
    );
    rig.request("PUT", &restart, "{}")?;
    let second = watch.until("it runs again", LONGEST, other_than(&first))?;
    times.restarted.push(begin.elapsed().as_secs_f64());

    let qemu = qemu(rig, name)?;
    let begin = Instant::now();
    rustix::process::kill_process(qemu, rustix::process::Signal::KILL)?;
    watch.until("it is back", LONGEST, other_than(&second))?;
    times.back.push(begin.elapsed().as_secs_f64());

    let mut pods = rig.follow_pods(name)?;
    let mut machines = rig.follow("virtualmachines", name)?;
    let mut left = std::collections::BTreeSet::new();
    let begin = Instant::now();
    rig.delete("virtualmachines", name)?;
    machines.until("it is gone", LONGEST, |word, _| word == "DELETED")?;
    pods.until("its pods are gone", LONGEST, |word, pod| {
        let name = pod["metadata"]["name"].to_string();
        if word == "DELETED" {
            left.remove(&name);
        } else {
            left.insert(name);
        }
        left.is_empty()
    })?;
    times.gone.push(begin.elapsed().as_secs_f64());
    Ok(())
}

/// Whether another instance than this one runs.
fn other_than(before: &Value) -> impl FnMut(&str, &Value) -> bool {
    let uid = before["metadata"]["uid"].clone();
    move |word, instance| word != "DELETED" && instance["metadata"]["uid"] != uid && runs(instance)
}

/// The machine's QEMU, as seen from here.
fn qemu(rig: &Rig<'_>, name: &str) -> Result<rustix::process::Pid> {
    let guest = format!("guest={}_{name},", rig.cluster.namespace());
    let found = process::all().find(|pid| {
        process::name(*pid).is_some_and(|name| name.starts_with("qemu-"))
            && process::words(*pid)
                .is_ok_and(|words| words.iter().any(|word| word.starts_with(&guest)))
    });
    found
        .and_then(rustix::process::Pid::from_raw)
        .with_context(|| format!("no QEMU of {name}"))
}

/// Seconds that each of many takes which are created at once, and removed afterwards.
fn crowd(
    rig: &Rig<'_>,
    kind: &str,
    watched: &str,
    object: fn(&str) -> Value,
    is_there: fn(&Value) -> bool,
) -> Result<Samples> {
    let names: Vec<String> = (0..CROWD).map(|number| format!("crowd{number}")).collect();
    let mut watch = rig.follow_all(watched)?;
    let begin = Instant::now();
    for name in &names {
        rig.create(kind, &object(name))?;
    }
    let mut times = BTreeMap::new();
    watch.until("all are there", LONGEST, |_, object| {
        if let (true, Ok(name)) = (is_there(object), text(object, "/metadata/name")) {
            times
                .entry(name.to_owned())
                .or_insert_with(|| begin.elapsed().as_secs_f64());
        }
        times.len() == CROWD
    })?;
    for name in &names {
        rig.delete(kind, name)?;
    }
    let mut gone = 0;
    watch.until("all are gone", LONGEST, |word, _| {
        gone += usize::from(word == "DELETED");
        gone == CROWD
    })?;
    Ok(Samples::new(times.into_values().collect()))
}
