//! What a start costs the control plane: writes, events, calls of webhooks.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{LONGEST, LOOK, Rig, is_ready, machine, pod, runs};
use crate::stats::Samples;
use crate::table::{Aim, Row};
use crate::{say, wait};

/// When nothing more was written for so long, a start is over.
const QUIET: Duration = Duration::from_secs(3);

/// Counts of each sample.
#[derive(Default)]
struct Counts {
    writes: Vec<f64>,
    events: Vec<f64>,
    webhooks: Vec<f64>,
}

/// Counts what is written from create until all is quiet, for pods and machines in turn.
pub(super) fn run(rig: &Rig<'_>, samples: usize) -> Result<Vec<Row>> {
    let (mut pods, mut machines) = (Counts::default(), Counts::default());
    for number in 0..samples {
        say(&format!("costs of start {} of {samples}", number + 1));
        let name = format!("c{number}");
        count(rig, &mut pods, || {
            let mut watch = rig.follow("pods", &name)?;
            rig.create("pods", &pod(&name))?;
            watch.until("the pod is ready", LONGEST, |_, pod| is_ready(pod))?;
            Ok(())
        })?;
        count(rig, &mut machines, || {
            let mut watch = rig.follow("virtualmachineinstances", &name)?;
            rig.create("virtualmachines", &machine(&name))?;
            watch.until("it runs", LONGEST, |_, instance| runs(instance))?;
            Ok(())
        })?;
        let mut watch = rig.follow("virtualmachines", &name)?;
        rig.delete("pods", &name)?;
        rig.delete("virtualmachines", &name)?;
        watch.until("it is gone", LONGEST, |word, _| word == "DELETED")?;
        // The next start must not be counted among the last writes of this one.
        settled(rig)?;
    }
    let row = |name: &str, floor: Vec<f64>, ours: Vec<f64>, most: f64| {
        Row::median(
            name,
            "",
            Samples::new(floor),
            Samples::new(ours),
            Some(Aim::Value(most)),
        )
    };
    Ok(vec![
        row(
            "API writes of a start, by anybody, without events (floor: a pod's)",
            pods.writes,
            machines.writes,
            12.0,
        ),
        row(
            "events of a start (floor: a pod's)",
            pods.events,
            machines.events,
            5.0,
        ),
        row(
            "calls of webhooks of a start (floor: a pod's)",
            pods.webhooks,
            machines.webhooks,
            6.0,
        ),
    ])
}

fn count(rig: &Rig<'_>, counts: &mut Counts, start: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = rig.cluster.writes()?.len();
    let called = webhooks(rig)?;
    start()?;
    settled(rig)?;
    let writes = rig.cluster.writes()?;
    let (events, others): (Vec<_>, Vec<_>) =
        writes[before..].iter().partition(|write| write.is_event());
    counts.events.push(events.len() as f64);
    counts.writes.push(others.len() as f64);
    counts.webhooks.push(webhooks(rig)? - called);
    Ok(())
}

/// Waits until nothing is written any more.
fn settled(rig: &Rig<'_>) -> Result<()> {
    let mut last = (rig.cluster.writes()?.len(), Instant::now());
    wait::every(LOOK, "all is written", LONGEST, || {
        let now = rig.cluster.writes()?.len();
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok((last.1.elapsed() >= QUIET).then_some(()))
    })
}

/// Calls of admission webhooks so far, by the API server's own count.
fn webhooks(rig: &Rig<'_>) -> Result<f64> {
    let page = rig.request("GET", "/metrics", "")?;
    Ok(page
        .lines()
        .filter(|line| line.starts_with("apiserver_admission_webhook_request_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
