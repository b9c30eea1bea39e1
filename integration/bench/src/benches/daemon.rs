//! What the daemon itself uses: with nothing to do, with 20 machines that boot for real, with 100 pretended ones.
//!
//! The samples of one figure are readings of one daemon, a second apart.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{BOOT, Sleeper, mib};
use crate::node::{Node, Setting};
use crate::process::{self, Pid};
use crate::stats::Samples;
use crate::table::{Aim, Row};
use crate::{say, wait};

const REAL: usize = 20;
const FAKE: usize = 100;

/// Measures the daemon in three sizes, and hands each figure to `print`.
pub(crate) fn run(
    setting: &Setting,
    samples: usize,
    print: fn(&[Row]) -> Result<()>,
) -> Result<()> {
    let sleeper = Sleeper::start()?;
    let floor: Samples = (0..samples).map(|_| sleeper.pss()).collect::<Result<_>>()?;
    let row = |name: String, readings: Samples, aim| {
        let name = format!("{name} (floor: sleep)");
        Row::median(&name, "MiB", floor.clone(), readings, aim)
    };

    say("daemon without machines");
    let node = Node::start(setting, true)?;
    let idle = readings(&node, samples)?;
    print(&[row(
        "daemon, 0 VMs, PSS".to_owned(),
        idle,
        Some(Aim::Value(20.0)),
    )])?;

    say(&format!("daemon with {FAKE} pretended machines"));
    let names: Vec<String> = (0..FAKE).map(|n| format!("fake-{n}")).collect();
    node.apply(&names)?;
    node.wait_all_running(FAKE)?;
    let many = readings(&node, samples)?;
    print(&[row(format!("daemon, {FAKE} fake VMs, PSS"), many, None)])?;
    drop(node);

    say(&format!("daemon with {REAL} machines"));
    let node = Node::start(setting, false)?;
    let names: Vec<String> = (0..REAL).map(|n| format!("real-{n}")).collect();
    node.apply(&names)?;
    for name in &names {
        node.wait_marker(name, BOOT * 4)?;
    }
    let some = readings(&node, samples)?;
    print(&[row(format!("daemon, {REAL} VMs, PSS"), some, None)])
}

/// Reads the memory of the daemon and its own helpers, without what it only looks after: machines and the container runtime.
fn readings(node: &Node, samples: usize) -> Result<Samples> {
    // What the work so far has left behind is given back within some seconds.
    let mut readings = Vec::new();
    wait::every(
        Duration::from_secs(1),
        "readings",
        Duration::from_secs(60 + samples as u64 * 3),
        || {
            readings.push(mib(own(node.pid()?)?));
            Ok((readings.len() >= samples + 5).then_some(()))
        },
    )?;
    Ok(readings.into_iter().skip(5).collect())
}

/// PSS of a daemon and of those of its children which are the same program (image and DNS workers).
fn own(daemon: Pid) -> Result<u64> {
    let name = process::name(daemon).context("the daemon is gone")?;
    let family = process::family(daemon)
        .into_iter()
        .filter(|pid| process::name(*pid).is_some_and(|other| other == name));
    // A child may end between the two looks.
    Ok(process::pss(daemon)?
        + family
            .filter(|pid| *pid != daemon)
            .filter_map(|pid| process::pss(pid).ok())
            .sum::<u64>())
}
