//! Everything that can be killed is killed while machines come and go; in the end all is as it was asked for.
//!
//! `CATAMARAN_CHAOS` is the number of kills, `CATAMARAN_SEED` what they are drawn from. Both are printed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::{self, Cluster};
use catamaran_tests::{BOOT, wait::Seen, wait_for};
use fastrand::Rng;
use serde_json::Value;

/// Kills of a run of CI.
const KILLS: u64 = 8;
/// Until everything is as it was asked for after the last kill. A node that missed a word of the API server's hears it within its back-off.
const DEADLINE: Duration = Duration::from_secs(240);
/// Machines that come and go.
const RESTLESS: [&str; 2] = ["swing", "phoenix"];

fn machine(name: &str, strategy: &str) -> Value {
    let mut machine = cluster::machine(name);
    machine["spec"]["runStrategy"] = strategy.into();
    let spec = &mut machine["spec"]["template"]["spec"];
    spec["terminationGracePeriodSeconds"] = 1.into();
    machine
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(default),
    }
}

/// Kills one of what there is; what is not there now can't be killed.
fn kill(cluster: &Cluster, random: &mut Rng) -> Result<&'static str> {
    let node = random.u8(1..=cluster.nodes());
    let on_node = |program: &str| {
        let line = format!("kill -9 $(pidof {program}) 2>/dev/null || true");
        cluster.on_node(node, &["sh", "-c", &line]).map(drop)
    };
    match random.u8(0..4) {
        0 => on_node("catamaran-controller").map(|()| "controllers of a node"),
        1 => on_node("catamaran").map(|()| "daemon"),
        2 => on_node("catamaran-launcher").map(|()| "launchers of a node"),
        _ => cluster.kill_api_server().map(|()| "API server"),
    }
}

/// Until the API server has taken it: after a kill it, or a webhook, may not answer for a while.
fn insist(ask: impl Fn() -> Result<String>) -> Result<()> {
    wait_for("the API server takes it", DEADLINE, || {
        Ok(match ask() {
            Ok(_) => Seen::Yes(()),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
}

/// Asks for something else of a machine that comes and goes: another strategy, or to be made anew.
fn disturb(cluster: &Cluster, random: &mut Rng) -> Result<(&'static str, &'static str)> {
    let name = RESTLESS[random.usize(0..RESTLESS.len())];
    let strategy = ["Always", "Halted"][random.usize(0..2)];
    if random.bool() {
        cluster.kubectl(["delete", "vm", name, "--ignore-not-found", "--wait=false"])?;
        return Ok((name, "deleted"));
    }
    // One that is being deleted takes the strategy with it.
    insist(|| cluster.apply(&[&machine(name, strategy)]))?;
    Ok((name, strategy))
}

/// What is not as it should be.
fn amiss(cluster: &Cluster, wanted: &[(&str, bool)]) -> Result<Vec<String>> {
    let mut amiss = Vec::new();
    for (name, runs) in wanted {
        let machine = cluster.get(&format!("vm/{name}"))?;
        let status = &machine["status"]["printableStatus"];
        let expected = if *runs { "Running" } else { "Stopped" };
        let pods = cluster.list("pod", &format!("vm.kubevirt.io/name={name}"))?;
        if *status != expected || pods.len() != usize::from(*runs) {
            amiss.push(format!(
                "{name} is {status}, not {expected}, and has {} pods",
                pods.len()
            ));
        }
    }
    Ok(amiss)
}

#[test]
fn whatever_is_killed_machines_end_up_as_they_were_asked_for() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let (seed, kills) = (
        number("CATAMARAN_SEED", now)?,
        number("CATAMARAN_CHAOS", KILLS)?,
    );
    eprintln!(
        "CATAMARAN_SEED={seed} CATAMARAN_CHAOS={kills} deadline {} s",
        DEADLINE.as_secs()
    );
    let mut random = Rng::with_seed(seed);
    cluster::run(2, |cluster| {
        cluster.apply(&[&machine("steady", "Always")])?;
        cluster.wait_field("vmi/steady", "/status/phase", "Running", BOOT)?;
        let boot = cluster.boot_id("steady")?;
        for round in 1..=kills {
            let (name, asked) = disturb(cluster, &mut random)?;
            let killed = kill(cluster, &mut random)?;
            eprintln!("{round}: {name} {asked}; killed: {killed}");
        }
        // The last word on each; one that is on its way out has to be gone first.
        let wanted = [
            ("steady", true),
            (RESTLESS[0], random.bool()),
            (RESTLESS[1], true),
        ];
        for (name, runs) in &wanted[1..] {
            let object = machine(name, if *runs { "Always" } else { "Halted" });
            insist(|| {
                let words = ["get", "vm", name, "--ignore-not-found", "-o", "json"];
                let old = serde_json::from_str(&cluster.kubectl(words)?).unwrap_or(Value::Null);
                let going = old["metadata"]["deletionTimestamp"].is_string();
                ensure!(!going, "it is still being deleted: {}", old["status"]);
                cluster.apply(&[&object])
            })?;
        }
        wait_for("all is as it was asked for", DEADLINE, || {
            let amiss = amiss(cluster, &wanted).unwrap_or_else(|error| vec![format!("{error:#}")]);
            Ok(Seen::when(amiss.is_empty(), amiss.join("; ")))
        })?;
        ensure!(
            cluster.boot_id("steady")? == boot,
            "a guest that nobody touched was booted again"
        );
        Ok(())
    })
}
