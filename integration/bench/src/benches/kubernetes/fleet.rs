//! Thousands of machines on pretended nodes: how long it takes until they run, what the controller holds and does then, what is asked of the API server.
//!
//! The pods are moved by kwok and the machines by daemons that are pretended too; controller, API server, etcd and scheduler are real, and share this
//! machine with all that.

mod crowd;
mod daemons;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use catamaran_tests::cluster::Cluster;
use catamaran_tests::cluster::audit::Write;
use catamaran_tests::command;
use serde_json::{Value, json};

use self::crowd::Crowd;
use self::daemons::{Daemons, Pattern};
use super::processes::{self, OfPod};
use super::{Rig, is_ready};
use crate::benches::{Sleeper, mib};
use crate::process;
use crate::stats::Samples;
use crate::table::Row;
use crate::{say, wait};

/// Pods that a pretended node takes.
const ROOM: usize = 110;
/// Sizes of the fleet before its full one.
const SIZES: [usize; 2] = [1, 100];
/// Readings of one figure, a second apart.
const READINGS: usize = 10;
/// Readings before them, which count for nothing: what work has left behind is given back within some seconds.
const BEFORE: usize = 5;
/// How long machines are watched that only are.
const REST: Duration = Duration::from_secs(60);
/// Label of a namespace that is for this bench.
const LABEL: &str = "catamaran.dev/bench=fleet";
/// Longest that a killed run's machines take to go.
const LONGEST: Duration = Duration::from_secs(1800);

const MACHINES: Crowd = Crowd {
    kind: "virtualmachines",
    prefix: "m",
    object: machine,
    is_there: |machine| machine.pointer("/status/ready") == Some(&Value::Bool(true)),
};

const PODS: Crowd = Crowd {
    kind: "pods",
    prefix: "p",
    object: pod,
    is_there: is_ready,
};

/// Nodes without a machine; they go with the value.
struct Pretended<'a>(&'a Cluster);

impl<'a> Pretended<'a> {
    fn start(cluster: &'a Cluster, nodes: usize) -> Result<Self> {
        let pretended = Self(cluster);
        command::stdout(&mut cluster.command(["pretend", &nodes.to_string()]))?;
        Ok(pretended)
    }
}

impl Drop for Pretended<'_> {
    fn drop(&mut self) {
        let _ = command::stdout(&mut self.0.command(["pretend", "off"]));
    }
}

/// Measures one machine, a hundred and so many.
pub(super) fn run(rig: &Rig<'_>, machines: usize) -> Result<Vec<Row>> {
    forget_earlier(rig)?;
    let namespace = rig.cluster.namespace();
    rig.cluster
        .kubectl(["label", "namespace", namespace, LABEL])?;
    let pattern = Pattern::take(rig)?;
    let nodes = machines.div_ceil(ROOM);
    let pretended = Pretended::start(rig.cluster, nodes)?;
    let names: Vec<String> = (1..=nodes).map(|n| format!("pretended{n}")).collect();
    let daemons = Daemons::start(rig, &names, pattern)?;
    let bench = Bench {
        rig,
        floor: Sleeper::start()?,
        leader: processes::controllers(rig)?.0,
        rows: Vec::new(),
    };
    let rows = bench.run(machines)?;
    daemons.end()?;
    drop(pretended);
    Ok(rows)
}

/// Takes away what a killed run has left: the nodes first, so that their pods go with them.
fn forget_earlier(rig: &Rig<'_>) -> Result<()> {
    command::stdout(&mut rig.cluster.command(["pretend", "off"]))?;
    let delete = ["delete", "namespace", "--selector", LABEL, "--wait=false"];
    rig.cluster.kubectl(delete)?;
    wait::every(REST / 60, "end of an earlier run", LONGEST, || {
        let left = ["get", "namespace", "--selector", LABEL, "-o", "name"];
        Ok(rig.cluster.kubectl(left)?.is_empty().then_some(()))
    })
}

struct Bench<'a> {
    rig: &'a Rig<'a>,
    floor: Sleeper,
    leader: OfPod,
    rows: Vec<Row>,
}

