//! The web console: how long a serial console takes from the click, and what open consoles take of the controller's memory.

use std::io::Read as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::browser::Browser;
use catamaran_tests::cluster::machine;
use serde_json::{Value, json};

use super::{LONGEST, LOOK, Rig, processes, runs};
use crate::benches::mib;
use crate::process;
use crate::stats::Samples;
use crate::table::Row;
use crate::{say, wait};

/// The machine whose console is looked at.
const MACHINE: &str = "web";
/// Consoles that are open at once.
const CONSOLES: usize = 50;
/// Web sessions that have them: one has at most 16.
const SESSIONS: usize = 4;
/// What the browser's test puts before its figures.
const FIGURES: &str = "figures ";

/// Measures clicks as often as the browser's test has them, and memory that often.
pub(super) fn run(rig: &Rig<'_>, samples: usize) -> Result<Vec<Row>> {
    rig.create("virtualmachines", &machine(MACHINE))?;
    rig.follow("virtualmachineinstances", MACHINE)?
        .until("it runs", LONGEST, |_, instance| runs(instance))?;
    // Its guest has said something.
    rig.cluster.shell(MACHINE)?;
    let mut rows = clicks(rig)?;
    rows.extend(memory(rig, samples)?);
    Ok(rows)
}

/// From the click to the first byte in Chromium, beside the same stream from the API server to a program.
fn clicks(rig: &Rig<'_>) -> Result<Vec<Row>> {
    let said = rig
        .cluster
        .pages("figures", &[("operator", "edit", true)])?;
    let line = said.lines().find_map(|line| line.strip_prefix(FIGURES));
    let line = line.with_context(|| format!("no {FIGURES:?} in {said}"))?;
    let mut waited: Vec<f64> = serde_json::from_str(line)?;
    ensure!(!waited.is_empty(), "no clicks");
    say(&format!(
        "the first click, which loads the terminal too: {:.0} ms",
        waited.remove(0)
    ));
    let path = rig.cluster.subresource(MACHINE, "console");
    let mut floor = Vec::new();
    for _ in 0..waited.len() {
        let begun = Instant::now();
        let (mut output, _input) = rig.proxy.stream(&format!("{path}?replay=true"))?;
        output.read_exact(&mut [0])?;
        floor.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    let (floor, ours) = (Samples::new(floor), Samples::new(waited));
    let name = "click to the first byte of a serial console (floor: a program's stream)";
    Ok([0.5, 0.95]
        .map(|percentile| Row {
            percentile,
            ..Row::median(name, "ms", floor.clone(), ours.clone(), None)
        })
        .into())
}

/// Memory of the controller's replicas together, with no console and with many.
fn memory(rig: &Rig<'_>, samples: usize) -> Result<Vec<Row>> {
    let token = rig.cluster.user("watcher", "edit", false)?;
    let pod = rig.cluster.controllers()?.pop().context("no controller")?;
    let mut browsers = Vec::new();
    for _ in 0..SESSIONS {
        let mut browser = rig.cluster.browser(&pod)?;
        browser.login(&token)?;
        browsers.push(browser);
    }
    let look = |count: usize| {
        wait::every(LOOK, "consoles are counted", LONGEST, || {
            let path = format!("machines/{}/{MACHINE}/viewers", rig.cluster.namespace());
            let seen = browsers[0].expect("GET", &path, &Value::Null, 200)?;
            Ok((seen.as_array().map_or(0, Vec::len) == count).then_some(()))
        })
    };
    let (mut none, mut many) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..samples {
        say(&format!("round {} of {samples}", round + 1));
        look(0)?;
        take(rig, &mut none)?;
        let open = (0..CONSOLES)
            .map(|number| open(rig, &browsers[number % SESSIONS]))
            .collect::<Result<Vec<_>>>()?;
        look(CONSOLES)?;
        take(rig, &mut many)?;
        drop(open);
    }
    let rows = ["RSS", "PSS"].into_iter().zip(none).zip(many);
    Ok(rows
        .map(|((what, none), many)| {
            let name = format!("{what} of the controllers with {CONSOLES} consoles (floor: none)");
            Row::median(&name, "MiB", Samples::new(none), Samples::new(many), None)
        })
        .collect())
}

/// A console that stays open with the value.
fn open(rig: &Rig<'_>, browser: &Browser) -> Result<impl Sized + use<>> {
    let wish = json!({"stream": "console"});
    let ticket = browser.ticket(rig.cluster.namespace(), MACHINE, &wish)?;
    browser.stream(&ticket)
}

/// Adds RSS and PSS of all controllers, MiB.
fn take(rig: &Rig<'_>, [rss, pss]: &mut [Vec<f64>; 2]) -> Result<()> {
    let (leader, others) = processes::controllers(rig)?;
    let all: Vec<_> = others.iter().chain([&leader]).collect();
    let sum = |of: fn(process::Pid) -> Result<u64>| {
        let all = all.iter().map(|one| of(one.pid));
        anyhow::Ok(mib(all.sum::<Result<u64>>()?))
    };
    rss.push(sum(process::rss)?);
    pss.push(sum(process::pss)?);
    Ok(())
}
