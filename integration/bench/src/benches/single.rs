//! One machine after another, each followed by raw QEMU with the same devices: how long they take to run and to boot, and what
//! memory they use. The two take turns, so that a change of the machine's load meets both.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::{BOOT, Sleeper, mib};
use crate::node::{Node, RAM, Setting};
use crate::process;
use crate::raw::Recipe;
use crate::stats::Samples;
use crate::table::{Aim, Row};
use crate::{say, wait};

/// What one pass measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) memory: Vec<Row>,
    pub(crate) start: Vec<Row>,
}

/// One of the two, once.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    running: f64,
    marker: f64,
    qemu: f64,
    launcher: f64,
    init: f64,
}

/// Measures `count` machines and as many raw QEMUs.
pub(crate) fn run(setting: &Setting, count: usize) -> Result<Measured> {
    let node = Node::start(setting, false)?;
    let disks = tempfile::tempdir()?;
    // The first one fills caches (capabilities, image) and is not counted; it also gives the command line.
    say("warming up");
    ours(&node, "warm")?;
    let qemu = process::one_in_sandbox(&node.run_folder("warm"), "qemu-system")
        .context("the QEMU of the first machine")?;
    let recipe = Recipe::of("warm", qemu, disks.path())?;
    node.delete("warm")?;
    raw(&recipe)?;

    let (mut machines, mut raws, mut sleepers) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let name = format!("bench-{n}");
        let machine = ours(&node, &name)?;
        sleepers.push(Sleeper::start()?.pss()?);
        node.delete(&name)?;
        let floor = raw(&recipe)?;
        say(&format!(
            "machine {} of {count}: marker after {:.0} ms, raw {:.0} ms",
            n + 1,
            machine.marker,
            floor.marker
        ));
        machines.push(machine);
        raws.push(floor);
    }
    let of = |samples: &[Sample], what: fn(&Sample) -> f64| {
        samples.iter().map(what).collect::<Samples>()
    };
    let sleep: Samples = sleepers.into_iter().collect();
    let memory = vec![
        Row::median(
            "launcher + init, PSS (floor: sleep)",
            "MiB",
            sleep.clone(),
            of(&machines, |sample| sample.launcher + sample.init),
            Some(Aim::Value(12.0)),
        ),
        Row::median(
            "launcher, PSS (floor: sleep)",
            "MiB",
            sleep.clone(),
            of(&machines, |sample| sample.launcher),
            None,
        ),
        Row::median(
            "init, PSS (floor: sleep)",
            "MiB",
            sleep,
            of(&machines, |sample| sample.init),
            None,
        ),
        Row::median(
            "QEMU without guest RAM, PSS (floor: raw)",
            "MiB",
            of(&raws, |s| s.qemu),
            of(&machines, |s| s.qemu),
            None,
        ),
    ];
    let start = vec![
        Row::median(
            "launcher start to running (floor: raw)",
            "ms",
            of(&raws, |sample| sample.running),
            of(&machines, |sample| sample.running),
            Some(Aim::Value(500.0)),
        ),
        Row::median(
            "launcher start to marker (floor: raw)",
            "ms",
            of(&raws, |sample| sample.marker),
            of(&machines, |sample| sample.marker),
            Some(Aim::Ratio(1.15)),
        ),
    ];
    Ok(Measured { memory, start })
}

/// Starts a machine by the daemon; it runs on.
fn ours(node: &Node, name: &str) -> Result<Sample> {
    node.apply(&[name.to_owned()])?;
    let marker = node.wait_marker(name, BOOT)?;
    let running = node.wait_running(name)?;
    let run = node.run_folder(name);
    let find = |start: &str| {
        process::one_in_sandbox(&run, start).with_context(|| format!("process {start} of {name}"))
    };
    let (launcher, init, qemu) = (
        find("catamaran-launc")?,
        find("catamaran-init")?,
        find("qemu-system")?,
    );
    let started = process::started(launcher)?;
    // The launcher gives memory back a moment after its machine runs: it is measured when it has stopped changing.
    let pss = settled(|| process::pss(launcher))?;
    Ok(Sample {
        running: ms(started, running)?,
        marker: ms(started, marker)?,
        qemu: mib(process::pss_without_ram(qemu, RAM)?),
        launcher: mib(pss),
        init: mib(process::pss(init)?),
    })
}

/// Starts raw QEMU, and ends it.
fn raw(recipe: &Recipe) -> Result<Sample> {
    let folder = tempfile::tempdir()?;
    let mut raw = recipe.start(folder.path())?;
    let running = raw.wait_running()?;
    let marker = raw.wait_marker(BOOT)?;
    let qemu = raw.pid()?;
    settled(|| process::pss(qemu))?;
    let sample = Sample {
        running: running.as_secs_f64() * 1e3,
        marker: marker.as_secs_f64() * 1e3,
        qemu: mib(process::pss_without_ram(qemu, RAM)?),
        ..Sample::default()
    };
    drop(raw);
    fs::remove_dir_all(folder.path()).context("the folder of raw QEMU")?;
    Ok(sample)
}

/// The value once three looks in a row differ by less than 64 KiB, after 10 s at the latest.
fn settled(mut look: impl FnMut() -> Result<u64>) -> Result<u64> {
    let mut last = [0_u64; 3];
    let limit = SystemTime::now() + Duration::from_secs(10);
    wait::every(
        Duration::from_millis(500),
        "memory that stays as it is",
        Duration::from_secs(20),
        || {
            last = [last[1], last[2], look()?];
            let near = last.iter().all(|value| value.abs_diff(last[2]) < 64 << 10);
            Ok((near || SystemTime::now() > limit).then_some(last[2]))
        },
    )
}

fn ms(from: SystemTime, to: SystemTime) -> Result<f64> {
    Ok(to
        .duration_since(from)
        .context("the clock went backwards")?
        .as_secs_f64()
        * 1e3)
}