impl Bench<'_> {
    fn run(mut self, machines: usize) -> Result<Vec<Row>> {
        say(&format!("{machines} pods, the floor"));
        let pods = PODS.make(self.rig, 0..machines)?;
        say(&format!("all are ready after {:.0} s", pods.max()));
        let took = PODS.remove(self.rig, 0..machines)?;
        say(&format!("all are gone {:.0} s later", took.as_secs_f64()));

        self.held("no machines")?;
        let mut there = 0;
        for size in SIZES.into_iter().filter(|size| *size < machines) {
            MACHINES.make(self.rig, there..size)?;
            there = size;
            self.held(&format!("{size} machines"))?;
        }
        let begun = self.begin()?;
        say(&format!("{} machines more", machines - there));
        let times = MACHINES.make(self.rig, there..machines)?;
        let more = machines - there;
        self.tell_of(&format!("{more} starts"), more, &begun)?;
        self.rows.push(Row::median(
            &format!("{more} at once, one is Running and ready (floor: {machines} pods at once, one is ready)"),
            "s",
            pods,
            times,
            None,
        ));
        self.held(&format!("{machines} machines"))?;
        self.rest(machines)?;

        let begun = self.begin()?;
        say(&format!("{machines} machines are deleted"));
        let took = MACHINES.remove(self.rig, 0..machines)?;
        say(&format!("all are gone after {:.0} s", took.as_secs_f64()));
        // A pod may go after its machine, and needs its node for that.
        PODS.remove(self.rig, 0..0)?;
        self.tell_of(&format!("{machines} deletions"), machines, &begun)?;
        self.held(&format!("no machines, {machines} deleted"))?;
        Ok(self.rows)
    }

    /// Reads the memory of the controller that leads.
    fn held(&mut self, what: &str) -> Result<()> {
        let (leader, others) = processes::controllers(self.rig)?;
        ensure!(
            leader == self.leader,
            "{} led when it began, and now {}",
            self.leader.pod,
            leader.pod
        );
        let (mut rss, mut pss, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        let longest = Duration::from_secs(300);
        wait::every(Duration::from_secs(1), "readings", longest, || {
            rss.push(mib(process::rss(leader.pid)?));
            pss.push(mib(process::pss(leader.pid)?));
            floor.push((self.floor.rss()?, self.floor.pss()?));
            Ok((rss.len() == BEFORE + READINGS).then_some(()))
        })?;
        for other in others {
            say(&format!(
                "{what}: a controller that does not lead has {:.1} MiB resident",
                mib(process::rss(other.pid)?)
            ));
        }
        let read = |values: Vec<f64>| values.into_iter().skip(BEFORE).collect::<Samples>();
        let (floor_rss, floor_pss) = floor.into_iter().unzip();
        let most = mib(process::most_rss(leader.pid)?);
        say(&format!(
            "{what}: the controller that leads has {:.1} MiB resident, and had {most:.1} MiB at most",
            rss.last().copied().unwrap_or_default()
        ));
        for (name, floor, ours) in [("RSS", floor_rss, rss), ("PSS", floor_pss, pss)] {
            let name = format!("controller that leads, {what}, {name} (floor: sleep)");
            let row = Row::median(&name, "MiB", read(floor), read(ours), None);
            self.rows.push(row);
        }
        Ok(())
    }

    fn begin(&self) -> Result<Begun> {
        Ok(Begun {
            at: Instant::now(),
            cpu: process::cpu_seconds(self.leader.pid)?,
            writes: self.rig.cluster.writes()?.len(),
        })
    }

    /// Says what came of it since.
    fn tell_of(&self, what: &str, count: usize, begun: &Begun) -> Result<()> {
        let seconds = begun.at.elapsed().as_secs_f64();
        let cpu = process::cpu_seconds(self.leader.pid)? - begun.cpu;
        let writes = self.rig.cluster.writes()?;
        let new = writes.get(begun.writes..).unwrap_or_default();
        let of = |wanted: fn(&Write) -> bool| {
            new.iter().filter(|write| wanted(write)).count() as f64 / count as f64
        };
        say(&format!(
            "{what} in {seconds:.0} s: the leader took {cpu:.1} s of processor ({:.1} ms each); each cost {:.2} writes by anybody, {:.2} of them ours, \
             and {:.2} events, {:.2} of them ours",
            cpu * 1000.0 / count as f64,
            of(|write| !write.is_event()),
            of(|write| !write.is_event() && write.is_ours()),
            of(Write::is_event),
            of(|write| write.is_event() && write.is_ours()),
        ));
        Ok(())
    }

    /// What is done about machines that only run.
    fn rest(&self, machines: usize) -> Result<()> {
        let writes = self.rig.cluster.writes()?.len();
        let cpu = process::cpu_seconds(self.leader.pid)?;
        let begin = Instant::now();
        wait::every(Duration::from_secs(1), "end of the rest", REST * 2, || {
            Ok((begin.elapsed() >= REST).then_some(()))
        })?;
        let cpu = process::cpu_seconds(self.leader.pid)? - cpu;
        let written = self.rig.cluster.writes()?;
        let new = written.get(writes..).context("the log was cut")?;
        let ours = new.iter().filter(|write| write.is_ours()).count();
        say(&format!(
            "{} s with {machines} machines that only run: the leader took {cpu:.2} s of processor; {ours} writes about machines are ours",
            REST.as_secs()
        ));
        Ok(())
    }
}

/// Where something began.
struct Begun {
    at: Instant,
    cpu: f64,
    writes: usize,
}

/// What sends a pod to a pretended node.
fn to_pretended(spec: &mut Value) {
    spec["nodeSelector"] = json!({"catamaran.dev/pretended": "true"});
    spec["tolerations"] = json!([{"key": "catamaran.dev/pretended", "operator": "Exists"}]);
}

fn machine(name: &str) -> Value {
    let mut machine = super::machine(name);
    to_pretended(&mut machine["spec"]["template"]["spec"]);
    machine
}

fn pod(name: &str) -> Value {
    let mut pod = super::pod(name);
    to_pretended(&mut pod["spec"]);
    pod
}
