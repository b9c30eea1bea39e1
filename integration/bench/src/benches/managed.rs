//! A thousand mocked BMCs as `BareMetalHost`s of the real controller: from its start until all are available, with inventories.
//!
//! The API server is the integration cluster's, alone with its etcd; all share this machine. The floor is the same work by the client alone,
//! without a cluster: found, logged in to, identified and inspected.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::api_server::{ApiServer, Controller};
use catamaran_tests::cluster::SYSTEM;
use serde_json::{Value, json};

use super::hosts::{self, Mocks, milliseconds};
use super::mib;
use crate::stats::Samples;
use crate::table::Row;
use crate::{process, say, wait};

/// Longest that anything here may take.
const LONGEST: Duration = Duration::from_secs(1800);
/// Pause between two looks at the controller's metrics.
const LOOK: Duration = Duration::from_millis(500);
/// How long hosts are watched that only are.
const IDLE: Duration = Duration::from_secs(120);

/// The value of a metric of the controller's, over all its labels that have this text.
fn metric(controller: &mut Controller, name: &str, labels: &str) -> Result<f64> {
    controller.pid()?;
    let Ok(text) = hosts::get(controller.health(), "/metrics") else {
        // It does not listen yet.
        return Ok(0.0);
    };
    let lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(labels));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}

/// Measures hosts with one BMC each.
pub(crate) fn run(programs: &Path, count: usize) -> Result<Vec<Row>> {
    let floor = hosts::alone(programs, count)?;
    let mocks = Mocks::start(programs, count)?;
    let server = ApiServer::start()?;
    let objects = server.folder().join("hosts.json");
    serde_json::to_writer(File::create(&objects)?, &list(&mocks))?;
    say(&format!("{count} hosts and Secrets are made"));
    server.kubectl(&["create", "--filename", &objects.display().to_string()])?;

    say("the controller starts");
    let begin = Instant::now();
    let mut controller = server.controller(programs)?;
    let times = available(&mut controller, count, begin)?;
    let whole = begin.elapsed();
    let pid = controller.pid()?;
    let (rss, most) = (mib(process::rss(pid)?), mib(process::most_rss(pid)?));
    let cpu = process::cpu_seconds(pid)?;
    let requests = mocks.requests()?;
    let made = Samples::new(requests.iter().map(|count| *count as f64).collect());
    say(&format!(
        "{count} hosts available {:.1} s after the controller's start, {:.1} ms a host; {:.0} requests a host (median; most {:.0}); \
         controller: {rss:.1} MiB resident, {most:.1} MiB at most, {cpu:.1} s of processor",
        whole.as_secs_f64(),
        whole.as_secs_f64() * 1000.0 / count as f64,
        made.median(),
        made.max(),
    ));
    check(&server, count)?;

    say(&format!(
        "{} s in which nothing is to be done",
        IDLE.as_secs()
    ));
    let before = (mocks.requests()?, process::cpu_seconds(pid)?);
    let begin = Instant::now();
    wait::every(LOOK, "end of the pause", IDLE * 2, || {
        Ok((begin.elapsed() >= IDLE).then_some(()))
    })?;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    let more: u64 = mocks.requests()?.iter().sum::<u64>() - before.0.iter().sum::<u64>();
    let cpu = process::cpu_seconds(pid)? - before.1;
    say(&format!(
        "idle: {:.1} requests a host and minute, {:.1} s of processor a minute; controller: {:.1} MiB resident",
        more as f64 / count as f64 / minutes,
        cpu / minutes,
        mib(process::rss(pid)?),
    ));
    Ok(vec![Row::median(
        &format!(
            "a host available, of {count}, from the controller's start (floor: registered and inspected by the client alone, from its start)"
        ),
        "ms",
        floor,
        Samples::new(times),
        None,
    )])
}

/// Waits until the controller answers.
pub(super) fn is_up(controller: &mut Controller) -> Result<()> {
    wait::every(LOOK, "answer of the controller", LONGEST, || {
        controller.pid()?;
        Ok(hosts::get(controller.health(), "/metrics").ok().map(drop))
    })
}

/// When each of so many hosts was available, in ms from the beginning.
pub(super) fn available(
    controller: &mut Controller,
    count: usize,
    begin: Instant,
) -> Result<Vec<f64>> {
    let (mut times, mut told) = (Vec::new(), 0);
    wait::every(LOOK, "available hosts", LONGEST, || {
        let changes = "metal3_provisioning_state_change_total";
        let available = metric(controller, changes, "new_state=\"available\"")? as usize;
        times.resize(available.min(count), milliseconds(begin.elapsed()));
        if available >= told + count.div_ceil(10) {
            told = available;
            say(&format!(
                "{available} available after {:.1} s",
                begin.elapsed().as_secs_f64()
            ));
        }
        Ok((available >= count).then_some(()))
    })?;
    Ok(times)
}

/// All hosts are what they should be, each with an inventory.
pub(super) fn check(server: &ApiServer, count: usize) -> Result<()> {
    let words = ["get", "--namespace", SYSTEM, "--output", "json"];
    let found: Value =
        serde_json::from_str(&server.kubectl(&[&words[..], &["baremetalhosts"]].concat())?)?;
    let hosts = found["items"].as_array().context("no hosts")?;
    for host in hosts {
        let status = &host["status"];
        ensure!(status["operationalStatus"] == "OK", "{host}");
        ensure!(host["spec"]["bootMACAddress"].is_string(), "{host}");
        ensure!(
            status["hardware"]["nics"]
                .as_array()
                .is_some_and(|nics| nics.len() == 2),
            "{host}"
        );
    }
    let data = server.kubectl(&[
        "get",
        "--namespace",
        SYSTEM,
        "--output",
        "name",
        "hardwaredata",
    ])?;
    ensure!(
        hosts.len() == count && data.lines().count() == count,
        "{} hosts, {} inventories",
        hosts.len(),
        data.lines().count()
    );
    Ok(())
}

/// A host and a Secret for each BMC.
pub(super) fn list(mocks: &Mocks) -> Value {
    let items = mocks.urls.iter().enumerate().flat_map(|(number, url)| {
        let (name, secret) = (format!("host{number}"), format!("host{number}-bmc"));
        let address = url.replacen("http", "redfish-virtualmedia+http", 1);
        [
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": SYSTEM},
                "stringData": {"username": "admin", "password": "password"},
            }),
            json!({
                "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": {"name": name, "namespace": SYSTEM},
                "spec": {"online": false, "bmc": {"address": address, "credentialsName": secret}},
            }),
        ]
    });
    json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()})
}
