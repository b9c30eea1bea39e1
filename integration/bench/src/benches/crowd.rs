//! Many machines at once, from `apply` to each one's marker; then as many raw QEMUs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::BOOT;
use crate::node::{Node, Setting};
use crate::raw::Recipe;
use crate::table::Row;
use crate::{process, say, wait};

/// Looks at all machines this often; small against the seconds that a boot takes.
const STEP: Duration = Duration::from_millis(20);
/// Longest that a crowd may take to boot: three minutes for twenty on two emulating cores.
const LIMIT: Duration = Duration::from_secs(900);

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

    let names: Vec<String> = (0..count).map(|n| format!("crowd-{n}")).collect();
    say(&format!("{count} machines at once"));
    let started = Instant::now();
    node.apply(&names)?;
    let ours = markers(started, count, |number| Ok(node.marker(&names[number])))?;
    let missing = ours.iter().filter(|marker| marker.is_none()).count();
    ensure!(missing == 0, "{missing} of {count} machines did not boot");
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
    let floor = markers(started, count, |number| {
        Ok(raws[number].marker()?.is_some())
    })?;
    // That is QEMU's own doing, and the others are a floor all the same.
    let missing = floor.iter().filter(|marker| marker.is_none()).count();
    if missing > 0 {
        say(&format!("{missing} of {count} raw QEMUs did not boot"));
    }

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

/// Looks for markers until all are there or time is up; when each came.
fn markers(
    started: Instant,
    count: usize,
    mut has_come: impl FnMut(usize) -> Result<bool>,
) -> Result<Vec<Option<Duration>>> {
    let mut found = vec![None; count];
    wait::every(STEP, "markers", LIMIT + BOOT, || {
        for (number, marker) in found.iter_mut().enumerate() {
            if marker.is_none() && has_come(number)? {
                *marker = Some(started.elapsed());
            }
        }
        let over = started.elapsed() > LIMIT;
        Ok((over || found.iter().all(Option::is_some)).then_some(()))
    })?;
    Ok(found)
}
