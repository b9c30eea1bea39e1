//! Many machines at once, from `apply` to each one's marker; then as many raw QEMUs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::BOOT;
use crate::node::{Node, Setting};
use crate::raw::{Raw, Recipe};
use crate::table::Row;
use crate::{process, say, wait};

/// Looks at all machines this often; small against the seconds that a boot takes.
const STEP: Duration = Duration::from_millis(20);

/// Starts `count` machines at once.
pub(crate) fn run(setting: &Setting, count: usize) -> Result<Vec<Row>> {
    let node = Node::start(setting, false)?;
    let disks = tempfile::tempdir()?;
    say("warming up");
    node.apply(&["warm".to_owned()])?;
    node.wait_marker("warm", BOOT)?;
    let qemu = process::one_in_sandbox(&node.run_folder("warm"), "qemu-system")
        .context("the QEMU of the first machine")?;
    let recipe = Recipe::of("warm", qemu, disks.path())?;
    node.delete("warm")?;

    let limit = BOOT * u32::try_from(count)?;
    let names: Vec<String> = (0..count).map(|n| format!("crowd-{n}")).collect();
    say(&format!("{count} machines at once"));
    let started = Instant::now();
    node.apply(&names)?;
    let mut ours = vec![None; count];
    wait::every(STEP, "markers of all machines", limit, || {
        for (name, marker) in names
            .iter()
            .zip(&mut ours)
            .filter(|(_, marker)| marker.is_none())
        {
            *marker = node.marker(name).then(|| started.elapsed());
        }
        Ok(ours.iter().all(Option::is_some).then_some(()))
    })?;
    drop(node);

    say(&format!("{count} raw QEMUs at once"));
    let folders = tempfile::tempdir()?;
    let started = Instant::now();
    let mut raws = Vec::new();
    for name in &names {
        let folder = folders.path().join(name);
        fs::create_dir(&folder)?;
        raws.push(recipe.start(&folder)?);
    }
    let mut floor = vec![None; count];
    wait::every(STEP, "markers of all raw QEMUs", limit, || {
        for (raw, marker) in raws
            .iter_mut()
            .zip(&mut floor)
            .filter(|(_, marker)| marker.is_none())
        {
            *marker = Raw::marker(raw)?.map(|_| started.elapsed());
        }
        Ok(floor.iter().all(Option::is_some).then_some(()))
    })?;

    let seconds =
        |times: &[Option<Duration>]| times.iter().flatten().map(Duration::as_secs_f64).collect();
    let row = |name: &str, percentile: f64| Row {
        name: format!("{count} at once, apply to marker, {name} (floor: raw)"),
        unit: "s",
        percentile,
        floor: seconds(&floor),
        ours: seconds(&ours),
        aim: None,
    };
    Ok(vec![row("P50", 0.5), row("P95", 0.95)])
}
